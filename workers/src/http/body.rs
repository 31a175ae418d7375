//! Decoding a request's body, whatever its framing.

use crate::http::chunked::ChunkedDecoder;
use crate::http::fields::FieldError;
use crate::http::framing::Framing;
use crate::http::status::Status;
use crate::settings::Limits;

/// Decodes one body, piece by piece.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// That many bytes are still to come; 0 for a message without a body.
    Length {
        left: u64,
    },
    Chunked(ChunkedDecoder),
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
    /// The declared length, or the sizes of the chunks so far, are above the limit.
    #[error("the body is too large")]
    TooLarge,
    /// A chunk without a size.
    #[error("a chunk has no size")]
    NoSize,
    /// A size of more digits than fit 64 bits.
    #[error("a chunk size is too long")]
    SizeTooLong,
    /// Something behind the size that is neither an extension nor CRLF.
    #[error("a chunk size is malformed")]
    BadSize,
    /// Something after the size that does not follow the grammar of extensions.
    #[error("a chunk extension is malformed")]
    BadExtension,
    /// A line end in the quoted value of an extension.
    #[error("a quoted string in a chunk extension is not closed")]
    OpenQuote,
    /// Extensions above the limit of one chunk or of one body.
    #[error("the chunk extensions are too long")]
    ExtensionTooLong,
    /// CR without LF behind it.
    #[error("a chunk holds a bare CR")]
    BareCr,
    /// Chunk data that goes on where CRLF should be.
    #[error("the data of a chunk does not end with CRLF")]
    DataNotClosed,
    /// What is wrong with the trailer section.
    #[error(transparent)]
    Trailer(#[from] FieldError),
}

impl BodyError {
    /// The status that answers it: 400, 413 or 431.
    pub fn status(self) -> Status {
        match self {
            Self::TooLarge => Status(413),
            Self::Trailer(error) => error.status(),
            Self::NoSize
            | Self::SizeTooLong
            | Self::BadSize
            | Self::BadExtension
            | Self::OpenQuote
            | Self::ExtensionTooLong
            | Self::BareCr
            | Self::DataNotClosed => Status(400),
        }
    }
}

impl BodyDecoder {
    /// For a body of this framing; [`BodyError::TooLarge`] at once when the declared length is over
    /// the limit.
    pub fn new(framing: Framing, limits: &Limits) -> Result<Self, BodyError> {
        let limit = (limits.body_bytes != 0).then_some(limits.body_bytes);
        let state = match framing {
            Framing::None => State::Length { left: 0 },
            Framing::Length(length) if limit.is_some_and(|limit| length > limit) => {
                return Err(BodyError::TooLarge);
            }
            Framing::Length(length) => State::Length { left: length },
            Framing::Chunked => {
                State::Chunked(ChunkedDecoder::new(limit, limits.header_field_bytes))
            }
        };
        Ok(Self { state })
    }

    /// Decodes the next piece at the start of `input`. With `consumed` 0 and not `is_end`, more input
    /// is needed. Call again with what lies behind `consumed`.
    ///
    /// The piece is the longest that lies in one place: the rest of the input, or of the chunk.
    /// Nothing behind the body's last byte is looked at. After `is_end` it says so again; after an
    /// error it is not to be called.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, BodyError> {
        match &mut self.state {
            State::Length { left } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                Ok(Decoded { data: &input[..count], consumed: count, is_end: *left == 0 })
            }
            State::Chunked(decoder) => decoder.decode(input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder(framing: Framing) -> BodyDecoder {
        BodyDecoder::new(framing, &Limits::default()).unwrap()
    }

    #[test]
    fn a_message_without_a_body_ends_at_once() {
        let decoded = decoder(Framing::None).decode(b"GET /").unwrap();
        assert_eq!(decoded, Decoded { data: b"", consumed: 0, is_end: true });
    }

    #[test]
    fn a_length_is_taken_to_its_last_byte_and_no_further() {
        let mut body = decoder(Framing::Length(5));
        assert_eq!(
            body.decode(b"abc").unwrap(),
            Decoded { data: b"abc", consumed: 3, is_end: false }
        );
        assert_eq!(body.decode(b"").unwrap(), Decoded { data: b"", consumed: 0, is_end: false });
        assert_eq!(
            body.decode(b"deGET").unwrap(),
            Decoded { data: b"de", consumed: 2, is_end: true }
        );
        assert_eq!(body.decode(b"GET").unwrap(), Decoded { data: b"", consumed: 0, is_end: true });
    }

    #[test]
    fn a_declared_length_over_the_limit_is_refused_before_any_byte() {
        let limits = Limits { body_bytes: 10, ..Limits::default() };
        let refused = BodyDecoder::new(Framing::Length(11), &limits).unwrap_err();
        assert_eq!((refused, refused.status()), (BodyError::TooLarge, Status(413)));
        assert!(BodyDecoder::new(Framing::Length(10), &limits).is_ok());
    }

    #[test]
    fn a_limit_of_0_is_no_limit() {
        let limits = Limits { body_bytes: 0, ..Limits::default() };
        assert!(BodyDecoder::new(Framing::Length(u64::MAX), &limits).is_ok());
    }
}
