//! The request line: `method SP request-target SP HTTP-version CRLF` (RFC 9112 §3), judged as a whole
//! once its bytes are known to be of the right kinds.

use crate::http::head_error::HeadError;
use crate::http::span::Span;
use crate::http::target::Target;
use crate::http::version::Version;

/// Longest method. RFC 9110 §9.1 sets no bound; the longest registered one has 17 bytes.
pub(super) const METHOD_BYTES: usize = 32;
/// `HTTP/1.1`
pub(super) const VERSION_BYTES: usize = 8;

/// A request line taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RequestLine {
    pub(super) method: Span,
    pub(super) target: Span,
    pub(super) parts: Target,
    pub(super) version: Version,
}

impl RequestLine {
    /// Judges the line in this order: the version, which says whether the rest is ours to read; the
    /// method; the form of the target.
    ///
    /// The method is a token of at most [`METHOD_BYTES`], the target of visible bytes without `#`.
    #[inline]
    pub(super) fn judge(
        head: &[u8],
        method: Span,
        target: Span,
        version: &[u8],
    ) -> Result<Self, HeadError> {
        let version = judge_version(version)?;
        let name = method.of(head);
        if name == b"CONNECT" {
            return Err(HeadError::Connect);
        }
        Ok(Self { method, target, parts: Target::judge(head, name, target)?, version })
    }
}

/// `HTTP/` DIGIT `.` DIGIT, case-sensitive (RFC 9112 §2.3).
///
/// A higher minor version is taken as 1.1 (RFC 9110 §2.5). Major version 0 was never sent: HTTP/0.9
/// had a request line of two parts.
#[inline]
fn judge_version(text: &[u8]) -> Result<Version, HeadError> {
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
        assert_eq!(judge_version(b"HTTP/1.0"), Ok(Version::Http10));
        assert_eq!(judge_version(b"HTTP/1.1"), Ok(Version::Http11));
        for bad in
            ["", "HTTP/1", "HTTP/1.", "http/1.1", "HTTP/1.x", "HTTP/1,1", "HTTP/01.1", "HTTPS/1.1"]
        {
            assert_eq!(judge_version(bad.as_bytes()), Err(HeadError::BadVersion), "{bad:?}");
        }
    }

    #[test]
    fn a_higher_minor_version_is_taken_as_1_1() {
        for higher in ["HTTP/1.2", "HTTP/1.9"] {
            assert_eq!(judge_version(higher.as_bytes()), Ok(Version::Http11));
        }
    }

    #[test]
    fn another_major_version_is_not_supported() {
        for other in ["HTTP/2.0", "HTTP/3.1", "HTTP/9.9"] {
            let version = judge_version(other.as_bytes());
            assert_eq!(version, Err(HeadError::UnsupportedVersion));
        }
    }

    #[test]
    fn a_major_version_of_0_is_malformed() {
        assert_eq!(judge_version(b"HTTP/0.9"), Err(HeadError::BadVersion));
    }
}
