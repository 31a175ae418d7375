//! The name of a socket: where it is bound, or who is at its other end.

use std::net::SocketAddr;

/// The address of one end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketName {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A Unix socket: its path, `@` and its abstract name, or an empty string for an unnamed peer.
    Unix(String),
}
