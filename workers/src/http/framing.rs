//! How long a request's body is (RFC 9112 §6.3), decided once, from the head alone.

use crate::http::byte_class::{self, TOKEN};
use crate::http::head_error::HeadError;

/// Where a request's body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// No body: neither Content-Length nor Transfer-Encoding, or a length of 0.
    None,
    /// That many bytes; never 0.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

/// The transfer codings named so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Coding {
    /// No Transfer-Encoding.
    #[default]
    Unsaid,
    /// `chunked`, once.
    Chunked,
}

impl Coding {
    /// The codings, with those of a further Transfer-Encoding field behind them.
    ///
    /// Shape:  the list of all its fields is exactly `chunked`, in any case. No parameters, no empty
    ///         elements: a reader who ignores them sees another framing than one who does not.
    /// Errors: 501 for a coding that we do not know (RFC 9112 §6.1), unless it stands behind
    ///         `chunked`, which must be the last and comes once (400).
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
    fn chunked_alone_in_any_case_is_understood() {
        for good in ["chunked", "Chunked", "CHUNKED"] {
            assert_eq!(Coding::Unsaid.with(good.as_bytes()), Ok(Coding::Chunked));
        }
    }

    #[test]
    fn another_coding_is_not_implemented() {
        for other in ["gzip", "identity", "xchunked", "gzip, chunked", "gzip;q=1", "chunke"] {
            let coding = Coding::Unsaid.with(other.as_bytes());
            assert_eq!(coding, Err(HeadError::UnknownTransferCoding), "{other:?}");
        }
    }

    #[test]
    fn chunked_twice_not_last_or_dressed_up_is_refused() {
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
            let coding = Coding::Unsaid.with(bad.as_bytes());
            assert_eq!(coding, Err(HeadError::BadTransferEncoding), "{bad:?}");
        }
        assert_eq!(Coding::Chunked.with(b"chunked"), Err(HeadError::BadTransferEncoding));
    }
}
