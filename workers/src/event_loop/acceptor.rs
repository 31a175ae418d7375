//! The listening sockets: when epoll(7) watches them, when accepting backs off, how a connection is accepted.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use super::FIRST_LISTENER_KEY;
use super::accept_delay::AcceptDelay;
use super::client;
use super::rate_limited_log::RateLimitedLog;
use super::transport::{Encrypted, TlsContext, Transport};
use crate::connection::ConnInfo;
use crate::event_loop::client_table::Token;
use crate::event_loop::drive::WorkerContext;
use crate::event_loop::poller::{Interest, Poller};
use crate::process::fork_guard::FdGuard;
use crate::shared::fd::{self, Accepted, Arrival, accept};
use crate::shared::log::{Level, Value};
use crate::shared::scoreboard::ServerState;
use crate::shared::scoreboard::{Counter, Header};
use crate::shared::socket_name::SocketName;
use crate::tls::TlsConfig;
use crate::worker_init::{Listener, Owner};

/// The first backoff after a lack of descriptors or memory, and the maximum.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// An accepted connection.
pub(super) struct NewConnection {
    pub(super) transport: Transport,
    pub(super) info: ConnInfo,
    /// What TCP knows of its time in the accept queue.
    pub(super) arrival: Option<Arrival>,
    /// Whether the connection can be served.
    pub(super) is_usable: bool,
}

/// The outcome of one accept.
pub(super) enum Outcome {
    Connection(NewConnection),
    /// The accept queue is empty, or accepting failed and backs off.
    Nothing,
    /// There are not enough descriptors or memory. The failure is counted but not logged yet: closing another
    /// connection may help.
    Exhausted(io::Error),
}

/// All listeners of this worker.
pub(super) struct Acceptor {
    /// Declared before the listeners, because they have to be dropped first.
    guards: Vec<FdGuard>,
    listeners: Vec<Listener>,
    /// Says whether another server has the listeners, too.
    header: &'static Header,
    state: AcceptorState,
    /// The next backoff, if accepting fails for lack of resources.
    backoff: Duration,
    delay: AcceptDelay,
    failures: RateLimitedLog,
    /// What encrypted connections share, if connections over TCP are encrypted.
    tls: Option<Rc<TlsContext>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AcceptorState {
    /// epoll watches the listeners.
    Watching,
    /// epoll does not watch the listeners until then: the process is out of descriptors or memory.
    BackingOff { until: Instant },
    /// epoll does not watch the listeners until connections end.
    Full,
    /// epoll does not watch the listeners until then, or until the first bytes of this client are here.
    AwaitingBytes { of: Token, until: Instant },
    /// The listeners are closed for good.
    Closed,
}

impl Acceptor {
    pub(super) fn new(
        listeners: Vec<Listener>,
        header: &'static Header,
        tls: Option<TlsConfig>,
    ) -> Self {
        let guards =
            listeners.iter().map(|listener| FdGuard::of(listener.socket.as_fd())).collect();
        Self {
            guards,
            listeners,
            header,
            state: AcceptorState::Full,
            backoff: FIRST_BACKOFF,
            delay: AcceptDelay::default(),
            failures: RateLimitedLog::default(),
            tls: tls.map(|config| Rc::new(TlsContext::new(config, client::tls::failures()))),
        }
    }

    /// The address of the first listener.
    pub(super) fn first_name(&self) -> Option<SocketName> {
        self.listeners.first().map(|listener| listener.name.clone())
    }

    pub(super) fn len(&self) -> usize {
        self.listeners.len()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == AcceptorState::Closed
    }

    /// Has epoll watch the listeners.
    pub(super) fn open(&mut self, poller: &Poller) -> io::Result<()> {
        for (index, listener) in self.listeners.iter().enumerate() {
            poller.add(&listener.socket, FIRST_LISTENER_KEY + index as u64, Interest::Accept)?;
        }
        self.state = AcceptorState::Watching;
        Ok(())
    }

    /// Stops accepting: this worker has the maximum number of connections.
    pub(super) fn pause(&mut self, poller: &Poller) {
        if self.is_closed() {
            return;
        }
        self.unwatch(poller);
        self.state = AcceptorState::Full;
    }

    /// The client whose first bytes accepting waits for.
    pub(super) fn awaits_bytes_from(&self) -> Option<Token> {
        match self.state {
            AcceptorState::AwaitingBytes { of, .. } => Some(of),
            AcceptorState::Watching
            | AcceptorState::BackingOff { .. }
            | AcceptorState::Full
            | AcceptorState::Closed => None,
        }
    }

    /// Accepts again if the backoff is over, or there is room, or the client that accepting waits for is not
    /// silent any more.
    pub(super) fn resume(
        &mut self,
        poller: &Poller,
        context: &WorkerContext,
        has_room: bool,
        is_silent: bool,
    ) {
        let now = context.clock.now();
        let is_due = match self.state {
            AcceptorState::BackingOff { until } => now >= until,
            AcceptorState::Full => has_room,
            AcceptorState::AwaitingBytes { until, .. } if is_silent && now >= until => {
                self.delay.was_in_vain(now);
                true
            }
            AcceptorState::AwaitingBytes { .. } => !is_silent,
            AcceptorState::Watching | AcceptorState::Closed => false,
        };
        if is_due && let Err(error) = self.open(poller) {
            self.back_off(&error, poller, context);
        }
    }

