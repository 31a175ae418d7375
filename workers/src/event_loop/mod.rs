//! The worker's event loop: wait, accept, drive, expire, and in the end drain. Only this loop reads the clock.
//!
//! | phase | accepts | connections | ends when |
//! |---|---|---|---|
//! | Serving | yes | as the client asked | commanded otherwise |
//! | LameDuck | yes | close after the reply | commanded otherwise |
//! | Draining | what was in the accept queue at the start | close after the reply, unless they go to other workers | no client is busy, and idle clients had a moment for one more request (those of a closed accept queue had the time to retransmit) |
//! | Exiting | no | close after the reply | no reply is on its way, or the time limit is over |
//!
//! [`crate::worker_init`] lists everything that makes a worker exit.
//!
//! **Sharing the accept queue.** The listener is registered with EPOLLEXCLUSIVE and registered again after each
//! accept: epoll(7) wakes the waiter at the head of the listener's queue, and registration goes to its tail.
//! Otherwise all connections of a pool that is opened while the workers are idle would land on one worker.
//!
//! **Order within a batch.** The worker accepts a connection only if no other event is due before it: if it took
//! two at once, the second would wait for the first. For the same reason it does not accept while the first
//! request of the previous connection is on its way ([`accept_delay`]). But epoll reports descriptors that stay
//! ready in the same order each time, so behind a connection that always has a request the listener would never
//! come first. A listener that was passed over therefore goes first until a batch comes without it.

mod accept;
mod accept_delay;
mod acceptor;
pub mod access_log;
mod claimed_place;
pub mod client;
pub mod client_table;
mod client_timer;
mod clients;
pub mod clock;
mod control_socket;
pub mod deadlines;
mod disk_queue;
pub mod drive;
mod expiry;
mod file_transfer;
pub mod finished_request;
mod handlers;
mod kept_values;
mod own_descriptors;
mod phase;
pub mod poller;
mod rate_limited_log;
pub mod readiness_check;
pub mod record;
pub mod routes;
pub mod service_time;
mod sharing;
mod stalls;
mod supervision;
pub mod transport;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use crate::application::{Application, ShutdownRequest};
use crate::event_loop::access_log::AccessLog;
use crate::event_loop::client_table::Token;
use crate::event_loop::drive::{
    FileServer, Kept, Quarantine, ReadBuffer, Wait, WorkerContext, drive,
};
use crate::event_loop::poller::{Interest, PollEvent, Poller};
use crate::process::fork_guard::{self, FdGuard, ForkGuard};
use crate::settings::KeepaliveMode;
use crate::shared::log::{Level, Value};
use crate::shared::scoreboard::Command;
use crate::shared::socket_name::SocketName;
use crate::static_files::StaticFiles;
use crate::ticker::Ticker;
use crate::worker_init::{BootFailure, WorkerInit};

use acceptor::Acceptor;
use clients::Clients;
use disk_queue::DiskQueue;
use handlers::SignalHandlers;
use own_descriptors::OwnDescriptors;
use phase::{DRAIN_QUIET, DrainCause, Phase};
use sharing::Sharing;
use supervision::SupervisorLink;

/// The maximum number of events taken from the kernel at once.
const BATCH: usize = 256;
/// The loop turns at least this often, so that the supervisor sees that it is alive.
const MAX_SLEEP: Duration = Duration::from_secs(2);

/// Keys that epoll carries for descriptors that are no connection; no token is that large.
const DOORBELL_KEY: u64 = u64::MAX;
const CONTROL_KEY: u64 = u64::MAX - 1;
const MAILBOX_KEY: u64 = u64::MAX - 2;
const FIRST_LISTENER_KEY: u64 = u64::MAX - 0x1_0000;

/// What a worker left unfinished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Requests that were aborted while they were read, run or answered, and connections whose first request a
    /// closed accept queue may have dropped.
    pub abandoned_count: usize,
    /// The deadline for the exit of this process, if nobody else looks after it.
    pub exit_deadline: Option<Instant>,
}

