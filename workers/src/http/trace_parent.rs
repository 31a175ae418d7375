//! The trace that a request belongs to: the field `traceparent` of W3C Trace Context.

/// The identifier of a trace: 32 lower-case hex digits.
pub type TraceId = [u8; TRACE_DIGITS];

const VERSION_DIGITS: usize = 2;
const TRACE_DIGITS: usize = 32;
const PARENT_DIGITS: usize = 16;
const FLAG_DIGITS: usize = 2;
/// The length of a value of version 00, and the minimum length of one of a later version.
const BYTES: usize = VERSION_DIGITS + TRACE_DIGITS + PARENT_DIGITS + FLAG_DIGITS + 3;

/// Returns the trace of a `traceparent`; `None` if the value is not valid.
///
/// Shape:  `VERSION "-" TRACE-ID "-" PARENT-ID "-" FLAGS`, in lower-case hex digits. No version is `ff`, and neither
///         identifier is zero. A later version than `00` may have more behind another `-`.
/// Source: W3C Trace Context, <https://www.w3.org/TR/trace-context/#traceparent-header>.
pub fn trace_id(value: &[u8]) -> Option<&TraceId> {
    let (known, rest) = value.split_at_checked(BYTES)?;
    let (version, known) = digits(known, VERSION_DIGITS)?;
    let (trace, known) = digits(known.strip_prefix(b"-")?, TRACE_DIGITS)?;
    let (parent, known) = digits(known.strip_prefix(b"-")?, PARENT_DIGITS)?;
    let (_flags, _) = digits(known.strip_prefix(b"-")?, FLAG_DIGITS)?;
    let is_whole = rest.is_empty() || (version != b"00" && rest[0] == b'-');
    let is_valid = version != b"ff" && is_nonzero(trace) && is_nonzero(parent);
    if is_whole && is_valid { trace.try_into().ok() } else { None }
}

/// Returns the trace of a request with these values of `traceparent`. Of several values nobody knows which one is
/// meant.
pub fn trace_of<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a TraceId> {
    let value = values.next()?;
    if values.next().is_some() { None } else { trace_id(value) }
}

/// Splits off so many lower-case hex digits.
fn digits(text: &[u8], count: usize) -> Option<(&[u8], &[u8])> {
    let (digits, rest) = text.split_at_checked(count)?;
    let are_hex = digits.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    are_hex.then_some((digits, rest))
}

fn is_nonzero(digits: &[u8]) -> bool {
    digits.iter().any(|digit| *digit != b'0')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";

    fn read(value: &str) -> Option<&str> {
        trace_id(value.as_bytes()).map(|trace| std::str::from_utf8(trace).unwrap())
    }

    #[test]
    fn the_trace_of_a_valid_field_is_read() {
        for value in [
            format!("00-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-ff"),
            format!("01-{TRACE}-{PARENT}-00"),
            format!("cc-{TRACE}-{PARENT}-00-what-the-future-will-be-like"),
            format!("fe-{TRACE}-{PARENT}-00-"),
        ] {
            assert_eq!(read(&value), Some(TRACE), "{value}");
        }
    }

    #[test]
    fn anything_else_has_no_trace() {
        let (zero, none) = ("0".repeat(32), "0".repeat(16));
        for value in [
            String::new(),
            TRACE.to_owned(),
            format!("ff-{TRACE}-{PARENT}-01"),
            format!("00-{zero}-{PARENT}-01"),
            format!("00-{TRACE}-{none}-01"),
            format!("00-{TRACE}-{PARENT}-01-more"),
            format!("00-{TRACE}-{PARENT}-01-"),
            format!("01-{TRACE}-{PARENT}-01.more"),
            format!("00-{TRACE}-{PARENT}-1"),
            format!("00-{TRACE}-{PARENT}"),
            format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
            format!("00-{TRACE}-{PARENT}-0G"),
            format!("0x-{TRACE}-{PARENT}-01"),
            format!("00_{TRACE}-{PARENT}-01"),
            format!("00-{}g-{PARENT}-01", &TRACE[1..]),
            format!(" 00-{TRACE}-{PARENT}-01"),
            format!("00-{TRACE}-{PARENT}-01 "),
        ] {
            assert_eq!(read(&value), None, "{value}");
        }
    }

    #[test]
    fn several_fields_have_no_trace() {
        let value = format!("00-{TRACE}-{PARENT}-01");
        let value = value.as_bytes();
        assert!(trace_of([value].into_iter()).is_some());
        assert_eq!(trace_of([value, value].into_iter()), None);
        assert_eq!(trace_of(std::iter::empty()), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(value in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(trace) = trace_id(&value) {
                prop_assert!(trace.iter().all(u8::is_ascii_hexdigit));
            }
        }
    }
}
