//! Parts of a head, in offsets, so that a parsed head can be kept and moved without its bytes.

/// A part of a head, in bytes from the head's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Returns the bytes of the part.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// Creates a span from offsets within a head. `scan::max_head_bytes` keeps heads below 4 GiB.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a head is kept below 4 GiB")]
    pub(super) fn between(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }
}