/// One worker's event loop.
pub struct EventLoop<'a, A: Application> {
    /// Declared first, because they have to be dropped first: once a descriptor is closed, its number may at once
    /// belong to something else.
    guards: ForkGuards,
    app: &'a mut A,
    context: WorkerContext,
    reading: ReadBuffer,
    poller: Poller,
    acceptor: Acceptor,
    clients: Clients<A::Body>,
    schedule: Schedule,
    phase: Phase,
    link: SupervisorLink,
    ticker: Option<Box<dyn Ticker>>,
    handlers: SignalHandlers,
}

/// Keeps the loop's own descriptors from children of the application, and knows what they stand for.
struct ForkGuards {
    own: OwnDescriptors,
    _marks: [Option<FdGuard>; 3],
    _guarded: ForkGuard,
}

/// What is due in this turn and in the next one.
#[derive(Default)]
struct Schedule {
    /// Whether nothing was due before this turn.
    has_slept: bool,
    /// Clients that yielded after they used up their turn.
    yielded: VecDeque<Token>,
    /// The key of a listener that was ready, but behind something else.
    passed_over: Option<u64>,
    /// Clients whose file is not in the page cache yet.
    disk: DiskQueue,
}

impl<'a, A: Application> EventLoop<'a, A> {
    /// Registers everything that the loop waits for.
    pub fn new(init: WorkerInit, app: &'a mut A) -> io::Result<Self> {
        let WorkerInit { slot, generation, entry, header, control_fd, doorbell, .. } = init;
        let WorkerInit { listeners, settings, supervisor, log, access_log, ticker, .. } = init;
        let WorkerInit { tls, group, request_keys, .. } = init;
        let poller = Poller::new(BATCH)?;
        // Before the marks, so that the descriptors are still open when an error drops the marks.
        let link = SupervisorLink::new(doorbell, control_fd, supervisor);
        let guarded = fork_guard::begin();
        let marks = [Some(poller.as_fd()), link.doorbell(), link.control_fd()];
        let marks = marks.map(|fd| fd.map(FdGuard::of));
        link.watch(&poller)?;
        let mut acceptor = Acceptor::new(listeners, header, tls);
        acceptor.open(&poller)?;
        let now = Instant::now();
        let access = AccessLog::of(access_log, &log, &settings, (slot, generation));
        let mut clients = Clients::new(&settings, now);
        let mode = settings.keepalive_mode;
        let mut context = WorkerContext::new(settings, entry, log, access);
        context.quarantine = request_keys.map(|keys| Quarantine::new(&header.quarantine, keys));
        let group = group.filter(|_| mode != KeepaliveMode::Sticky);
        if let Some(group) = group {
            let sharing = Sharing::join(group, mode, &poller, &context.clock)?;
            clients.sharing = Some(Box::new(sharing));
        }
        let own = OwnDescriptors::of(&link, &acceptor, clients.sharing.as_deref());
        Ok(Self {
            guards: ForkGuards { own, _marks: marks, _guarded: guarded },
            app,
            reading: ReadBuffer::new(&context.settings),
            clients,
            context,
            poller,
            acceptor,
            schedule: Schedule::default(),
            phase: Phase::Serving,
            link,
            ticker,
            handlers: SignalHandlers::installed(now),
        })
    }

