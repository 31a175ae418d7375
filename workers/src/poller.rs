//! epoll(7), level-triggered, through nix. The only file that names it.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// What an entry waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// EPOLLIN | EPOLLRDHUP.
    Read,
    /// EPOLLOUT.
    Write,
    /// Nothing but errors and hang-ups, which epoll always reports.
    Nothing,
    /// EPOLLIN | EPOLLEXCLUSIVE: a listener shared with other workers. Never modified, only removed
    /// and added again (EPOLL_CTL_MOD on an exclusive entry is EINVAL).
    Accept,
}

/// One event of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// What the entry was registered with.
    pub key: u64,
    /// Readable, or end of stream.
    pub readable: bool,
    /// Writable.
    pub writable: bool,
    /// EPOLLERR or EPOLLHUP: the connection was reset, or both directions are shut.
    pub hung_up: bool,
    /// EPOLLRDHUP: the peer has shut its sending direction.
    pub half_closed: bool,
}

/// An epoll instance and its batch of events.
pub struct Poller {
    _private: (),
}

impl Poller {
    /// A new instance that reports at most `batch` events at once.
    pub fn new(_batch: usize) -> io::Result<Self> {
        todo!()
    }
    /// EPOLL_CTL_ADD.
    pub fn add(&self, _fd: impl AsFd, _key: u64, _interest: Interest) -> io::Result<()> {
        todo!()
    }
    /// EPOLL_CTL_MOD.
    pub fn modify(&self, _fd: impl AsFd, _key: u64, _interest: Interest) -> io::Result<()> {
        todo!()
    }
    /// EPOLL_CTL_DEL.
    pub fn remove(&self, _fd: impl AsFd) -> io::Result<()> {
        todo!()
    }
    /// epoll_wait(2); `None` waits for ever. EINTR is an empty batch. Rounds the timeout up to whole
    /// milliseconds, so that a deadline has passed when this returns for it.
    pub fn wait(&mut self, _timeout: Option<Duration>) -> io::Result<usize> {
        todo!()
    }
    /// Event `index` of the last batch, `index` below what [`Poller::wait`] returned.
    pub fn event(&self, _index: usize) -> Event {
        todo!()
    }
}
