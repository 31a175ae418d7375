//! Placeholder of the pure machine: written in its own step. [`ConnInfo`] is what outlives requests.

use std::net::SocketAddr;
use std::time::Instant;

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketName {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A unix socket; the path, or `@` and the abstract name; empty for an unnamed peer.
    Unix(String),
}

/// What a connection is between two requests, beside its descriptor: fixed in size, free of timers
/// and of anything of the application's.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// The peer's address.
    pub peer: SocketName,
    /// Our own address, as the listener that took the connection names it.
    pub local: SocketName,
    /// Index of that listener.
    pub listener: u16,
    /// When the connection was accepted.
    pub accepted: Instant,
    /// Requests answered so far.
    pub served: u32,
}
