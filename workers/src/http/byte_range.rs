//! The `Range` field of a request (RFC 9110 §14.1.2, §14.2): which parts of a representation a client wants.
//!
//! A server may ignore the field, so anything malformed gets the whole representation. What one request can ask for
//! is bounded: more than [`RANGE_COUNT`] ranges are ignored, and ranges that overlap or touch become one, so no byte
//! is ever sent twice.

use crate::http::byte_class;

/// Maximum number of ranges in one request; more are ignored, and the response is the whole representation.
pub const RANGE_COUNT: usize = 32;

/// A part of a representation that is not empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The offset of the first byte.
    pub offset: u64,
    /// The number of bytes; never 0.
    pub length: u64,
}

/// The parts of a representation that a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Everything, with a 200: the field is malformed, of another unit, or asks for too many parts.
    Whole,
    /// These parts, with a 206: at least one, in the order of the request, and none overlaps or touches another.
    Parts(Vec<ByteRange>),
    /// Nothing, with a 416: no range has a byte in the representation.
    Unsatisfiable,
}

impl Selection {
    /// Reads the value of `Range` for a representation of `size` bytes.
    ///
    /// Shape:  `bytes=` and a list of `FIRST-`, `FIRST-LAST` and `-LENGTH`; empty list elements mean nothing.
    /// Errors: none; a malformed value is [`Selection::Whole`]. So is any range of an empty representation: some
    ///         clients send `Range: bytes=0-` with every request, and 416 would be a failure to them.
    pub fn of(value: &[u8], size: u64) -> Self {
        const UNIT: &[u8] = b"bytes=";
        let Some((unit, list)) = value.split_at_checked(UNIT.len()) else { return Self::Whole };
        if !unit.eq_ignore_ascii_case(UNIT) || size == 0 {
            return Self::Whole;
        }
        let mut parts = Vec::new();
        let mut count = 0;
        let elements = list.split(|&byte| byte == b',').map(byte_class::trim);
        for element in elements.filter(|element| !element.is_empty()) {
            count += 1;
            match Requested::of(element).map(|requested| requested.within(size)) {
                Some(part) if count <= RANGE_COUNT => parts.extend(part),
                Some(_) | None => return Self::Whole,
            }
        }
        match (count, parts.is_empty()) {
            (0, _) => Self::Whole,
            (_, true) => Self::Unsatisfiable,
            (_, false) => Self::Parts(coalesced(parts)),
        }
    }
}

/// One element of the field, before the size is known.
enum Requested {
    /// `FIRST-LAST`, or `FIRST-` up to the end.
    From { first: u64, last: u64 },
    /// `-LENGTH`: the last bytes.
    Last { length: u64 },
}

impl Requested {
    fn of(element: &[u8]) -> Option<Self> {
        let dash = memchr::memchr(b'-', element)?;
        let (first, last) = (&element[..dash], &element[dash + 1..]);
        if first.is_empty() {
            return Some(Self::Last { length: position(last)? });
        }
        let first = position(first)?;
        let last = if last.is_empty() { u64::MAX } else { position(last)? };
        (first <= last).then_some(Self::From { first, last })
    }

    /// The bytes of a representation that are meant; `None` if there are none.
    fn within(&self, size: u64) -> Option<ByteRange> {
        let (offset, end) = match *self {
            Self::From { first, last } => (first, last.saturating_add(1).min(size)),
            Self::Last { length } => (size.saturating_sub(length), size),
        };
        let length = end.checked_sub(offset)?;
        (length > 0).then_some(ByteRange { offset, length })
    }
}

/// Reads a position of digits only. One that is too large for any file counts as the largest number.
fn position(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(byte_class::decimal(digits).unwrap_or(u64::MAX))
}

/// Replaces ranges that overlap or touch by one, at the place of the first of them.
fn coalesced(parts: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut kept: Vec<ByteRange> = Vec::with_capacity(parts.len());
    for mut part in parts {
        let mut place = kept.len();
        // Growing may make the part touch others, which were compared before: so it starts over.
        while let Some(index) = kept.iter().position(|other| touches(*other, part)) {
            part = union(kept.remove(index), part);
            place = place.min(index);
        }
        kept.insert(place, part);
    }
    kept
}

fn touches(a: ByteRange, b: ByteRange) -> bool {
    a.offset <= b.offset + b.length && b.offset <= a.offset + a.length
}

