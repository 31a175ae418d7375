//! Addresses to bind, as `--bind` writes them.

use std::os::fd::RawFd;
use std::path::PathBuf;

/// One `--bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// `HOST:PORT`, `[v6]:PORT`, `NAME:PORT`, `:PORT`, `PORT`. Names are resolved when bound.
    Tcp {
        /// Host name or address without brackets; empty for all addresses.
        host: String,
        /// Port; 0 for any free one.
        port: u16,
    },
    /// `unix:/path`.
    Unix(PathBuf),
    /// `unix:@name`: the abstract name space of Linux.
    Abstract(String),
    /// `fd://N`: inherited.
    Fd(RawFd),
}
