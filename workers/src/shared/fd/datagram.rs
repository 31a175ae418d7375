//! Datagrams between processes of this server, with any number of descriptors (unix(7), SOCK_SEQPACKET).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    self, AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
};

use super::retry;

/// The maximum number of descriptors in one datagram; the kernel allows 253 (SCM_MAX_FD).
pub const MAX_DESCRIPTORS: usize = 250;

/// What [`receive_datagram`] has received.
#[derive(Debug)]
pub enum Datagram {
    /// EAGAIN or EINTR: nothing has arrived.
    Nothing,
    /// A datagram of this many bytes. Longer ones were cut.
    Received(usize),
    /// End of file, ECONNRESET or another error: the other end is gone.
    Ended,
}

/// A pair of connected sockets, close-on-exec and non-blocking.
pub fn datagram_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket::socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// Sends one datagram with duplicates of `descriptors`, without blocking and without SIGPIPE.
///
/// Errors: EAGAIN if too many are unread; ETOOMANYREFS if too many descriptors of this user are under way
/// (RLIMIT_NOFILE); EPIPE or ECONNRESET if the other end is gone.
pub fn send_datagram(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    descriptors: &[RawFd],
) -> Result<(), Errno> {
    let rights = [ControlMessage::ScmRights(descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let slices = [IoSlice::new(bytes)];
    retry(|| socket::sendmsg::<()>(socket.as_raw_fd(), &slices, rights, flags, None)).map(drop)
}

/// Receives one datagram without blocking. All of its descriptors that this process can have (RLIMIT_NOFILE) are
/// appended to `descriptors`, close-on-exec.
pub fn receive_datagram(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
) -> Datagram {
    let mut rights = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut slices = [IoSliceMut::new(bytes)];
    let message = socket::recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut rights), flags);
    let message = match message {
        Ok(message) => message,
        Err(Errno::EAGAIN | Errno::EINTR) => return Datagram::Nothing,
        Err(_) => return Datagram::Ended,
    };
    for control in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: recvmsg(2) has just made these descriptors, so nobody else owns them.
            let owned = numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) });
            descriptors.extend(owned);
        }
    }
    if message.bytes == 0 { Datagram::Ended } else { Datagram::Received(message.bytes) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn a_datagram_carries_its_bytes_and_all_of_its_descriptors() {
        let (one, other) = datagram_pair().unwrap();
        let streams: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let numbers: Vec<_> = streams.iter().map(|(stream, _)| stream.as_raw_fd()).collect();
        send_datagram(one.as_fd(), b"three", &numbers).unwrap();
        send_datagram(one.as_fd(), b"none", &[]).unwrap();
        let (mut bytes, mut descriptors) = ([0; 16], Vec::new());
        let received = receive_datagram(other.as_fd(), &mut bytes, &mut descriptors);
        assert!(matches!(received, Datagram::Received(5)), "{received:?}");
        assert_eq!((&bytes[..5], descriptors.len()), (&b"three"[..], 3));
        for (descriptor, (_, peer)) in descriptors.drain(..).zip(&streams) {
            UnixStream::from(descriptor).write_all(b"x").unwrap();
            let mut byte = [0];
            (&*peer).read_exact(&mut byte).unwrap();
        }
        let received = receive_datagram(other.as_fd(), &mut bytes, &mut descriptors);
        assert!(matches!(received, Datagram::Received(4)), "{received:?}");
        assert!(descriptors.is_empty());
        let received = receive_datagram(other.as_fd(), &mut bytes, &mut descriptors);
        assert!(matches!(received, Datagram::Nothing), "{received:?}");
    }

    #[test]
    fn the_end_of_the_other_side_is_reported() {
        let (one, other) = datagram_pair().unwrap();
        drop(one);
        let received = receive_datagram(other.as_fd(), &mut [0; 4], &mut Vec::new());
        assert!(matches!(received, Datagram::Ended), "{received:?}");
        assert_eq!(send_datagram(other.as_fd(), b"x", &[]), Err(Errno::EPIPE));
    }

    #[test]
    fn a_receiver_that_does_not_read_never_blocks_the_sender() {
        let (one, _other) = datagram_pair().unwrap();
        let full = (0..10_000).find_map(|_| send_datagram(one.as_fd(), b"x", &[]).err());
        assert_eq!(full, Some(Errno::EAGAIN));
    }

    #[test]
    fn a_datagram_has_room_for_the_maximum_of_descriptors() {
        let (one, other) = datagram_pair().unwrap();
        let (stream, _peer) = UnixStream::pair().unwrap();
        send_datagram(one.as_fd(), b"x", &[stream.as_raw_fd(); MAX_DESCRIPTORS]).unwrap();
        let mut descriptors = Vec::new();
        let received = receive_datagram(other.as_fd(), &mut [0], &mut descriptors);
        assert!(matches!(received, Datagram::Received(1)), "{received:?}");
        assert_eq!(descriptors.len(), MAX_DESCRIPTORS);
    }
}
