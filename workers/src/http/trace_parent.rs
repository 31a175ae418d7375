//! The trace that a request belongs to: the field `traceparent` of W3C Trace Context.

use std::num::NonZeroU128;

/// The identifier of a trace: 32 lower-case hex digits.
pub type TraceId = [u8; TRACE_DIGITS];

/// The trace that a request belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace<'a> {
    /// Its identifier.
    pub id: &'a TraceId,
    /// Whether the caller may have recorded it (the flag `sampled`), so that there is something to look up.
    pub is_sampled: bool,
}

impl Trace<'_> {
    /// The trace as a number, if it is sampled.
    pub fn sampled(&self) -> Option<NonZeroU128> {
        if !self.is_sampled {
            return None;
        }
        let digits = std::str::from_utf8(self.id).ok()?;
        u128::from_str_radix(digits, 16).ok().and_then(NonZeroU128::new)
    }
}

const VERSION_DIGITS: usize = 2;
const TRACE_DIGITS: usize = 32;
const PARENT_DIGITS: usize = 16;
const FLAG_DIGITS: usize = 2;
/// The length of a value of version 00, and the minimum length of one of a later version.
const BYTES: usize = VERSION_DIGITS + TRACE_DIGITS + PARENT_DIGITS + FLAG_DIGITS + 3;

/// Reads a `traceparent`; `None` if the value is not valid.
///
/// Shape:  `VERSION "-" TRACE-ID "-" PARENT-ID "-" FLAGS`, in lower-case hex digits. No version is `ff`, and neither
///         identifier is zero. A later version than `00` may have more behind another `-`.
/// Source: W3C Trace Context, <https://www.w3.org/TR/trace-context/#traceparent-header>.
pub fn read(value: &[u8]) -> Option<Trace<'_>> {
    let (known, rest) = value.split_at_checked(BYTES)?;
    let (version, known) = digits(known, VERSION_DIGITS)?;
    let (trace, known) = digits(known.strip_prefix(b"-")?, TRACE_DIGITS)?;
    let (parent, known) = digits(known.strip_prefix(b"-")?, PARENT_DIGITS)?;
    let (flags, _) = digits(known.strip_prefix(b"-")?, FLAG_DIGITS)?;
    let is_whole = rest.is_empty() || (version != b"00" && rest[0] == b'-');
    let is_valid = version != b"ff" && is_nonzero(trace) && is_nonzero(parent);
    if !is_whole || !is_valid {
        return None;
    }
    // The last bit of the last digit: 1, 3, .. 9, b, d, f.
    let is_sampled =
        matches!(flags[FLAG_DIGITS - 1], b'1' | b'3' | b'5' | b'7' | b'9' | b'b' | b'd' | b'f');
    Some(Trace { id: trace.try_into().ok()?, is_sampled })
}

/// Returns the trace of a request with these values of `traceparent`. Of several values nobody knows which one is
/// meant.
pub fn trace_of<'a>(mut values: impl Iterator<Item = &'a [u8]>) -> Option<&'a TraceId> {
    let value = values.next()?;
    if values.next().is_some() { None } else { read(value).map(|trace| trace.id) }
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
        super::read(value.as_bytes()).map(|trace| std::str::from_utf8(trace.id).unwrap())
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
    fn a_sampled_trace_is_a_number() {
        let sampled = |flags: &str| {
            let value = format!("00-{TRACE}-{PARENT}-{flags}");
            super::read(value.as_bytes()).unwrap().sampled()
        };
        let number = NonZeroU128::new(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        for digit in "0123456789abcdef".chars() {
            let flag = digit.to_digit(16).unwrap() % 2;
            assert_eq!(sampled(&format!("0{digit}")), number.filter(|_| flag == 1), "{digit}");
        }
        assert_eq!((sampled("10"), sampled("ff")), (None, number));
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
            if let Some(trace) = super::read(&value) {
                prop_assert!(trace.id.iter().all(u8::is_ascii_hexdigit));
            }
        }
    }
}
