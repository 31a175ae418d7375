//! Decodes the body of a request, whatever its framing.

use crate::http::body_error::{BodyError, Decoded};
use crate::http::chunked::ChunkedDecoder;
use crate::http::framing::Framing;
use crate::settings::Limits;

/// Decodes one body, piece by piece.
#[derive(Clone, Debug)]
pub struct BodyDecoder {
    state: BodyState,
}

#[derive(Clone, Debug)]
enum BodyState {
    /// `left` more bytes belong to the body; 0 for a message without a body.
    Length {
        left: u64,
    },
    Chunked(ChunkedDecoder),
}

impl BodyDecoder {
    /// Starts a body of this framing.
    ///
    /// Errors: [`BodyError::TooLarge`], at once, for a declared length above the limit.
    pub fn new(framing: Framing, limits: &Limits) -> Result<Self, BodyError> {
        let limit = (limits.body_bytes != 0).then_some(limits.body_bytes);
        let state = match framing {
            Framing::None => BodyState::Length { left: 0 },
            Framing::Length(length) if limit.is_some_and(|limit| length > limit) => {
                return Err(BodyError::TooLarge);
            }
            Framing::Length(length) => BodyState::Length { left: length },
            Framing::Chunked => {
                BodyState::Chunked(ChunkedDecoder::new(limit, limits.header_field_bytes))
            }
        };
        Ok(Self { state })
    }

    /// Decodes the next piece at the start of `input`. The caller passes what follows `consumed` to the next
    /// call; `consumed` 0 without `is_end` means that more input is needed.
    ///
    /// A piece is as long as possible without a copy: the rest of the input, or of the chunk. The decoder
    /// never looks at bytes after the body. It repeats `is_end` when called again after the end, and must
    /// not be called after an error.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> Result<Decoded<'a>, BodyError> {
        match &mut self.state {
            BodyState::Length { left } => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= count as u64;
                Ok(Decoded { data: &input[..count], consumed: count, is_end: *left == 0 })
            }
            BodyState::Chunked(decoder) => decoder.decode(input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::status::Status;

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
