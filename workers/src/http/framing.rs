//! How long a request's body is (RFC 9112 §6.3), decided once, from the head alone.

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
