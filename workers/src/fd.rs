//! The few system calls whose safe wrapper nix does not have, each one operation and one `SAFETY`.
#![expect(unsafe_code, reason = "accept4(2), listeners and duplicates need raw descriptors")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use crate::connection::SocketName;

/// Outcome of one read(2) or write(2) on a non-blocking socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// That many bytes moved; never 0.
    Bytes(usize),
    /// EAGAIN: nothing moves until epoll(7) says so.
    Blocked,
    /// End of stream: the peer has shut its sending direction.
    Ended,
    /// ECONNRESET, EPIPE or another error: the connection is dead.
    Failed,
}

/// Outcome of one accept4(2).
pub enum Accepted {
    /// A connection, non-blocking and close-on-exec, and its peer.
    Connection(OwnedFd, SocketName),
    /// EAGAIN, EINTR or ECONNABORTED: nobody there (any more); not an error.
    Nobody,
    /// EMFILE, ENFILE, ENOBUFS or ENOMEM: out of resources for now.
    Exhausted(io::Error),
    /// Anything else.
    Failed(io::Error),
}

/// accept4(2) with SOCK_NONBLOCK | SOCK_CLOEXEC; sets TCP_NODELAY on a TCP connection.
pub fn accept(_listener: BorrowedFd<'_>) -> Accepted {
    todo!()
}

/// recv(2) of one piece. EINTR is retried.
pub fn receive(_socket: BorrowedFd<'_>, _buffer: &mut [u8]) -> Io {
    todo!()
}

/// One send of up to three parts, in order, with MSG_NOSIGNAL: send(2) for one non-empty part,
/// sendmsg(2) for more. EINTR is retried. All parts empty is a caller's bug.
pub fn send(_socket: BorrowedFd<'_>, _parts: [&[u8]; 3]) -> Io {
    todo!()
}

/// One sendfile(2) from `offset`. `Ended` when the file has no byte there any more.
pub fn send_file(_socket: BorrowedFd<'_>, _file: BorrowedFd<'_>, _offset: u64, _length: u64) -> Io {
    todo!()
}

/// A close-on-exec duplicate of a descriptor that somebody else owns (fcntl(2) F_DUPFD_CLOEXEC).
pub fn duplicate(_fd: RawFd) -> io::Result<OwnedFd> {
    todo!()
}

/// Takes over a descriptor that was inherited by number (systemd, `fd://N`), after checking with
/// fcntl(2) that it is open.
pub fn adopt(_fd: RawFd) -> io::Result<OwnedFd> {
    todo!()
}
