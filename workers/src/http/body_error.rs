//! What decoding one piece of a body yields: data, or the reason to refuse the request.

use crate::http::fields::FieldError;
use crate::http::status::Status;

/// What one call of [`decode`](super::BodyDecoder::decode) found.
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
