//! What carries the bytes of a connection: a socket, plain or with TLS on it.
//!
//! Without TLS, each method is one system call behind one branch that never changes. TLS on it is [`Encrypted`].

mod encrypted;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{Shutdown, setsockopt, shutdown, sockopt};

use crate::connection::CloseManner;
use crate::shared::fd::{self, Io};

pub(super) use encrypted::{Encrypted, Failure, Stage, TlsContext};

/// What has to happen before more bytes can be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// The peer sends something.
    Peer,
    /// The kernel has room for what the peer has to receive first.
    Room,
    /// Nothing: there are bytes already.
    Nothing,
}

/// A non-blocking socket, and TLS if the connection is encrypted.
pub struct Transport {
    socket: OwnedFd,
    tls: Option<Box<Encrypted>>,
}

impl Transport {
    /// A socket that carries HTTP itself.
    pub fn plain(socket: OwnedFd) -> Self {
        Self { socket, tls: None }
    }

    /// A socket that carries TLS.
    pub(super) fn encrypted(socket: OwnedFd, tls: Encrypted) -> Self {
        Self { socket, tls: Some(Box::new(tls)) }
    }

    /// The descriptor.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether TLS is on the socket.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// TLS, if the connection is encrypted.
    pub(super) fn tls(&self) -> Option<&Encrypted> {
        self.tls.as_deref()
    }

    /// TLS and its socket, if the connection is encrypted.
    pub(super) fn tls_mut(&mut self) -> Option<(&mut Encrypted, BorrowedFd<'_>)> {
        self.tls.as_deref_mut().map(|tls| (tls, self.socket.as_fd()))
    }

    /// The peer does not speak TLS: from now on the bytes are what they are.
    pub(super) fn give_up_tls(&mut self) {
        self.tls = None;
    }

    /// The socket without TLS.
    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// What has to happen before more bytes can be received.
    #[inline]
    pub fn awaits(&self) -> Awaits {
        self.tls.as_ref().map_or(Awaits::Peer, |tls| tls.awaits())
    }

    /// Whether the socket has no more bytes, given whether the last read has filled its buffer.
    #[inline]
    pub fn is_drained(&self, is_filled: bool) -> bool {
        self.tls.as_ref().map_or(!is_filled, |tls| tls.is_drained())
    }

    /// Sends up to three parts in order, as [`fd::send`] does, or as [`fd::send_ahead`] if more is about to follow.
    #[inline]
    pub fn send(&mut self, parts: [&[u8]; 3], is_ahead: bool) -> Io {
        match &mut self.tls {
            None if is_ahead => fd::send_ahead(self.socket.as_fd(), parts),
            None => fd::send(self.socket.as_fd(), parts),
            Some(tls) => tls.send(self.socket.as_fd(), parts, is_ahead),
        }
    }

    /// Sends a part of a file, as [`fd::send_file`] does.
    pub fn send_file(&mut self, file: BorrowedFd<'_>, offset: u64, length: u64) -> Io {
        match &mut self.tls {
            None => fd::send_file(self.socket.as_fd(), file, offset, length),
            Some(tls) => tls.send_file(self.socket.as_fd(), file, offset, length),
        }
    }

    /// Whether the client has left, as [`fd::has_left`] says, or [`fd::has_half_closed`] if `asks_half_close`. A client
    /// with TLS ends its direction by an alert and goes on reading; if it ends the stream as well, it does not.
    pub fn has_left(&self, is_tcp: bool, asks_half_close: bool) -> bool {
        if asks_half_close || self.is_encrypted() {
            fd::has_half_closed(self.socket.as_fd(), is_tcp)
        } else {
            fd::has_left(self.socket.as_fd(), is_tcp)
        }
    }

    /// Ends the sending direction.
    pub fn shut_write(&mut self) {
        self.say_goodbye();
        // ENOTCONN: the peer was faster, and the next read says so.
        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
    }

    /// Closes the descriptor. shutdown(2) comes first, so that the peer learns of it even if a child of the application
    /// holds a duplicate.
    pub fn close(mut self, manner: CloseManner) {
        match manner {
            CloseManner::Graceful => {
                self.say_goodbye();
                // The peer may be gone already: ENOTCONN says what close(2) is about to say.
                let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
            }
            CloseManner::Reset => {
                let abort = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                // If it fails, the close is graceful: worse for the peer, but nothing here can change that.
                let _ = setsockopt(&self.socket, sockopt::Linger, &abort);
                // Other processes may hold duplicates, if the connection is or was shared. The first call ends a TCP
                // connection, the second one a Unix socket.
                fd::disconnect(self.socket.as_fd());
                let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Both);
            }
        }
    }

    fn say_goodbye(&mut self) {
        if let Some((tls, socket)) = self.tls_mut() {
            tls.say_goodbye(socket);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Option<Duration> = Some(Duration::from_secs(20));

    fn tcp() -> (TcpStream, OwnedFd) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(PATIENCE).unwrap();
        (client, listener.accept().unwrap().0.into())
    }

    fn unix() -> (UnixStream, OwnedFd) {
        let (client, server) = UnixStream::pair().unwrap();
        client.set_read_timeout(PATIENCE).unwrap();
        (client, server.into())
    }

    /// What the client reads after its connection was closed although another process has a duplicate.
    fn read_after(
        manner: CloseManner,
        (mut client, server): (impl Read, OwnedFd),
    ) -> io::Result<usize> {
        let _duplicate = server.try_clone().unwrap();
        Transport::plain(server).close(manner);
        client.read(&mut [0])
    }

    #[test]
    fn a_connection_ends_although_another_process_has_a_duplicate() {
        assert_eq!(read_after(CloseManner::Graceful, tcp()).unwrap(), 0);
        assert_eq!(read_after(CloseManner::Graceful, unix()).unwrap(), 0);
        let reset = read_after(CloseManner::Reset, tcp()).unwrap_err();
        assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(read_after(CloseManner::Reset, unix()).unwrap(), 0);
    }
}
