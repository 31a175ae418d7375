//! Pieces of a head, in offsets: a parsed head can be kept and moved without its bytes.

/// A piece of the head, in bytes from the head's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes it names.
    #[inline]
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }

    /// From `start` up to `end`, offsets within a head that `scan::longest_head` keeps below 4 GiB.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a head is kept below 4 GiB")]
    pub(super) fn between(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }
}
