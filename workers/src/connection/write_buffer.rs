//! The write buffer of a connection: bytes of a response that the kernel has not taken yet, in order, in at most
//! three parts.
//!
//! Small pieces are copied one after another, so that one send(2) takes a head and a short body. A large piece
//! stays the application's own object, and sendmsg(2) takes it without a copy. Pure: it knows no socket.

use std::ops::Range;

/// A piece up to this size is copied: that is cheaper than a second part of sendmsg(2).
const COPY_BYTES: usize = 8 * 1024;

/// The bytes to be sent: copied ones, then at most one large piece, then the bytes that close it.
#[derive(Debug)]
pub struct WriteBuffer<C> {
    front: Vec<u8>,
    front_sent: usize,
    piece: Option<Piece<C>>,
    back: &'static [u8],
}

#[derive(Debug)]
struct Piece<C> {
    chunk: C,
    unsent: Range<usize>,
}

impl<C: AsRef<[u8]>> WriteBuffer<C> {
    /// An empty buffer, which has allocated nothing.
    pub fn new() -> Self {
        Self { front: Vec::new(), front_sent: 0, piece: None, back: &[] }
    }

    /// Whether everything is sent.
    pub fn is_empty(&self) -> bool {
        self.front_sent == self.front.len() && self.piece.is_none() && self.back.is_empty()
    }

    /// The unsent parts, in order; some may be empty.
    pub fn parts(&self) -> [&[u8]; 3] {
        let piece = self
            .piece
            .as_ref()
            .map_or(&[][..], |p| &p.chunk.as_ref()[p.unsent.start..p.unsent.end]);
        [&self.front[self.front_sent..], piece, self.back]
    }

    /// The first `count` unsent bytes are sent.
    pub fn advance(&mut self, count: usize) {
        let front = count.min(self.front.len() - self.front_sent);
        self.front_sent += front;
        let mut left = count - front;
        if let Some(piece) = &mut self.piece {
            let taken = left.min(piece.unsent.len());
            piece.unsent.start += taken;
            left -= taken;
            if piece.unsent.is_empty() {
                self.piece = None;
            }
        }
        self.back = &self.back[left..];
        if self.front_sent == self.front.len() {
            self.front.clear();
            self.front_sent = 0;
        }
    }

    /// Where to append bytes that are copied, behind everything that is unsent.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        if self.piece.is_some() || !self.back.is_empty() {
            self.flatten();
        }
        &mut self.front
    }

    /// Appends the first `length` bytes of `chunk` and then `closing`.
    pub fn push(&mut self, chunk: C, length: usize, closing: &'static [u8]) {
        let bytes = &chunk.as_ref()[..length];
        if length <= COPY_BYTES {
            let tail = self.tail();
            tail.extend_from_slice(bytes);
            tail.extend_from_slice(closing);
            return;
        }
        if self.piece.is_some() || !self.back.is_empty() {
            self.flatten();
        }
        self.piece = Some(Piece { chunk, unsent: 0..length });
        self.back = closing;
    }

    /// Gives an empty buffer memory to copy into.
    pub fn lend(&mut self, memory: Vec<u8>) {
        if self.front.capacity() == 0 {
            self.front = memory;
        }
    }

    /// Takes the memory of an empty buffer back, so that an idle connection holds none.
    pub fn reclaim(&mut self) -> Option<Vec<u8>> {
        (self.is_empty() && self.front.capacity() > 0).then(|| std::mem::take(&mut self.front))
    }

    /// Discards everything unsent.
    pub fn clear(&mut self) {
        self.front.clear();
        self.front_sent = 0;
        self.piece = None;
        self.back = &[];
    }

    fn flatten(&mut self) {
        if let Some(piece) = self.piece.take() {
            self.front.extend_from_slice(&piece.chunk.as_ref()[piece.unsent]);
        }
        self.front.extend_from_slice(self.back);
        self.back = &[];
    }
}

impl<C: AsRef<[u8]>> Default for WriteBuffer<C> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(write_buffer: &mut WriteBuffer<Vec<u8>>, step: usize) -> Vec<u8> {
        let mut sent = Vec::new();
        while !write_buffer.is_empty() {
            let waiting = write_buffer.parts().concat();
            let count = step.min(waiting.len());
            sent.extend_from_slice(&waiting[..count]);
            write_buffer.advance(count);
        }
        sent
    }

    #[test]
    fn everything_is_sent_in_order_however_little_the_kernel_takes() {
        let large = vec![b'x'; COPY_BYTES + 1];
        for step in [1, 7, COPY_BYTES, usize::MAX] {
            let mut write_buffer = WriteBuffer::new();
            write_buffer.tail().extend_from_slice(b"head");
            write_buffer.push(large.clone(), large.len(), b"\r\n");
            write_buffer.push(b"small".to_vec(), 3, b"!");
            write_buffer.push(large.clone(), 8193, b"");
            let expected = [b"head".as_slice(), &large, b"\r\nsma!", &large[..8193]].concat();
            assert_eq!(drained(&mut write_buffer, step), expected, "step {step}");
        }
    }

    #[test]
    fn a_large_piece_is_kept_and_not_copied() {
        let mut write_buffer = WriteBuffer::new();
        write_buffer.tail().extend_from_slice(b"head");
        let large = vec![b'x'; COPY_BYTES + 1];
        let address = large.as_ptr();
        write_buffer.push(large, COPY_BYTES + 1, b"");
        assert_eq!(write_buffer.parts()[1].as_ptr(), address);
    }

    #[test]
    fn an_empty_write_buffer_gives_its_memory_back() {
        let mut write_buffer: WriteBuffer<Vec<u8>> = WriteBuffer::new();
        write_buffer.lend(Vec::with_capacity(100));
        write_buffer.tail().extend_from_slice(b"abc");
        assert!(write_buffer.reclaim().is_none());
        write_buffer.advance(3);
        assert_eq!(write_buffer.reclaim().map(|memory| memory.capacity()), Some(100));
        assert!(write_buffer.is_empty());
    }
}