fn union(a: ByteRange, b: ByteRange) -> ByteRange {
    let offset = a.offset.min(b.offset);
    let end = (a.offset + a.length).max(b.offset + b.length);
    ByteRange { offset, length: end - offset }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(value: &str, size: u64) -> Vec<(u64, u64)> {
        match Selection::of(value.as_bytes(), size) {
            Selection::Parts(parts) => {
                parts.iter().map(|part| (part.offset, part.length)).collect()
            }
            other @ (Selection::Whole | Selection::Unsatisfiable) => {
                panic!("{value:?} selects {other:?}")
            }
        }
    }

    #[test]
    fn a_range_has_a_first_and_a_last_byte_or_a_suffix() {
        assert_eq!(parts("bytes=0-0", 10), [(0, 1)]);
        assert_eq!(parts("bytes=2-5", 10), [(2, 4)]);
        assert_eq!(parts("bytes=2-", 10), [(2, 8)]);
        assert_eq!(parts("BYTES=2-99999999999999999999999", 10), [(2, 8)]);
        assert_eq!(parts("bytes=-3", 10), [(7, 3)]);
        assert_eq!(parts("bytes=-30", 10), [(0, 10)]);
        assert_eq!(parts("bytes= 1-2 ,, 8-\t, 20-", 10), [(1, 2), (8, 2)]);
    }

    #[test]
    fn a_malformed_field_selects_everything() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=5-2",
            "bytes=1",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1-2;3-4",
            "bytes 1-2",
            "items=1-2",
            "bytes=1-2,x",
            "bytes=0x1-2",
            "bytes=1 - 2",
        ] {
            assert_eq!(Selection::of(value.as_bytes(), 10), Selection::Whole, "{value:?}");
        }
    }

    #[test]
    fn ranges_without_a_byte_are_unsatisfiable() {
        for value in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99-,-0"] {
            assert_eq!(Selection::of(value.as_bytes(), 10), Selection::Unsatisfiable, "{value:?}");
        }
    }

    #[test]
    fn any_range_of_nothing_selects_everything() {
        assert_eq!(Selection::of(b"bytes=0-", 0), Selection::Whole);
    }

    #[test]
    fn ranges_that_overlap_or_touch_become_one() {
        assert_eq!(parts("bytes=0-1,2-3", 10), [(0, 4)]);
        assert_eq!(parts("bytes=6-7,0-1,8-", 10), [(6, 4), (0, 2)]);
        assert_eq!(parts("bytes=0-1,6-7,1-6", 10), [(0, 8)]);
        assert_eq!(parts("bytes=0-,0-,0-", 10), [(0, 10)]);
    }

    #[test]
    fn more_ranges_than_the_maximum_select_everything() {
        let value = |count: usize| {
            let list: Vec<_> = (0..count).map(|n| format!("{}-{}", 3 * n, 3 * n)).collect();
            format!("bytes={}", list.join(","))
        };
        assert_eq!(parts(&value(RANGE_COUNT), 1000).len(), RANGE_COUNT);
        let more = Selection::of(value(RANGE_COUNT + 1).as_bytes(), 1000);
        assert_eq!(more, Selection::Whole);
    }

    proptest! {
        #[test]
        fn the_parts_hold_exactly_the_requested_bytes_and_each_once(
            size in 1_u64..60,
            ranges in proptest::collection::vec((0_u64..70, 0_u64..20, 0_u8..3), 1..8),
        ) {
            let text = |(first, more, kind): &(u64, u64, u8)| match kind {
                0 => format!("{first}-{}", first + more),
                1 => format!("{first}-"),
                _ => format!("-{more}"),
            };
            let list: Vec<_> = ranges.iter().map(text).collect();
            let wanted = |byte: u64| ranges.iter().any(|(first, more, kind)| match kind {
                0 => (*first..=first + more).contains(&byte),
                1 => byte >= *first,
                _ => byte >= size.saturating_sub(*more),
            });
            let expected: Vec<u64> = (0..size).filter(|&byte| wanted(byte)).collect();
            match Selection::of(format!("bytes={}", list.join(",")).as_bytes(), size) {
                Selection::Whole => prop_assert!(false, "the field is well-formed"),
                Selection::Unsatisfiable => prop_assert!(expected.is_empty()),
                Selection::Parts(parts) => {
                    let mut bytes: Vec<u64> =
                        parts.iter().flat_map(|p| p.offset..p.offset + p.length).collect();
                    bytes.sort_unstable();
                    prop_assert_eq!(bytes, expected);
                }
            }
        }
    }
}
