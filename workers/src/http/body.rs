//! Decoding a request's body, whatever its framing.

use crate::http::body_error::{BodyError, Decoded};
use crate::http::chunked::ChunkedDecoder;
use crate::http::framing::Framing;
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
