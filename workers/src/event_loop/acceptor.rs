//! The listening sockets: when they are watched, when they rest, how a connection is taken.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use super::FIRST_DOOR_KEY;
use super::deference::Deference;
use super::rate_limited_log::RateLimitedLog;
use crate::connection::ConnInfo;
use crate::event_loop::client_table::Token;
use crate::event_loop::drive::WorkerContext;
use crate::event_loop::poller::{Interest, Poller};
use crate::process::fork_guard::Mark;
use crate::shared::fd::{self, Accepted, Arrival, accept};
use crate::shared::log::{Level, Value};
use crate::shared::scoreboard::ServerState;
use crate::shared::scoreboard::{Counter, Header};
use crate::shared::socket_name::SocketName;
use crate::worker_init::{Listener, Owner};

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

/// Outcome of looking for a connection.
pub(super) enum Taken {
    Connection(Arrived),
    Nobody,
    /// There are not enough descriptors or memory. Nothing is counted or logged yet: there may be some when
    /// another connection is closed.
    Exhausted(io::Error),
}

/// All listeners of this worker.
pub(super) struct Acceptor {
    /// Before the listeners, because they go first.
    guards: Vec<Mark>,
    listeners: Vec<Listener>,
    /// Says whether another server has them, too.
    header: &'static Header,
    life: Life,
    /// The next rest, when accepting fails for want of resources.
    rest: Duration,
    deference: Deference,
    complaint: RateLimitedLog,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// epoll watches them.
    Watched,
    /// Out of epoll until then: the process is out of descriptors or memory.
    Resting { until: Instant },
    /// Out of epoll until connections end.
    Full,
    /// Out of epoll until then, or until the first bytes of this connection are here.
    Deferring { to: Token, until: Instant },
    /// Closed for good.
    Closed,
}

impl Acceptor {
    pub(super) fn new(listeners: Vec<Listener>, header: &'static Header) -> Self {
        let guards = listeners.iter().map(|listener| Mark::of(listener.socket.as_fd())).collect();
        let (deference, complaint) = (Deference::default(), RateLimitedLog::default());
        Self { guards, listeners, header, life: Life::Full, rest: FIRST_REST, deference, complaint }
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
        if self.are_closed() {
            return;
        }
        self.unwatch(poller);
        self.life = Life::Full;
    }

    /// Whose first bytes they wait for.
    pub(super) fn deferring_to(&self) -> Option<Token> {
        match self.life {
            Life::Deferring { to, .. } => Some(to),
            Life::Watched | Life::Resting { .. } | Life::Full | Life::Closed => None,
        }
    }

    /// Watches them again when the rest is over, or there is room, or the connection that they wait for has
    /// ceased to be silent.
    pub(super) fn tend(
        &mut self,
        poller: &Poller,
        context: &WorkerContext,
        has_room: bool,
        is_silent: bool,
    ) {
        let now = context.clock.now();
        let is_time = match self.life {
            Life::Resting { until } => now >= until,
            Life::Full => has_room,
            Life::Deferring { until, .. } if is_silent && now >= until => {
                self.deference.was_in_vain(now);
                true
            }
            Life::Deferring { .. } => !is_silent,
            Life::Watched | Life::Closed => false,
        };
        if is_time && let Err(error) = self.open(poller) {
            self.take_a_rest(&error, poller, context);
        }
    }

    /// When a rest, or the wait for a connection's first bytes, is over.
    pub(super) fn next_look(&self) -> Option<Instant> {
        match self.life {
            Life::Resting { until } | Life::Deferring { until, .. } => Some(until),
            Life::Watched | Life::Full | Life::Closed => None,
        }
    }

    /// Whether another worker may take the next connection of this one. In an upgrade, those of the other
    /// server may, even of a slot's own socket.
    pub(super) fn has_other_acceptors(&self, index: usize) -> bool {
        let is_of_several = match self.listeners.get(index).map(|listener| listener.owner) {
            Some(Owner::Supervisor | Owner::Outside) => self.header.worker_count() > 1,
            Some(Owner::Slot) | None => false,
        };
        is_of_several || self.header.shares_listeners()
    }

    /// Accepts one connection. The listener is out of epoll until [`Acceptor::accepted`].
    pub(super) fn accept(
        &mut self,
        index: usize,
        poller: &Poller,
        context: &WorkerContext,
    ) -> Taken {
        let Some(listener) = self.listeners.get(index) else { return Taken::Nobody };
        match accept(listener.socket.as_fd()) {
            Accepted::Connection(socket, peer) => {
                if let Err(error) = poller.remove(&listener.socket) {
                    self.take_a_rest(&error, poller, context);
                }
                Taken::Connection(self.admit(index, socket, peer, context))
            }
            Accepted::Nobody => Taken::Nobody,
            Accepted::Exhausted(error) => {
                context.entry.counters.inc(Counter::ConnAcceptError);
                Taken::Exhausted(error)
            }
            Accepted::Failed(error) => {
                context.entry.counters.inc(Counter::ConnAcceptError);
                self.take_a_rest(&error, poller, context);
                Taken::Nobody
            }
        }
    }

