//! The body of a response with several ranges: `multipart/byteranges` (RFC 9110 §14.6).

use std::io::Write;
use std::ops::Range;

use crate::http::byte_range::ByteRange;

/// The parts of a body, and the texts between them.
#[derive(Debug)]
pub struct Multipart {
    parts: std::vec::IntoIter<ByteRange>,
    delimiter: Delimiter,
    is_closed: bool,
}

#[derive(Debug)]
struct Delimiter {
    boundary: String,
    /// The type of the representation.
    content_type: Vec<u8>,
    size: u64,
}

/// One piece of the body.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A text, and then a part of the representation.
    Part {
        /// The delimiter and the fields of the part.
        text: Vec<u8>,
        /// The part.
        range: ByteRange,
    },
    /// The text that ends the body.
    Closing(Vec<u8>),
}

impl Multipart {
    /// A body of these parts of a representation. The boundary must not occur in it: it is to be unpredictable.
    pub fn new(parts: Vec<ByteRange>, boundary: String, content_type: &[u8], size: u64) -> Self {
        let delimiter = Delimiter { boundary, content_type: content_type.to_vec(), size };
        Self { parts: parts.into_iter(), delimiter, is_closed: false }
    }

    /// The value of `Content-Type`.
    pub fn content_type(&self) -> String {
        format!("multipart/byteranges; boundary={}", self.delimiter.boundary)
    }

    /// The length of what is left of the body.
    pub fn length(&self) -> u64 {
        let of_part = |part: &ByteRange| self.delimiter.before(*part).len() as u64 + part.length;
        let parts: u64 = self.parts.as_slice().iter().map(of_part).sum();
        parts + self.delimiter.closing().len() as u64
    }

    /// The next piece; `None` after the last.
    pub fn next_piece(&mut self) -> Option<Piece> {
        match self.parts.next() {
            Some(range) => Some(Piece::Part { text: self.delimiter.before(range), range }),
            None if self.is_closed => None,
            None => {
                self.is_closed = true;
                Some(Piece::Closing(self.delimiter.closing()))
            }
        }
    }
}

impl Delimiter {
    fn before(&self, range: ByteRange) -> Vec<u8> {
        let mut text = Vec::with_capacity(160 + self.content_type.len());
        // Writing to a Vec cannot fail.
        let _ = write!(text, "\r\n--{}\r\nContent-Type: ", self.boundary);
        text.extend_from_slice(&self.content_type);
        text.extend_from_slice(b"\r\nContent-Range: ");
        text.extend_from_slice(content_range(range, self.size).as_bytes());
        text.extend_from_slice(b"\r\n\r\n");
        text
    }

    fn closing(&self) -> Vec<u8> {
        format!("\r\n--{}--\r\n", self.boundary).into_bytes()
    }
}

/// The value of `Content-Range` for a part of a representation of `size` bytes.
pub fn content_range(range: ByteRange, size: u64) -> String {
    let Range { start, end } = range.offset..range.offset + range.length - 1;
    format!("bytes {start}-{end}/{size}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_has_its_type_and_range_and_the_length_is_known_before() {
        let parts = vec![ByteRange { offset: 2, length: 3 }, ByteRange { offset: 9, length: 1 }];
        let mut body = Multipart::new(parts, "b".to_owned(), b"text/plain", 10);
        assert_eq!(body.content_type(), "multipart/byteranges; boundary=b");
        let length = body.length();
        let mut sent = Vec::new();
        while let Some(piece) = body.next_piece() {
            match piece {
                Piece::Part { text, range } => {
                    sent.extend_from_slice(&text);
                    sent.resize(sent.len() + range.length as usize, b'x');
                }
                Piece::Closing(text) => sent.extend_from_slice(&text),
            }
        }
        let expected = "\r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 2-4/10\r\n\r\nxxx\
                        \r\n--b\r\nContent-Type: text/plain\r\nContent-Range: bytes 9-9/10\r\n\r\nx\
                        \r\n--b--\r\n";
        assert_eq!(String::from_utf8(sent).unwrap(), expected);
        assert_eq!(length, expected.len() as u64);
    }
}