    /// The socket to the supervisor.
    pub fn control_fd(&self) -> Option<BorrowedFd<'_>> {
        self.link.control_fd()
    }

    /// Makes the request that the application has to answer before this worker is ready. The loop does this,
    /// because a child that the application forks meanwhile must not hold any descriptor of the worker.
    ///
    /// Errors: why the worker is not ready, with the tracebacks of the application.
    pub fn check_readiness(&mut self, path: &str) -> Result<(), BootFailure> {
        let settings = &self.context.settings;
        let local = self.acceptor.first_name().unwrap_or(SocketName::Unix(String::new()));
        let now = self.context.clock.now();
        self.app.keep_failures();
        let outcome = readiness_check::run(self.app, settings, path, local, now);
        let failures = self.app.take_failures();
        self.context.leave_if_forked();
        self.context.clock.read();
        outcome.map_err(|failure| {
            BootFailure::not_booted(format!("--reload-check: GET {path} {failure}.\n{failures}"))
        })
    }

    /// Opens the directories of static files.
    ///
    /// Errors: a directory cannot be opened.
    pub fn open_files(&mut self) -> Result<(), BootFailure> {
        let files = StaticFiles::open(&self.context.settings)
            .map_err(|error| BootFailure::not_booted(error.to_string()))?;
        self.context.files = files.map(|files| Box::new(FileServer::new(files)));
        Ok(())
    }

    /// Calls [`Application::ready`]. The loop does this for the same reason.
    ///
    /// Errors: those of [`Application::ready`].
    pub fn make_ready(&mut self) -> Result<(), BootFailure> {
        let outcome = self.app.ready();
        self.context.leave_if_forked();
        self.context.clock.read();
        outcome.map_err(BootFailure::not_booted)
    }

    /// Serves until the worker has to exit.
    pub fn run(mut self) -> io::Result<Unfinished> {
        while !self.turn()? {}
        Ok(self.close_clients())
    }

    /// Turns once, and returns whether that was the last turn.
    fn turn(&mut self) -> io::Result<bool> {
        let count = self.wait()?;
        let begun = self.context.requests.begun;
        self.context.wake(self.schedule.has_slept);
        self.clients.stalls.look(self.context.clock.now());
        self.take_batch(count);
        for _ in 0..self.schedule.yielded.len() {
            if self.ends_turn_early() {
                break;
            }
            if let Some(token) = self.schedule.yielded.pop_front() {
                self.serve(token, false);
            }
        }
        self.look_at_disk();
        if self.clients.sharing.is_some() {
            self.take_due();
            self.sweep();
        }
        self.check_deadlines();
        self.check_supervisor();
        self.follow_command();
        let awaits_bytes = self.acceptor.awaits_bytes_from();
        let is_silent = awaits_bytes.is_some_and(|token| self.clients.is_silent(token));
        let can_make_room = self.clients.can_make_room();
        self.acceptor.resume(&self.poller, &self.context, can_make_room, is_silent);
        if let Some(sharing) = &mut self.clients.sharing {
            let clock = &self.context.clock;
            let busy = clock.monotonic().saturating_sub(self.context.woke);
            let requests = self.context.requests.begun - begun;
            let requests = u32::try_from(requests).unwrap_or(u32::MAX);
            sharing.measure(busy, requests, self.clients.table.len(), clock);
        }
        self.context.flush_access_log();
        if let Some(files) = &mut self.context.files {
            files.forget_old(self.context.clock.now());
        }
        if self.handlers.reinstall(&self.context) {
            self.check_descriptors()?;
            self.context.give_back_memory();
        }
        if let Some(ticker) = &mut self.ticker {
            ticker.turn(self.context.clock.now());
        }
        Ok(self.is_done(count == 0))
    }

    /// Takes a batch of events. It polls without sleeping first, so that a busy worker never releases the
    /// interpreter's lock, and an idle one lets the application's threads run.
    fn wait(&mut self) -> io::Result<usize> {
        self.context.entry.tick();
        let count = self.poller.wait(Some(Duration::ZERO))?;
        let has_due = self.clients.sharing.as_ref().is_some_and(|sharing| sharing.has_due());
        self.schedule.has_slept = count == 0 && self.schedule.yielded.is_empty() && !has_due;
        if !self.schedule.has_slept {
            return Ok(count);
        }
        let now = self.context.clock.now();
        let sleep = self.time_to_sleep(now);
        self.clients.stalls.sleep(now, sleep);
        let (poller, entry) = (&mut self.poller, self.context.entry);
        let count = self.app.unlocked(|| {
            entry.set_asleep(true);
            let count = poller.wait(Some(sleep));
            entry.set_asleep(false);
            count
        })?;
        self.context.entry.tick();
        if count == 0 {
            self.run_signal_handlers();
        }
        Ok(count)
    }

    /// How long nothing is due.
    fn time_to_sleep(&self, now: Instant) -> Duration {
        let next = [
            self.clients.deadlines.next(),
            self.acceptor.next_deadline(),
            self.phase.next_deadline(now),
            self.next_resend_deadline(now),
            self.schedule.disk.next_look(),
            self.clients.sharing.as_ref().and_then(|sharing| sharing.next_deadline()),
            self.link.control.next_deadline(now),
            self.ticker.as_ref().and_then(|ticker| ticker.next_deadline()),
        ];
        next.into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(now))
            .min()
            .map_or(MAX_SLEEP, |sleep| sleep.min(MAX_SLEEP))
    }

    fn take_batch(&mut self, count: usize) {
        let owed = self.schedule.passed_over.take();
        let first = (0..count).find(|&index| Some(self.poller.event(index).key) == owed);
        // The events of shared connections come next: they may have come to this worker alone, and once its call
        // begins, the kernel passes further ones on to the others.
        let shared = self.shared_events(count);
        let is_shared = |index: usize| shared[index / 64] >> (index % 64) & 1 == 1;
        let shared_first = (0..count)
            .filter(|&index| is_shared(index))
            .chain((0..count).filter(|&index| !is_shared(index)));
        let rest = shared_first.filter(|&index| Some(index) != first);
        for (place, index) in first.into_iter().chain(rest).enumerate() {
            let event = self.poller.event(index);
            let began_requests = self.context.begins_requests;
            self.take_event(event, place == 0);
            if self.ends_turn_early() || (began_requests && !self.context.begins_requests) {
                return;
            }
        }
        // The listener had its turn if nobody waits there any more, or if another listener was passed over. A
        // full batch may not have contained it.
        if self.schedule.passed_over.is_none() && (first.is_some() || count == BATCH) {
            self.schedule.passed_over = owed;
        }
    }

    /// The events of a batch that are about shared connections, one bit for each.
    fn shared_events(&self, count: usize) -> [u64; BATCH / 64] {
        let mut shared = [0; BATCH / 64];
        if self.clients.sharing.is_some() {
            for index in 0..count {
                let is_shared = sharing::place_of(self.poller.event(index).key).is_some();
                shared[index / 64] |= u64::from(is_shared) << (index % 64);
            }
        }
        shared
    }

    fn take_event(&mut self, event: PollEvent, is_first: bool) {
        match event.key {
            DOORBELL_KEY => {
                self.link.clear_doorbell();
                self.run_signal_handlers();
            }
            CONTROL_KEY => self.receive_control_message(),
            MAILBOX_KEY => self.receive_shared(),
            key if key >= FIRST_LISTENER_KEY => {
                if is_first {
                    return self.accept((key - FIRST_LISTENER_KEY) as usize);
                }
                self.schedule.passed_over.get_or_insert(key);
            }
            key => {
                if let Some(key) = sharing::place_of(key) {
                    return self.take_shared(key);
                }
                let token = Token::from_bits(key);
                if event.half_closed
                    && let Some(client) = self.clients.table.get_mut(token)
                {
                    client.suspect();
                }
                self.serve(token, event.hung_up);
            }
        }
    }

    /// Lets the interpreter run its signal handlers, which may be the application's.
    fn run_signal_handlers(&mut self) {
        self.context.clock.read(); // The loop may have slept since.
        match self.context.outside(|| self.app.run_signal_handlers()) {
            ShutdownRequest::None => {}
            ShutdownRequest::Exit => {
                self.begin_exit(self.phase.exit_requested(self.context.clock.now()));
            }
        }
    }

    /// Carries a client as far as it goes, then watches for what it waits for.
    fn serve(&mut self, token: Token, hung_up: bool) {
        self.serve_once(token, hung_up);
        if self.clients.sharing.is_some() {
            self.take_due();
        }
    }

    fn serve_once(&mut self, token: Token, hung_up: bool) {
        let Some(client) = self.clients.table.get_mut(token) else { return };
        let wait = drive(self.app, &mut self.reading, &mut self.context, client, hung_up);
        self.context.entry.tick();
        let is_between = matches!(wait, Wait::Readable | Wait::Held);
        if is_between && self.clients.sharing.is_some() && self.settle(token) {
            return;
        }
        let Some(client) = self.clients.table.get_mut(token) else { return };
        let interest = match wait {
            Wait::Closed(manner) => {
                self.clients.deadlines.clear_all(token);
                if let Some(mut client) = self.clients.table.remove(token) {
                    self.free_place(&mut client);
                    client.unwatch(&self.poller);
                    client.close(manner);
                }
                return;
            }
            Wait::Readable => Interest::Read,
            Wait::Writable => Interest::Write,
            Wait::Again => {
                self.schedule.yielded.push_back(token);
                Interest::Nothing
            }
            Wait::Disk => {
                self.schedule.disk.push(token, self.context.clock.now());
                Interest::Nothing
            }
            Wait::Held => Interest::Nothing,
        };
        if let Err(error) = client.watch(&self.poller, token.to_bits(), interest) {
            // ENOSPC or ENOMEM: there may be room again once this client is closed.
            client.conn_mut().give_up(&self.context.entry.counters);
            if self.clients.watch_failures.is_due(self.context.clock.now()) {
                let pairs = [("error", Value::Display(&error))];
                self.context.log.line(Level::Error, "connection.not_watched", &pairs);
            }
            return self.serve_once(token, false);
        }
        let (now, persistence) = (self.context.clock.now(), self.context.persistence());
        client.arm(&mut self.clients.deadlines, token, now, persistence, &self.clients.stalls);
    }

    /// Whether this turn ends before the rest of its work, which may take minutes: a quick stop was requested, or
    /// the worker's time is over. What is left is in the next turn's batch.
    fn ends_turn_early(&mut self) -> bool {
        let began_requests = self.context.begins_requests;
        self.poll_shutdown();
        (began_requests && !self.context.begins_requests)
            || self.phase.has_expired(self.context.clock.now())
    }

    /// Goes on with the clients whose file may be in the page cache by now.
    fn look_at_disk(&mut self) {
        for token in self.schedule.disk.take_due(self.context.clock.now()) {
            self.serve(token, false);
        }
    }

    /// Checks for commands, and for signal handlers that ran inside of a call of the application.
    fn poll_shutdown(&mut self) {
        if self.app.has_shutdown_request() {
            self.run_signal_handlers();
        }
        self.poll_command();
    }

    /// Polls the command word and direct signals, and empties and closes the accept queue when the worker begins
    /// to drain.
    fn follow_command(&mut self) {
        self.poll_command();
        let is_last = self.acceptor.ends_connections();
        match self.phase {
            Phase::Serving | Phase::LameDuck => return,
            Phase::Draining { cause, .. } => {
                self.leave_group(is_last || cause == DrainCause::Orphaned);
            }
            Phase::Exiting { .. } => self.leave_group(is_last),
        }
        if let Phase::Draining { since, cause } = self.phase
            && !self.acceptor.is_closed()
        {
            match cause {
                DrainCause::Command => self.empty_queue(None),
                DrainCause::Orphaned => {
                    self.acceptor.close_queues();
                    self.empty_queue(Some(Phase::accepts_until(since)));
                    self.acceptor.shut_down();
                }
                DrainCause::Signal | DrainCause::Disconnected => {}
            }
            self.acceptor.close(&self.poller);
        }
    }

    /// Enters the phase that a new command asks for. This happens after each connection of a turn, so that
    /// clients served later in the same turn are answered accordingly.
    fn poll_command(&mut self) {
        match (self.context.command(), self.phase) {
            (Command::Serve, Phase::LameDuck) => {
                self.phase = Phase::Serving;
                self.context.kept = Kept::All;
            }
            (Command::LameDuck, Phase::Serving) => {
                self.phase = Phase::LameDuck;
                self.context.kept = Kept::None;
            }
            (Command::Drain, Phase::Serving | Phase::LameDuck) => {
                let is_command = self.context.entry.command() == Command::Drain;
                self.begin_drain(if is_command { DrainCause::Command } else { DrainCause::Signal });
            }
            (Command::Quick, Phase::Serving | Phase::LameDuck | Phase::Draining { .. }) => {
                self.begin_exit(self.phase.quick_stop());
            }
            (Command::Serve | Command::LameDuck | Command::Drain | Command::Quick, _) => {}
        }
    }

    fn begin_exit(&mut self, phase: Phase) {
        self.context.kept = Kept::None;
        self.context.begins_requests = false;
        self.acceptor.close(&self.poller);
        self.phase = phase;
    }

    fn begin_drain(&mut self, cause: DrainCause) {
        self.context.kept = if self.has_heirs() { Kept::Shareable } else { Kept::None };
        self.phase = Phase::Draining { since: self.context.clock.now(), cause };
    }

    /// Whether the worker has nothing left to do. `is_lull` says that nothing was due when this turn began, so
    /// the kernel holds no request that the loop does not know.
    fn is_done(&self, is_lull: bool) -> bool {
        let now = self.context.clock.now();
        if self.phase.has_expired(now) {
            return true;
        }
        match self.phase {
            Phase::Serving | Phase::LameDuck => false,
            Phase::Draining { since, cause: _ } => {
                let is_quiet = is_lull && now.saturating_duration_since(since) >= DRAIN_QUIET;
                let is_served = self.schedule.yielded.is_empty()
                    && !self.clients.any(|c| !c.is_idle() || c.awaits_resend(now).is_some());
                self.clients.table.is_empty() || (is_quiet && is_served)
            }
            Phase::Exiting { .. } => !self.clients.any(|c| c.conn().is_replying()),
        }
    }

    /// While draining, when the next client of a closed accept queue has had the time to retransmit.
    fn next_resend_deadline(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Serving | Phase::LameDuck | Phase::Exiting { .. } => None,
            Phase::Draining { .. } => self.clients.next_resend_deadline(now),
        }
    }

    /// Closes the remaining clients, and reports how many requests that aborted.
    fn close_clients(mut self) -> Unfinished {
        let mut abandoned_count = 0;
        let now = self.context.clock.now();
        let tokens: Vec<Token> = self.clients.table.tokens().collect();
        for token in tokens {
            let Some(client) = self.clients.table.get_mut(token) else { continue };
            if client.conn().is_busy() || client.awaits_resend(now).is_some() {
                abandoned_count += 1;
            }
            client.conn_mut().give_up(&self.context.entry.counters);
            self.serve(token, false);
        }
        if abandoned_count > 0 {
            let pairs = [("requests", Value::Number(abandoned_count as i64))];
            self.context.log.line(Level::Warning, "worker.abandoned", &pairs);
        }
        self.context.close_access_log();
        let now = Instant::now();
        let lost_at = self.link.control.lost_at();
        let exit_deadline = lost_at.map(|lost_at| phase::exit_deadline(lost_at, now));
        Unfinished { abandoned_count, exit_deadline }
    }
}

#[cfg(test)]
mod tests;
