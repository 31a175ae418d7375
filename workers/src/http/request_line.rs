//! The request line: `method SP request-target SP HTTP-version CRLF` (RFC 9112 §3), parsed as a whole once
//! each byte is known to be of the right class.

use crate::http::head_error::HeadError;
use crate::http::span::Span;
use crate::http::target::Target;
use crate::http::version::Version;

/// Maximum length of a method. RFC 9110 §9.1 sets no limit; the longest registered method has 17 bytes.
/// A longer one gets 501 (RFC 9112 §3), as soon as its next byte has arrived.
pub(super) const METHOD_BYTES: usize = 32;
/// The length of `HTTP/1.1`.
pub(super) const VERSION_BYTES: usize = 8;

/// A parsed request line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) parts: Target,
    pub(super) version: Version,
}

impl RequestLine {
    /// Parses first the version, which decides whether the rest can be understood, then the method, then the
    /// form of the target.
    ///
    /// The caller has checked that the method is a token of at most [`METHOD_BYTES`] and that the target
    /// consists of visible bytes without `#`.
    #[inline]
    pub(super) fn parse(
        head: &[u8],
        method: Span,
        target: Span,
        version: &[u8],
    ) -> Result<Self, HeadError> {
        let version = parse_version(version)?;
        let name = method.of(head);
        if name == b"CONNECT" {
            return Err(HeadError::Connect);
        }
        Ok(Self { method, target, parts: Target::parse(head, name, target)?, version })
    }
}

/// Parses `HTTP/` DIGIT `.` DIGIT, case-sensitive (RFC 9112 §2.3).
///
/// A higher minor version is treated as 1.1 (RFC 9110 §2.5). Major version 0 was never sent: HTTP/0.9 had a
/// request line of two parts.
#[inline]
fn parse_version(text: &[u8]) -> Result<Version, HeadError> {
    match text {
        b"HTTP/1.1" => Ok(Version::Http11),
        [b'H', b'T', b'T', b'P', b'/', major @ b'1'..=b'9', b'.', minor @ b'0'..=b'9'] => {
            match (major, minor) {
                (b'1', b'0') => Ok(Version::Http10),
                (b'1', _) => Ok(Version::Http11),
                (_, _) => Err(HeadError::UnsupportedVersion),
            }
        }
        _ => Err(HeadError::BadVersion),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_exactly_http_digit_dot_digit() {
        assert_eq!(parse_version(b"HTTP/1.0"), Ok(Version::Http10));
        assert_eq!(parse_version(b"HTTP/1.1"), Ok(Version::Http11));
        for bad in
            ["", "HTTP/1", "HTTP/1.", "http/1.1", "HTTP/1.x", "HTTP/1,1", "HTTP/01.1", "HTTPS/1.1"]
        {
            assert_eq!(parse_version(bad.as_bytes()), Err(HeadError::BadVersion), "{bad:?}");
        }
    }

    #[test]
    fn a_higher_minor_version_is_treated_as_1_1() {
        for higher in ["HTTP/1.2", "HTTP/1.9"] {
            assert_eq!(parse_version(higher.as_bytes()), Ok(Version::Http11));
        }
    }

    #[test]
    fn another_major_version_is_not_supported() {
        for other in ["HTTP/2.0", "HTTP/3.1", "HTTP/9.9"] {
            let version = parse_version(other.as_bytes());
            assert_eq!(version, Err(HeadError::UnsupportedVersion));
        }
    }

    #[test]
    fn a_major_version_of_0_is_malformed() {
        assert_eq!(parse_version(b"HTTP/0.9"), Err(HeadError::BadVersion));
    }
}