    /// When a backoff, or the wait for a client's first bytes, is over.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            AcceptorState::BackingOff { until } | AcceptorState::AwaitingBytes { until, .. } => {
                Some(until)
            }
            AcceptorState::Watching | AcceptorState::Full | AcceptorState::Closed => None,
        }
    }

    /// Whether another worker may accept the next connection of this listener. In an upgrade, those of the other
    /// server may, even from a slot's own socket.
    pub(super) fn has_other_acceptors(&self, index: usize) -> bool {
        let is_of_several = match self.listeners.get(index).map(|listener| listener.owner) {
            Some(Owner::Supervisor | Owner::Outside) => self.header.worker_count() > 1,
            Some(Owner::Slot) | None => false,
        };
        is_of_several || self.header.shares_listeners()
    }

    /// Accepts one connection. epoll does not watch the listener until [`Acceptor::accepted`].
    pub(super) fn accept(
        &mut self,
        index: usize,
        poller: &Poller,
        context: &WorkerContext,
    ) -> Outcome {
        let Some(listener) = self.listeners.get(index) else { return Outcome::Nothing };
        match accept(listener.socket.as_fd()) {
            Accepted::Connection { socket, peer } => {
                if let Err(error) = poller.remove(&listener.socket) {
                    self.back_off(&error, poller, context);
                }
                Outcome::Connection(self.admit(index, socket, peer, context))
            }
            Accepted::Empty => Outcome::Nothing,
            Accepted::Exhausted(error) => {
                context.entry.counters.inc(Counter::ConnAcceptError);
                Outcome::Exhausted(error)
            }
            Accepted::Failed(error) => {
                context.entry.counters.inc(Counter::ConnAcceptError);
                self.back_off(&error, poller, context);
                Outcome::Nothing
            }
        }
    }

    /// The connection has been served as far as it goes. Has epoll watch the listener again, at the tail of the
    /// kernel's queue of waiters, or none of the listeners for a moment if the client is `silent`.
    pub(super) fn accepted(
        &mut self,
        index: usize,
        silent: Option<Token>,
        poller: &Poller,
        context: &WorkerContext,
    ) {
        if self.state != AcceptorState::Watching {
            return;
        }
        self.backoff = FIRST_BACKOFF;
        let until = self.delay.until(context.clock.now());
        if let (Some(of), Some(until)) = (silent, until) {
            for (_, other) in self.listeners.iter().enumerate().filter(|(it, _)| *it != index) {
                // ENOENT: epoll did not watch it.
                let _ = poller.remove(&other.socket);
            }
            self.state = AcceptorState::AwaitingBytes { of, until };
            return;
        }
        let Some(listener) = self.listeners.get(index) else { return };
        let key = FIRST_LISTENER_KEY + index as u64;
        if let Err(error) = poller.add(&listener.socket, key, Interest::Accept) {
            self.back_off(&error, poller, context);
        }
    }

    /// Accepts one connection of a queue that is being emptied.
    pub(super) fn accept_queued(&mut self, index: usize, context: &WorkerContext) -> Outcome {
        let Some(listener) = self.listeners.get(index) else { return Outcome::Nothing };
        match accept(listener.socket.as_fd()) {
            Accepted::Connection { socket, peer } => {
                Outcome::Connection(self.admit(index, socket, peer, context))
            }
            Accepted::Empty => Outcome::Nothing,
            Accepted::Exhausted(error) => {
                context.entry.counters.inc(Counter::ConnAcceptError);
                Outcome::Exhausted(error)
            }
            Accepted::Failed(error) => {
                context.entry.counters.inc(Counter::ConnAcceptError);
                self.log_failure(&error, context);
                Outcome::Nothing
            }
        }
    }

    /// How many connections wait in the accept queue of one listener; `None` if the kernel does not say.
    pub(super) fn queued(&self, index: usize) -> Option<u32> {
        let queue = fd::accept_queue(self.listeners.get(index)?.socket.as_fd())?;
        Some(queue.len)
    }

    /// Whether the server stops, so that a queue may be closed before this worker gets the command.
    pub(super) fn is_server_stopping(&self) -> bool {
        self.header.state() == ServerState::Stopping
    }

    /// Whether the idle connections of the server go to its successor.
    pub(super) fn passes_connections(&self) -> bool {
        self.header.passes_connections()
    }

    /// Whether the idle connections of the server end with its workers.
    pub(super) fn ends_connections(&self) -> bool {
        self.header.is_paused() || (self.is_server_stopping() && !self.passes_connections())
    }

    /// Whether what the clients in this queue have sent was dropped, so that they will retransmit it.
    pub(super) fn is_queue_closed(&self, index: usize) -> bool {
        self.listeners.get(index).is_some_and(|it| fd::is_queue_closed(it.socket.as_fd()))
    }

    /// Closes the accept queues of an orphan for new connections, as the supervisor would have done.
    pub(super) fn close_queues(&self) {
        for socket in self.unowned() {
            // Ignored, here and below: another orphan was faster, or the socket is shut down already.
            let _ = fd::close_queue(socket.as_fd());
        }
    }

    /// Shuts an orphan's listeners down for every process that holds them. Another orphan that is in a long
    /// request still holds its duplicates, and a new server could not bind the address as long as that takes.
    pub(super) fn shut_down(&self) {
        for socket in self.unowned() {
            let _ = shutdown(socket.as_raw_fd(), Shutdown::Read);
        }
    }

    /// The listeners that nobody needs once the supervisor is gone. In an upgrade another server needs all.
    fn unowned(&self) -> impl Iterator<Item = &OwnedFd> {
        let is_shared = self.header.shares_listeners();
        self.listeners.iter().filter_map(move |listener| match listener.owner {
            Owner::Supervisor | Owner::Slot if !is_shared => Some(&listener.socket),
            Owner::Supervisor | Owner::Slot | Owner::Outside => None,
        })
    }

    /// The listening sockets.
    pub(super) fn sockets(&self) -> impl Iterator<Item = &OwnedFd> {
        self.listeners.iter().map(|listener| &listener.socket)
    }

    /// Closes the listeners for good, except for the numbers of those that are lost.
    pub(super) fn abandon(&mut self, poller: &Poller, are_lost: &[bool]) {
        self.unwatch(poller);
        self.guards.clear();
        for (listener, is_lost) in self.listeners.drain(..).zip(are_lost) {
            if *is_lost {
                std::mem::forget(listener.socket);
            }
        }
        self.state = AcceptorState::Closed;
    }

    /// Closes the listeners for good.
    pub(super) fn close(&mut self, poller: &Poller) {
        self.unwatch(poller);
        self.guards.clear();
        self.listeners.clear();
        self.state = AcceptorState::Closed;
    }

    fn unwatch(&self, poller: &Poller) {
        for listener in &self.listeners {
            // ENOENT: epoll did not watch it.
            let _ = poller.remove(&listener.socket);
        }
    }

    /// Stops accepting for a while: there are not enough descriptors, memory or epoll watches.
    pub(super) fn back_off(&mut self, error: &io::Error, poller: &Poller, context: &WorkerContext) {
        if self.is_closed() {
            return;
        }
        self.log_failure(error, context);
        self.unwatch(poller);
        self.state = AcceptorState::BackingOff { until: context.clock.now() + self.backoff };
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }

    /// Counts a connection. One getsockopt(2) says how long a TCP connection waited, and whether its peer is
    /// still there.
    fn admit(
        &self,
        index: usize,
        socket: OwnedFd,
        peer: SocketName,
        context: &WorkerContext,
    ) -> NewConnection {
        context.entry.counters.inc(Counter::ConnAcceptSuccess);
        let arrival = match peer {
            SocketName::Inet(_) => fd::arrival(socket.as_fd()),
            SocketName::Unix(_) => None,
        };
        if let Some(arrival) = arrival {
            context.entry.queue_wait.record(arrival.waited);
        }
        let local = self.listeners[index].name.clone();
        let mut info = ConnInfo::new(peer, local, context.clock.now());
        info.listener = index as u16;
        match self.transport(socket, &info, context) {
            Ok(transport) => NewConnection { transport, info, arrival, is_usable: true },
            // Never without TLS: whatever the client has sent is not read.
            Err(socket) => {
                let transport = Transport::plain(socket);
                NewConnection { transport, info, arrival, is_usable: false }
            }
        }
    }

    /// Puts TLS on a TCP connection, if there is a certificate. A unix socket carries HTTP itself: its peer is on this
    /// machine, and permissions protect it.
    ///
    /// Errors: the socket, if the kernel has no random bytes; the failure is logged.
    fn transport(
        &self,
        socket: OwnedFd,
        info: &ConnInfo,
        context: &WorkerContext,
    ) -> Result<Transport, OwnedFd> {
        let (Some(tls), SocketName::Inet(_)) = (&self.tls, &info.local) else {
            return Ok(Transport::plain(socket));
        };
        match Encrypted::new(tls) {
            Ok(tls) => Ok(Transport::encrypted(socket, tls)),
            Err(reason) => {
                context.log.line(Level::Error, "tls.failed", &[("reason", Value::Text(&reason))]);
                Err(socket)
            }
        }
    }

    /// Logs a failed accept, unless one was logged a short time ago.
    pub(super) fn log_failure(&mut self, error: &io::Error, context: &WorkerContext) {
        // accept(2): the socket does not listen. Another orphan has shut it down ([`Acceptor::shut_down`]); that
        // the supervisor is gone is in the same batch of events.
        if error.raw_os_error() == Some(nix::libc::EINVAL) {
            return;
        }
        if self.failures.is_due(context.clock.now()) {
            context.log.line(Level::Error, "accept.failed", &[("error", Value::Display(error))]);
        }
    }
}
