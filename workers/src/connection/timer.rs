//! The kinds of deadline that a connection can have.

/// The timeout that a deadline belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// What comes before the first request is incomplete: the PROXY header, then the handshake of TLS. They have one
    /// deadline together.
    Handshake,
    /// The connection is idle between requests ([`crate::settings::Timeouts::keep_alive`]).
    KeepAlive,
    /// The request head is incomplete.
    Head,
    /// The request body has stalled.
    Body,
    /// The request body is slower than the minimum rate, which is checked once per window.
    BodyRate,
    /// The response makes no progress.
    Write,
    /// The connection lingers, and nothing more arrives from the peer.
    Linger,
    /// The connection lingers: the limit for the whole of it.
    LingerTotal,
}

impl Timer {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Handshake,
        Self::KeepAlive,
        Self::Head,
        Self::Body,
        Self::BodyRate,
        Self::Write,
        Self::Linger,
        Self::LingerTotal,
    ];
}
