//! What decoding one piece of a body yields: data, or the reason to refuse the request.

use crate::http::fields::FieldError;
use crate::http::status::Status;

/// What one call of [`decode`](super::BodyDecoder::decode) found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// Body bytes, borrowed from the input; may be empty.
    pub data: &'a [u8],
    /// The number of input bytes that were used, framing included.
    pub consumed: usize,
    /// Whether the body is complete, with its trailers.
    pub is_end: bool,
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The declared length, or the sum of the chunk sizes so far, exceeds the limit.
    #[error("the body is too large")]
    TooLarge,
    /// A chunk has no size.
    #[error("a chunk has no size")]
    NoSize,
    /// A chunk size has more digits than fit into 64 bits.
    #[error("a chunk size is too long")]
    SizeTooLong,
    /// A chunk size is followed by something that is neither an extension nor CRLF.
    #[error("a chunk size is malformed")]
    BadSize,
    /// A chunk extension does not follow the grammar.
    #[error("a chunk extension is malformed")]
    BadExtension,
    /// A line ends within a quoted extension value.
    #[error("a quoted string in a chunk extension is not closed")]
    OpenQuote,
    /// The extensions exceed the limit of one chunk or of one body.
    #[error("the chunk extensions are too long")]
    ExtensionTooLong,
    /// A CR is not followed by LF.
    #[error("a chunk contains a bare CR")]
    BareCr,
    /// Chunk data is not followed by CRLF.
    #[error("the data of a chunk does not end with CRLF")]
    DataNotClosed,
    /// The trailer section is malformed or too long.
    #[error(transparent)]
    Trailer(#[from] FieldError),
}

impl BodyError {
    /// The status of the response: 400, 413 or 431.
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
