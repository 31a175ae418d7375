//! The listening sockets: when they are watched, when they rest, how a connection is taken.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{Backlog, Shutdown, listen, shutdown};

use super::FIRST_DOOR_KEY;
use super::complaint::Complaint;
use crate::connection::{ConnInfo, SocketName};
use crate::drive::Desk;
use crate::fd::{self, Accepted, Arrival, accept};
use crate::fork_guard::Mark;
use crate::log::{Level, Value};
use crate::metrics::{Counter, Header};
use crate::poller::{Interest, Poller};
use crate::post::{Listener, Owner};

/// First rest after a lack of descriptors or memory, and the longest.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// A connection at the door.
pub(super) struct Arrived {
    pub(super) socket: OwnedFd,
    pub(super) info: ConnInfo,
    /// What TCP knows of its time in the queue.
    pub(super) arrival: Option<Arrival>,
}

/// All listeners of this worker.
pub(super) struct Doors {
    /// Before the listeners, because they go first.
    guards: Vec<Mark>,
    listeners: Vec<Listener>,
    /// Says whether another server has them, too.
    header: &'static Header,
    life: Life,
    /// The next rest, when accepting fails for want of resources.
    rest: Duration,
    complaint: Complaint,
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
    pub(super) fn new(listeners: Vec<Listener>, header: &'static Header) -> Self {
        let guards = listeners.iter().map(|listener| Mark::of(listener.socket.as_fd())).collect();
        let complaint = Complaint::default();
        Self { guards, listeners, header, life: Life::Full, rest: FIRST_REST, complaint }
    }

    /// What the first of them is called.
    pub(super) fn first_name(&self) -> Option<SocketName> {
        self.listeners.first().map(|listener| listener.name.clone())
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
    pub(super) fn pause(&mut self, poller: &Poller) {
        self.unwatch(poller);
        self.life = Life::Full;
    }

    /// Watches them again when the rest is over or there is room.
    pub(super) fn tend(&mut self, poller: &Poller, desk: &Desk, has_room: bool) {
        let is_time = match self.life {
            Life::Resting { until } => desk.clock.now() >= until,
            Life::Full => has_room,
            Life::Watched | Life::Closed => false,
        };
        if is_time && let Err(error) = self.open(poller) {
            self.take_a_rest(&error, poller, desk);
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
    pub(super) fn accept(&mut self, index: usize, poller: &Poller, desk: &Desk) -> Option<Arrived> {
        let listener = self.listeners.get(index)?;
        match accept(listener.socket.as_fd()) {
            Accepted::Connection(socket, peer) => {
                let key = FIRST_DOOR_KEY + index as u64;
                let moved = poller
                    .remove(&listener.socket)
                    .and_then(|()| poller.add(&listener.socket, key, Interest::Accept));
                match moved {
                    Ok(()) => self.rest = FIRST_REST,
                    Err(error) => self.take_a_rest(&error, poller, desk),
                }
                Some(self.admit(index, socket, peer, desk))
            }
            Accepted::Nobody => None,
            Accepted::Exhausted(error) | Accepted::Failed(error) => {
                desk.block.row.inc(Counter::ConnAcceptError);
                self.take_a_rest(&error, poller, desk);
                None
            }
        }
    }

    /// Accepts one connection of a queue that is being emptied.
    pub(super) fn take_one(&mut self, index: usize, desk: &Desk) -> Option<Arrived> {
        match accept(self.listeners.get(index)?.socket.as_fd()) {
            Accepted::Connection(socket, peer) => Some(self.admit(index, socket, peer, desk)),
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

    /// Those that nobody needs when the supervisor is gone. During an upgrade another server needs all.
    fn orphaned(&self) -> impl Iterator<Item = &OwnedFd> {
        let is_shared = self.header.shares_listeners();
        self.listeners.iter().filter_map(move |listener| match listener.owner {
            Owner::Supervisor if !is_shared => Some(&listener.socket),
            Owner::Supervisor | Owner::Outside => None,
        })
    }

    /// Closes them for good.
    pub(super) fn close(&mut self, poller: &Poller) {
        self.unwatch(poller);
        self.guards.clear();
        self.listeners.clear();
        self.life = Life::Closed;
    }

    fn unwatch(&self, poller: &Poller) {
        for listener in &self.listeners {
            // ENOENT: epoll did not know it.
            let _ = poller.remove(&listener.socket);
        }
    }

    /// Leaves them out of epoll for a while: there are not enough descriptors, memory or watches.
    fn take_a_rest(&mut self, error: &io::Error, poller: &Poller, desk: &Desk) {
        self.complain(error, desk);
        self.unwatch(poller);
        self.life = Life::Resting { until: desk.clock.now() + self.rest };
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }

    /// One getsockopt(2) a TCP connection tells how long it waited and whether anybody is still there.
    fn admit(&self, index: usize, socket: OwnedFd, peer: SocketName, desk: &Desk) -> Arrived {
        desk.block.row.inc(Counter::ConnAcceptSuccess);
        let arrival = match peer {
            SocketName::Inet(_) => fd::arrival(socket.as_fd()),
            SocketName::Unix(_) => None,
        };
        if let Some(arrival) = arrival {
            desk.block.queue_wait.record(arrival.waited);
        }
        let info = ConnInfo {
            peer,
            local: self.listeners[index].name.clone(),
            listener: index as u16,
            accepted: desk.clock.now(),
            served: 0,
        };
        Arrived { socket, info, arrival }
    }

    fn complain(&mut self, error: &io::Error, desk: &Desk) {
        // accept(2): not listening. A fellow orphan has ended it ([`Doors::end`]); that the supervisor is
        // gone is in the same batch of events.
        if error.raw_os_error() == Some(nix::libc::EINVAL) {
            return;
        }
        if self.complaint.is_due(desk.clock.now()) {
            desk.log.line(Level::Error, "accept.failed", &[("error", Value::Display(error))]);
        }
    }
}
