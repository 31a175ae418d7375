//! Decoding a request's body, whatever its framing.

use crate::http::framing::Framing;
use crate::http::status::Status;
use crate::settings::Limits;

/// Decodes one body, piece by piece.
pub struct BodyDecoder {
    _private: (),
}

/// What one call of [`BodyDecoder::decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Body bytes, a part of the input; may be empty.
    pub data: &'a [u8],
    /// Bytes of the input used up, framing included.
    pub consumed: usize,
    /// Whether the body (with its trailers) is whole.
    pub is_end: bool,
}

/// Why a body is refused. One variant a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Placeholder variant.
    #[error("bad body")]
    Bad,
}

impl BodyError {
    /// The status that answers it: 400, 413 or 431.
    pub fn status(self) -> Status {
        todo!()
    }
}

impl BodyDecoder {
    /// For a body of this framing; [`BodyError`] at once when the declared length is over the limit.
    pub fn new(_framing: Framing, _limits: &Limits) -> Result<Self, BodyError> {
        todo!()
    }

    /// Decodes the next piece at the start of `input`. With `consumed` 0 and not `is_end`, more input
    /// is needed. Call again with what lies behind `consumed`.
    pub fn decode<'a>(&mut self, _input: &'a [u8]) -> Result<Decoded<'a>, BodyError> {
        todo!()
    }
}
