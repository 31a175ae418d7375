//! epoll(7), level-triggered. No other file names it.
//!
//! The poller knows descriptors and 64-bit keys, but no connections. epoll drops an entry when the last descriptor
//! of its open file is closed. If a child of the application still holds one, the entry stays, so connections are
//! removed before they are closed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::unistd::dup3;

/// What an entry waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// EPOLLIN | EPOLLRDHUP.
    Read,
    /// EPOLLOUT.
    Write,
    /// Only errors and hang-ups, which epoll always reports.
    Nothing,
    /// EPOLLIN | EPOLLEXCLUSIVE: a listener that is shared with other workers. It is never modified, only removed
    /// and added again, because EPOLL_CTL_MOD of an exclusive entry fails with EINVAL.
    Accept,
    /// EPOLLIN | EPOLLET | EPOLLEXCLUSIVE: an idle connection that is shared with other workers. It is never modified,
    /// either. Its end is reported as readable.
    Shared,
}

impl Interest {
    fn flags(self) -> EpollFlags {
        match self {
            Self::Read => EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP,
            Self::Write => EpollFlags::EPOLLOUT,
            Self::Nothing => EpollFlags::empty(),
            Self::Accept => EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE,
            Self::Shared => EpollFlags::EPOLLIN | EpollFlags::EPOLLET | EpollFlags::EPOLLEXCLUSIVE,
        }
    }
}

/// One event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PollEvent {
    /// The key that the entry was registered with.
    pub key: u64,
    /// Readable, or end of stream.
    pub readable: bool,
    /// Writable.
    pub writable: bool,
    /// EPOLLERR or EPOLLHUP: the connection was reset, or both directions are shut down.
    pub hung_up: bool,
    /// EPOLLRDHUP: the peer has shut down its sending direction.
    pub half_closed: bool,
}

/// An epoll instance and its batch of events.
pub struct Poller {
    epoll: Epoll,
    batch: Box<[EpollEvent]>,
    /// The number of events of the last [`Poller::wait`], at the front of `batch`.
    count: usize,
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl Poller {
    /// A new epoll instance that reports at most `batch` events at once.
    pub fn new(batch: usize) -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            batch: vec![EpollEvent::empty(); batch].into_boxed_slice(),
            count: 0,
        })
    }

    /// Forgets all entries, under the same number.
    pub fn restart(&mut self) -> io::Result<()> {
        let fresh = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        self.count = 0;
        Ok(dup3(&fresh.0, &mut self.epoll.0, OFlag::O_CLOEXEC)?)
    }

    /// EPOLL_CTL_ADD.
    pub fn add(&self, fd: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(interest.flags(), key))?)
    }

    /// EPOLL_CTL_MOD.
    pub fn modify(&self, fd: impl AsFd, key: u64, interest: Interest) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(interest.flags(), key))?)
    }

    /// EPOLL_CTL_DEL.
    pub fn remove(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(fd)?)
    }

    /// Calls epoll_wait(2); without a timeout it waits for ever. EINTR is an empty batch. The timeout is rounded up
    /// to whole milliseconds, so that a deadline has passed when this returns because of it.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        self.count = match self.epoll.wait(&mut self.batch, whole_ms(timeout)) {
            Ok(count) => count,
            // Not repeated: a signal handler may have left something for the loop to do.
            Err(Errno::EINTR) => 0,
            Err(error) => {
                self.count = 0;
                return Err(error.into());
            }
        };
        Ok(self.count)
    }

    /// Event `index` of the last batch; `index` is below what [`Poller::wait`] returned.
    pub fn event(&self, index: usize) -> PollEvent {
        let event = &self.batch[..self.count][index];
        let flags = event.events();
        PollEvent {
            key: event.data(),
            readable: flags.contains(EpollFlags::EPOLLIN),
            writable: flags.contains(EpollFlags::EPOLLOUT),
            hung_up: flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP),
            half_closed: flags.contains(EpollFlags::EPOLLRDHUP),
        }
    }
}

