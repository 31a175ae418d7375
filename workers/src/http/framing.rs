//! The length of a request's body (RFC 9112 §6.3), decided once, from the head.
//!
//! Section 6.3 lists eight rules in order of precedence. This server is stricter wherever a rule leaves a
//! choice: a request that two implementations could frame differently is refused, and every refusal closes
//! the connection, so that no byte after such a head is ever read as a request.
//!
//! | rule | says | here |
//! |---|---|---|
//! | 1 | A response to HEAD, and one with 1xx, 204 or 304, has no body. | [`ResponseHead::send`] |
//! | 2 | A 2xx response to CONNECT opens a tunnel. | CONNECT gets 501, in [`request_line`]. |
//! | 3 | Transfer-Encoding overrides Content-Length, and both together ought to be handled as an error. | 400, in [`Framing::of_request`] |
//! | 4 | A body whose final transfer coding is chunked ends where the chunked data ends. In a request, another final coding is a 400. | [`Framing::Chunked`]; [`TransferCoding::with`] accepts `chunked` only. |
//! | 5 | An invalid Content-Length is a 400, unless it is a list of one valid number, repeated. | 400, in [`content_length`]. A list is refused, too: RFC 9110 §8.6 allows that. |
//! | 6 | A valid Content-Length is the number of bytes. | [`Framing::Length`] |
//! | 7 | A request without either has no body. | [`Framing::None`] |
//! | 8 | A response without a declared length ends with the connection. | [`ReplyFraming::UntilClose`], to HTTP/1.0 only |
//!
//! Two rules of §6.1 come in. Transfer-Encoding in HTTP/1.0 means faulty framing, which is a 400 here. A
//! coding that the server does not know is a 501, even where rule 4 asks for a 400. nginx does the
//! same, and the connection closes either way.
//!
//! [`ResponseHead::send`]: super::ResponseHead::send
//! [`ReplyFraming::UntilClose`]: super::ReplyFraming::UntilClose
//! [`request_line`]: super::request_line

use crate::http::byte_class::{self, TOKEN};
use crate::http::head_error::HeadError;
use crate::http::version::Version;

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body: neither Content-Length nor Transfer-Encoding, or a length of 0.
    None,
    /// The body has this many bytes; never 0.
    Length(u64),
    /// The body is chunked (Transfer-Encoding).
    Chunked,
}

impl Framing {
    /// Applies the rules for requests to what the fields of a head have said.
    #[inline]
    pub(super) fn of_request(
        coding: TransferCoding,
        content_length: Option<u64>,
        version: Version,
    ) -> Result<Self, HeadError> {
        match (coding, content_length) {
            // §6.1: faulty, even if a Content-Length is present.
            (TransferCoding::Chunked, _) if version == Version::Http10 => {
                Err(HeadError::TransferEncodingIn10)
            }
            // Rule 3.
            (TransferCoding::Chunked, Some(_)) => Err(HeadError::TwoFramings),
            // Rule 4.
            (TransferCoding::Chunked, None) => Ok(Self::Chunked),
            // Rule 6. A length of 0 is a message without a body.
            (TransferCoding::Absent, Some(0)) => Ok(Self::None),
            (TransferCoding::Absent, Some(length)) => Ok(Self::Length(length)),
            // Rule 7.
            (TransferCoding::Absent, None) => Ok(Self::None),
        }
    }
}

/// Reads the value of a Content-Length field, by rule 5. A second such field is refused by its reader.
///
/// Shape:  `1*DIGIT`. No sign, no list, nothing beyond 64 bits.
#[inline]
pub(super) fn content_length(value: &[u8]) -> Result<u64, HeadError> {
    byte_class::decimal(value).ok_or(HeadError::BadContentLength)
}

/// The transfer codings that the fields read so far have named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum TransferCoding {
    /// No Transfer-Encoding has come.
    #[default]
    Absent,
    /// `chunked` has come, once.
    Chunked,
}

impl TransferCoding {
    /// Adds the codings of one more Transfer-Encoding field, by rule 4.
    ///
    /// Shape:  the list of all Transfer-Encoding fields together is exactly `chunked`, in any case. There are
    ///         no parameters and no empty elements: a reader that ignores them frames the body differently
    ///         from one that does not.
    /// Errors: 501 for an unknown coding (RFC 9112 §6.1). After `chunked`, it is a 400: `chunked` must be the
    ///         last coding and come once.
    pub(super) fn with(self, value: &[u8]) -> Result<Self, HeadError> {
        let mut coding = self;
        for element in value.split(|&byte| byte == b',') {
            let element = byte_class::trim(element);
            let name_end = memchr::memchr(b';', element).unwrap_or(element.len());
            let name = byte_class::trim(&element[..name_end]);
            let is_chunked = name.eq_ignore_ascii_case(b"chunked");
            if coding == Self::Chunked
                || !byte_class::are(name, TOKEN)
                || (is_chunked && name.len() != element.len())
            {
                return Err(HeadError::BadTransferEncoding);
            }
            if !is_chunked {
                return Err(HeadError::UnknownTransferCoding);
            }
            coding = Self::Chunked;
        }
        Ok(coding)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunked_alone_is_understood_in_any_case() {
        for good in ["chunked", "Chunked", "CHUNKED"] {
            assert_eq!(TransferCoding::Absent.with(good.as_bytes()), Ok(TransferCoding::Chunked));
        }
    }

    #[test]
    fn another_coding_is_not_implemented() {
        for other in ["gzip", "identity", "xchunked", "gzip, chunked", "gzip;q=1", "chunke"] {
            let coding = TransferCoding::Absent.with(other.as_bytes());
            assert_eq!(coding, Err(HeadError::UnknownTransferCoding), "{other:?}");
        }
    }

    #[test]
    fn chunked_twice_not_last_or_decorated_is_refused() {
        for bad in [
            "",
            ",",
            "chunked,",
            ",chunked",
            "chunked, chunked",
            "chunked,gzip",
            "chunked;a=b",
            "chunked ;",
            "\"chunked\"",
            "chunked chunked",
            "chun ked",
            "chunked\u{b}",
            "=",
        ] {
            let coding = TransferCoding::Absent.with(bad.as_bytes());
            assert_eq!(coding, Err(HeadError::BadTransferEncoding), "{bad:?}");
        }
        assert_eq!(TransferCoding::Chunked.with(b"chunked"), Err(HeadError::BadTransferEncoding));
    }
}