    /// The connection has been served as far as it goes. Watches the listener again, at the tail of the
    /// kernel's queue of waiters, or leaves them all out for a moment where the connection is `silent`.
    pub(super) fn accepted(
        &mut self,
        index: usize,
        silent: Option<Token>,
        poller: &Poller,
        context: &WorkerContext,
    ) {
        if self.life != Life::Watched {
            return;
        }
        self.rest = FIRST_REST;
        let until = self.deference.until(context.clock.now());
        if let (Some(to), Some(until)) = (silent, until) {
            for (_, other) in self.listeners.iter().enumerate().filter(|(it, _)| *it != index) {
                // ENOENT: epoll did not know it.
                let _ = poller.remove(&other.socket);
            }
            self.life = Life::Deferring { to, until };
            return;
        }
        let Some(listener) = self.listeners.get(index) else { return };
        let key = FIRST_DOOR_KEY + index as u64;
        if let Err(error) = poller.add(&listener.socket, key, Interest::Accept) {
            self.take_a_rest(&error, poller, context);
        }
    }

    /// Accepts one connection of a queue that is being emptied.
    pub(super) fn take_one(&mut self, index: usize, context: &WorkerContext) -> Taken {
        let Some(listener) = self.listeners.get(index) else { return Taken::Nobody };
        match accept(listener.socket.as_fd()) {
            Accepted::Connection(socket, peer) => {
                Taken::Connection(self.admit(index, socket, peer, context))
            }
            Accepted::Nobody => Taken::Nobody,
            Accepted::Exhausted(error) => {
                context.entry.counters.inc(Counter::ConnAcceptError);
                Taken::Exhausted(error)
            }
            Accepted::Failed(error) => {
                context.entry.counters.inc(Counter::ConnAcceptError);
                self.complain(&error, context);
                Taken::Nobody
            }
        }
    }

    /// How many connections wait at one of them; `None` where the kernel does not tell.
    pub(super) fn queued(&self, index: usize) -> Option<u32> {
        let queue = fd::accept_queue(self.listeners.get(index)?.socket.as_fd())?;
        Some(queue.len)
    }

    /// Whether the server stops, so that a queue may be closed before this worker hears why.
    pub(super) fn are_leaving(&self) -> bool {
        self.header.state() == ServerState::Stopping
    }

    /// Whether what the clients in this queue have sent was dropped, and is still to come again.
    pub(super) fn is_queue_closed(&self, index: usize) -> bool {
        self.listeners.get(index).is_some_and(|it| fd::is_queue_closed(it.socket.as_fd()))
    }

    /// Shuts the queues of an orphan's sockets for new connections, as the supervisor would have done.
    pub(super) fn shut(&self) {
        for socket in self.orphaned() {
            // Ignored, here and below: another orphan was faster, or the socket is ended anyway.
            let _ = fd::close_queue(socket.as_fd());
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
            Owner::Supervisor | Owner::Slot if !is_shared => Some(&listener.socket),
            Owner::Supervisor | Owner::Slot | Owner::Outside => None,
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
    pub(super) fn take_a_rest(
        &mut self,
        error: &io::Error,
        poller: &Poller,
        context: &WorkerContext,
    ) {
        if self.are_closed() {
            return;
        }
        self.complain(error, context);
        self.unwatch(poller);
        self.life = Life::Resting { until: context.clock.now() + self.rest };
        self.rest = (self.rest * 2).min(LONGEST_REST);
    }

    /// One getsockopt(2) a TCP connection tells how long it waited and whether anybody is still there.
    fn admit(
        &self,
        index: usize,
        socket: OwnedFd,
        peer: SocketName,
        context: &WorkerContext,
    ) -> Arrived {
        context.entry.counters.inc(Counter::ConnAcceptSuccess);
        let arrival = match peer {
            SocketName::Inet(_) => fd::arrival(socket.as_fd()),
            SocketName::Unix(_) => None,
        };
        if let Some(arrival) = arrival {
            context.entry.queue_wait.record(arrival.waited);
        }
        let info = ConnInfo {
            peer,
            local: self.listeners[index].name.clone(),
            listener: index as u16,
            accepted: context.clock.now(),
            served: 0,
        };
        Arrived { socket, info, arrival }
    }

    /// Logs a failed accept, unless that was done a short time ago.
    pub(super) fn complain(&mut self, error: &io::Error, context: &WorkerContext) {
        // accept(2): not listening. A fellow orphan has ended it ([`Acceptor::end`]); that the supervisor is
        // gone is in the same batch of events.
        if error.raw_os_error() == Some(nix::libc::EINVAL) {
            return;
        }
        if self.complaint.is_due(context.clock.now()) {
            context.log.line(Level::Error, "accept.failed", &[("error", Value::Display(error))]);
        }
    }
}
