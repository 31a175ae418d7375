//! The supported protocol versions (RFC 9112 §2.3).

/// An HTTP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, or a higher 1.x, which is treated as 1.1.
    Http11,
}
