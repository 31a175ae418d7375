//! The versions that are spoken (RFC 9112 §2.3).

/// HTTP/1.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, or a higher 1.x taken as that.
    Http11,
}