/// A timeout of more than 24 days is shortened to them, so the loop only turns once more.
fn whole_ms(timeout: Option<Duration>) -> EpollTimeout {
    let Some(timeout) = timeout else { return EpollTimeout::NONE };
    let part_ms = u64::from(timeout.subsec_nanos().div_ceil(1_000_000));
    let ms = timeout.as_secs().saturating_mul(1000).saturating_add(part_ms);
    EpollTimeout::try_from(ms).unwrap_or(EpollTimeout::MAX)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;

    use super::*;

    const NOW: Option<Duration> = Some(Duration::ZERO);

    fn poller_with(socket: &UnixStream, interest: Interest) -> Poller {
        let poller = Poller::new(8).unwrap();
        poller.add(socket, 42, interest).unwrap();
        poller
    }

    #[test]
    fn nothing_to_report_is_an_empty_batch() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        assert_eq!(poller_with(&socket, Interest::Read).wait(NOW).unwrap(), 0);
    }

    #[test]
    fn bytes_make_a_socket_readable_until_they_are_read() {
        let (mut socket, mut peer) = UnixStream::pair().unwrap();
        let mut poller = poller_with(&socket, Interest::Read);
        peer.write_all(b"x").unwrap();
        let expected = PollEvent {
            key: 42,
            readable: true,
            writable: false,
            hung_up: false,
            half_closed: false,
        };
        for _ in 0..2 {
            assert_eq!(poller.wait(None).unwrap(), 1);
            assert_eq!(poller.event(0), expected);
        }
        socket.read_exact(&mut [0]).unwrap();
        assert_eq!(poller.wait(NOW).unwrap(), 0);
    }

    #[test]
    fn a_peer_that_shuts_down_its_sending_direction_is_half_closed() {
        let (socket, peer) = UnixStream::pair().unwrap();
        let mut poller = poller_with(&socket, Interest::Read);
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(poller.wait(None).unwrap(), 1);
        let event = poller.event(0);
        assert!(event.half_closed && event.readable && !event.hung_up);
    }

    #[test]
    fn a_closing_peer_is_reported_although_nothing_is_awaited() {
        let (socket, peer) = UnixStream::pair().unwrap();
        let mut poller = poller_with(&socket, Interest::Nothing);
        assert_eq!(poller.wait(NOW).unwrap(), 0);
        drop(peer);
        assert_eq!(poller.wait(None).unwrap(), 1);
        assert!(poller.event(0).hung_up);
    }

    #[test]
    fn a_modified_entry_reports_the_new_interest() {
        let (socket, _peer) = UnixStream::pair().unwrap();
        let mut poller = poller_with(&socket, Interest::Read);
        poller.modify(&socket, 43, Interest::Write).unwrap();
        assert_eq!(poller.wait(None).unwrap(), 1);
        assert_eq!(poller.event(0).key, 43);
        assert!(poller.event(0).writable && !poller.event(0).readable);
    }

    #[test]
    fn a_removed_entry_reports_nothing() {
        let (socket, peer) = UnixStream::pair().unwrap();
        let mut poller = poller_with(&socket, Interest::Read);
        poller.remove(&socket).unwrap();
        drop(peer);
        assert_eq!(poller.wait(NOW).unwrap(), 0);
    }

    #[test]
    fn a_listener_is_removed_and_added_again_not_modified() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut poller = Poller::new(8).unwrap();
        poller.add(&listener, 1, Interest::Accept).unwrap();
        assert!(poller.modify(&listener, 1, Interest::Accept).is_err());
        poller.remove(&listener).unwrap();
        poller.add(&listener, 2, Interest::Accept).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(poller.wait(None).unwrap(), 1);
        assert_eq!(poller.event(0).key, 2);
    }

    #[test]
    fn a_batch_takes_no_more_events_than_it_has_room_for() {
        let pairs: Vec<_> = (0..3).map(|_| UnixStream::pair().unwrap()).collect();
        let mut poller = Poller::new(2).unwrap();
        for (socket, _) in &pairs {
            poller.add(socket, 0, Interest::Write).unwrap();
        }
        assert_eq!(poller.wait(None).unwrap(), 2);
    }

    #[test]
    fn a_timeout_is_rounded_up_to_whole_milliseconds() {
        let ms = |timeout| i32::from(whole_ms(Some(timeout)));
        assert_eq!(ms(Duration::ZERO), 0);
        assert_eq!(ms(Duration::from_nanos(1)), 1);
        assert_eq!(ms(Duration::from_millis(7)), 7);
        assert_eq!(ms(Duration::from_micros(7001)), 8);
        assert_eq!(ms(Duration::MAX), i32::MAX);
        assert_eq!(i32::from(whole_ms(None)), -1);
    }
}
