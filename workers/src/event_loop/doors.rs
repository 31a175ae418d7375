//! The listening sockets: when they are watched, when they rest, how a connection is taken.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{Backlog, Shutdown, listen, shutdown};

use super::FIRST_DOOR_KEY;
use crate::connection::{ConnInfo, SocketName};
use crate::drive::Desk;
use crate::fd::{self, Accepted, accept};
use crate::fork_guard;
use crate::log::{Level, Value};
use crate::metrics::Counter;
use crate::poller::{Interest, Poller};
use crate::post::{Listener, Owner};

/// First rest after a lack of descriptors or memory, and the longest.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(1);
/// A lack of descriptors is logged at most so often.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);

/// All listeners of this worker.
pub(super) struct Doors {
    listeners: Vec<Listener>,
    life: Life,
    /// The next rest, when accepting fails for want of resources.
    rest: Duration,
    complained: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// epoll watches them.
    Watched,
    /// Out of epoll until then: the process is out of descriptors or memory.
    Resting { until: Instant },
    /// Out of epoll until connections end.
    Full,
    /// Closed for good.
    Closed,
}

impl Doors {
    pub(super) fn new(listeners: Vec<Listener>) -> Self {
        for listener in &listeners {
            fork_guard::guard(listener.socket.as_fd());
        }
        Self { listeners, life: Life::Full, rest: FIRST_REST, complained: None }
    }

    pub(super) fn len(&self) -> usize {
        self.listeners.len()
    }

    pub(super) fn are_closed(&self) -> bool {
        self.life == Life::Closed
    }

    /// Watches them.
    pub(super) fn open(&mut self, poller: &Poller) -> io::Result<()> {
        for (index, listener) in self.listeners.iter().enumerate() {
            poller.add(&listener.socket, FIRST_DOOR_KEY + index as u64, Interest::Accept)?;
        }
        self.life = Life::Watched;
        Ok(())
    }

    /// Leaves them out of epoll: this worker has all the connections it may hold.
    pub(super) fn pause(&mut self, poller: &Poller) -> io::Result<()> {
        self.unwatch(poller)?;
        self.life = Life::Full;
        Ok(())
    }

    /// Watches them again when the rest is over or there is room.
    pub(super) fn tend(&mut self, poller: &Poller, now: Instant, has_room: bool) -> io::Result<()> {
        match self.life {
            Life::Resting { until } if now >= until => self.open(poller),
            Life::Full if has_room => self.open(poller),
            Life::Watched | Life::Resting { .. } | Life::Full | Life::Closed => Ok(()),
        }
    }

    /// When a rest is over.
    pub(super) fn next_look(&self) -> Option<Instant> {
        match self.life {
            Life::Resting { until } => Some(until),
            Life::Watched | Life::Full | Life::Closed => None,
        }
    }

    /// Accepts one connection and moves the listener to the tail of the kernel's queue of waiters.
    pub(super) fn accept(
        &mut self,
        index: usize,
        poller: &Poller,
        desk: &Desk,
    ) -> io::Result<Option<(OwnedFd, ConnInfo)>> {
        let Some(listener) = self.listeners.get(index) else { return Ok(None) };
        match accept(listener.socket.as_fd()) {
            Accepted::Connection(socket, peer) => {
                poller.remove(&listener.socket)?;
                poller.add(&listener.socket, FIRST_DOOR_KEY + index as u64, Interest::Accept)?;
                self.rest = FIRST_REST;
                Ok(Some((socket, self.admit(index, peer, desk))))
            }
            Accepted::Nobody => Ok(None),
            Accepted::Exhausted(error) | Accepted::Failed(error) => {
                desk.block.row.inc(Counter::ConnAcceptError);
                self.complain(&error, desk);
                self.unwatch(poller)?;
                self.life = Life::Resting { until: desk.clock.now() + self.rest };
                self.rest = (self.rest * 2).min(LONGEST_REST);
                Ok(None)
            }
        }
    }

    /// Accepts one connection of a queue that is being emptied.
    pub(super) fn take_one(&mut self, index: usize, desk: &Desk) -> Option<(OwnedFd, ConnInfo)> {
        match accept(self.listeners.get(index)?.socket.as_fd()) {
            Accepted::Connection(socket, peer) => Some((socket, self.admit(index, peer, desk))),
            Accepted::Nobody => None,
            Accepted::Exhausted(error) | Accepted::Failed(error) => {
                desk.block.row.inc(Counter::ConnAcceptError);
                self.complain(&error, desk);
                None
            }
        }
    }

    /// How many connections wait at one of them; `None` where the kernel does not tell.
    pub(super) fn queued(&self, index: usize) -> Option<u32> {
        let queue = fd::accept_queue(self.listeners.get(index)?.socket.as_fd())?;
        Some(queue.len)
    }

    /// Shuts the queues of an orphan's sockets for new connections (listen(2) with a backlog of 0), as
    /// the supervisor would have done.
    pub(super) fn shut(&self) {
        for socket in self.orphaned() {
            // Ignored, here and below: another orphan was faster, or the socket is ended anyway.
            let _ = Backlog::new(0).and_then(|none| listen(socket, none));
        }
    }

    /// Ends an orphan's sockets for all who hold them. A fellow worker that is in a long request still
    /// has its duplicates; a new server could not bind the address for so long.
    pub(super) fn end(&self) {
        for socket in self.orphaned() {
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
        }
    }

    /// Those that nobody needs when the supervisor is gone.
    fn orphaned(&self) -> impl Iterator<Item = &OwnedFd> {
        self.listeners.iter().filter_map(|listener| match listener.owner {
            Owner::Supervisor => Some(&listener.socket),
            Owner::Outside => None,
        })
    }

    /// Closes them for good.
    pub(super) fn close(&mut self, poller: &Poller) {
        // They are being closed: whether epoll still knew them makes no difference.
        let _ = self.unwatch(poller);
        for listener in self.listeners.drain(..) {
            fork_guard::forget(listener.socket.as_fd());
        }
        self.life = Life::Closed;
    }

    fn unwatch(&mut self, poller: &Poller) -> io::Result<()> {
        if self.life == Life::Watched {
            for listener in &self.listeners {
                poller.remove(&listener.socket)?;
            }
        }
        Ok(())
    }

    fn admit(&self, index: usize, peer: SocketName, desk: &Desk) -> ConnInfo {
        desk.block.row.inc(Counter::ConnAcceptSuccess);
        ConnInfo {
            peer,
            local: self.listeners[index].name.clone(),
            listener: index as u16,
            accepted: desk.clock.now(),
            served: 0,
        }
    }

    fn complain(&mut self, error: &io::Error, desk: &Desk) {
        // accept(2): not listening. A fellow orphan has ended it ([`Doors::end`]); that the supervisor is
        // gone is in the same batch of events.
        if error.raw_os_error() == Some(nix::libc::EINVAL) {
            return;
        }
        let now = desk.clock.now();
        let is_due = self
            .complained
            .is_none_or(|last| now.saturating_duration_since(last) >= COMPLAINT_INTERVAL);
        if is_due {
            self.complained = Some(now);
            desk.log.line(Level::Error, "accept.failed", &[("error", Value::Display(error))]);
        }
    }
}
