//! What the kernel knows of a TCP connection or of an accept queue (TCP_INFO), and whether a client has left.
#![expect(unsafe_code, reason = "TCP_INFO, which nix does not have")]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What the kernel knows of a TCP connection right after [`accept`](super::accept); `None` for any other socket.
pub fn arrival(socket: BorrowedFd<'_>) -> Option<Arrival> {
    let info = tcp_info(socket).ok()?;
    Some(Arrival {
        waited: info.ms(TcpInfo::LAST_DATA_RECV)?,
        is_reset: info.state()? == TcpInfo::CLOSE,
        is_half_closed: info.state()? == TcpInfo::CLOSE_WAIT,
    })
}

/// How long ago the last bytes arrived at a TCP socket, in ticks of the kernel's clock (4 ms); `None` for any other socket.
pub fn last_received(socket: BorrowedFd<'_>) -> Option<Duration> {
    tcp_info(socket).ok()?.ms(TcpInfo::LAST_DATA_RECV)
}

/// Whether the client has left, so that nobody waits for a response any more, as far as the kernel knows.
///
/// TCP reports a reset. An end of stream alone may come from a client that half-closes and goes on reading, or from one
/// that has closed. But the former has nothing more to send, so it ends its stream right after its request; the latter
/// has waited for a response first. So an end that comes [`GAVE_UP`] after the last byte, before anything was sent
/// back, comes from a client that has given up. A Unix socket reports exactly whether its peer has closed.
///
/// This takes one system call.
pub fn has_left(socket: BorrowedFd<'_>, is_tcp: bool) -> bool {
    match is_tcp {
        true => tcp_info(socket).is_ok_and(|info| info.has_left()),
        false => has_hung_up(socket, PollFlags::empty()),
    }
}

/// Whether the client has left or has ended its stream, whether or not it goes on reading. This takes one system call.
pub fn has_half_closed(socket: BorrowedFd<'_>, is_tcp: bool) -> bool {
    match is_tcp {
        true => tcp_info(socket).is_ok_and(|info| info.has_half_closed()),
        false => has_hung_up(socket, PollFlags::from_bits_retain(libc::POLLRDHUP)),
    }
}

/// Whether poll(2) reports something awaited, an error or a hang-up.
fn has_hung_up(socket: BorrowedFd<'_>, awaited: PollFlags) -> bool {
    poll(&mut [PollFd::new(socket, awaited)], PollTimeout::ZERO) == Ok(1)
}

/// A client that ends its stream this long after its last byte has given up. It is longer than a lost segment delays the
/// end.
const GAVE_UP: Duration = Duration::from_secs(1);

/// What the kernel knows of a TCP connection that was just accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// How long ago the last bytes arrived, or the connection was made if none did. That is how long it has waited in
    /// the kernel, in ticks of the kernel's clock (4 ms).
    pub waited: Duration,
    /// The peer has reset the connection meanwhile. What the peer had sent before can still be read.
    pub is_reset: bool,
    /// The peer has ended its stream meanwhile.
    pub is_half_closed: bool,
}

/// The length of the accept queue of a TCP listener; `None` for any other socket.
pub fn accept_queue(listener: BorrowedFd<'_>) -> Option<AcceptQueue> {
    let info = tcp_info(listener).ok()?;
    Some(AcceptQueue { len: info.word(TcpInfo::UNACKED)?, max: info.word(TcpInfo::SACKED)? })
}

/// The accept queue of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptQueue {
    /// The number of connections that wait.
    pub len: u32,
    /// The maximum number: the backlog of listen(2), or somaxconn if that is less.
    pub max: u32,
}

/// The start of a `struct tcp_info` (linux/tcp.h), as far as the kernel has filled it in. libc does not have it for every
/// target.
pub(super) struct TcpInfo {
    pub(super) raw: [u8; 104],
    pub(super) bytes: usize,
}

impl TcpInfo {
    /// `tcpi_state` of a connection that was reset (TCP_CLOSE of netinet/tcp.h).
    pub(super) const CLOSE: u8 = 7;
    /// `tcpi_state` of a connection whose peer has ended its stream (TCP_CLOSE_WAIT).
    pub(super) const CLOSE_WAIT: u8 = 8;
    /// `tcpi_unacked`; for a listener, the length of its accept queue.
    pub(super) const UNACKED: usize = 24;
    /// `tcpi_sacked`; for a listener, the maximum length of its accept queue.
    pub(super) const SACKED: usize = 28;
    /// How many ms ago the last bytes were sent (`tcpi_last_data_sent`), or the connection was made.
    pub(super) const LAST_DATA_SENT: usize = 44;
    /// How many ms ago the last bytes arrived (`tcpi_last_data_recv`).
    pub(super) const LAST_DATA_RECV: usize = 52;
    /// How many ms ago the last segment arrived that acknowledges something, as all do (`tcpi_last_ack_recv`). That is the
    /// end of the stream, unless something was sent afterwards.
    pub(super) const LAST_ACK_RECV: usize = 56;

    /// `tcpi_state`.
    pub(super) fn state(&self) -> Option<u8> {
        self.raw[..self.bytes].first().copied()
    }

    /// As in [`has_left`]. If the kernel does not say, the client has not left.
    pub(super) fn has_left(&self) -> bool {
        let gave_up = || {
            let (sent, received) = (self.ms(Self::LAST_DATA_SENT)?, self.ms(Self::LAST_DATA_RECV)?);
            let ended = self.ms(Self::LAST_ACK_RECV)?;
            Some(sent >= received && received.saturating_sub(ended) >= GAVE_UP)
        };
        match self.state() {
            Some(Self::CLOSE) => true,
            Some(Self::CLOSE_WAIT) => gave_up().unwrap_or(false),
            Some(_) | None => false,
        }
    }

    /// As in [`has_half_closed`].
    pub(super) fn has_half_closed(&self) -> bool {
        matches!(self.state(), Some(Self::CLOSE | Self::CLOSE_WAIT))
    }

    pub(super) fn ms(&self, offset: usize) -> Option<Duration> {
        self.word(offset).map(|ms| Duration::from_millis(ms.into()))
    }

    pub(super) fn word(&self, offset: usize) -> Option<u32> {
        let word = self.raw[..self.bytes].get(offset..)?.first_chunk()?;
        Some(u32::from_ne_bytes(*word))
    }
}

/// Calls getsockopt(2) for TCP_INFO.
fn tcp_info(socket: BorrowedFd<'_>) -> nix::Result<TcpInfo> {
    let mut raw = [0; 104];
    let mut bytes = raw.len() as libc::socklen_t;
    // SAFETY: `raw` and `bytes` live through the call; the kernel writes at most `bytes` bytes, which
    // is the size of `raw`, and any bytes are valid there.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            raw.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    Errno::result(result)?;
    Ok(TcpInfo { raw, bytes: raw.len().min(bytes as usize) })
}
