//! The worker's loop: wait, accept, drive, expire, and in the end drain. The only reader of the clock.
//!
//! | phase | accepts | responses say | ends when |
//! |---|---|---|---|
//! | Serving | yes | what the client asked | told otherwise |
//! | Announcing | yes | close | told otherwise |
//! | Draining | what was queued at the start | close | nobody is busy, and idle peers had a moment (those of a closed queue had time to send again) |
//! | Leaving | no | close | nobody is being answered, or its time is over |
//!
//! The listener is registered with EPOLLEXCLUSIVE and added anew after each accept: epoll(7) wakes the
//! waiter at the head of the listener's queue, and adding goes to its tail. Without it all connections
//! of a pool opened while the workers are idle land on one worker.
//!
//! A connection is accepted only where nothing else is due before it: a worker that takes two at once
//! makes the second wait for the first. For the same reason none is accepted while the first request of
//! the one before is on its way ([`deference`]). But epoll reports what stays ready in the same order each time,
//! so behind a connection that always has a request the listener would never come first. One that was
//! passed over goes first from then on, until a batch comes without it.

mod accept;
mod acceptor;
pub mod access_log;
pub mod client;
pub mod client_table;
mod client_timer;
pub mod clock;
mod control_socket;
pub mod deadlines;
mod deference;
pub mod drive;
mod expiry;
mod handlers;
mod phase;
pub mod poller;
mod rate_limited_log;
pub mod readiness_check;
mod stalls;
mod supervision;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::unistd::read;

use crate::application::{Application, Heard};
use crate::connection::Timer;
use crate::event_loop::access_log::AccessLog;
use crate::event_loop::client::Client;
use crate::event_loop::client_table::{ConnTable, Token};
use crate::event_loop::deadlines::Deadlines;
use crate::event_loop::drive::{Reading, Wait, WorkerContext, close_reply, drive};
use crate::event_loop::poller::{Event, Interest, Poller};
use crate::http::Persistence;
use crate::process::fork_guard::{self, Guarded, Mark};
use crate::process::supervisor_process::SupervisorProcess;
use crate::shared::fd;
use crate::shared::log::{Level, Value};
use crate::shared::scoreboard::Command;
use crate::shared::socket_name::SocketName;
use crate::ticker::Ticker;
use crate::worker_init::WorkerInit;

use acceptor::Acceptor;
use control_socket::Lifeline;
use handlers::Handlers;
use phase::{Cause, DRAIN_QUIET, Phase};
use rate_limited_log::RateLimitedLog;
use stalls::Stalls;

/// Events taken from the kernel at once.
const BATCH: usize = 256;
/// The loop turns at least this often, so that the supervisor sees it live.
const LONGEST_SLEEP: Duration = Duration::from_secs(2);

/// Keys that epoll carries for what is not a connection; no token is that large.
const DOORBELL_KEY: u64 = u64::MAX;
const LIFE_KEY: u64 = u64::MAX - 1;
const FIRST_DOOR_KEY: u64 = u64::MAX - 0x1_0000;

/// What a worker left undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Requests that were read, run or answered in part and then cut off, and connections whose first
    /// request a closed queue may have dropped.
    pub abandoned_count: usize,
    /// When this process has to have ended, because nobody else looks after the time.
    pub exit_ends: Option<Instant>,
}

/// One worker's loop.
pub struct EventLoop<'a, A: Application> {
    /// First, because they go first: a number that is closed may at once be somebody else's.
    _guards: [Mark; 3],
    _guarded: Guarded,
    app: &'a mut A,
    context: WorkerContext,
    reading: Reading,
    poller: Poller,
    acceptor: Acceptor,
    clients: ConnTable<Client<A::Body>>,
    /// How many of them it may hold.
    most_channels: usize,
    deadlines: Deadlines,
    stalls: Stalls,
    /// Whether nothing was due before this turn.
    has_slept: bool,
    /// Connections that used up their turn.
    waiting: VecDeque<Token>,
    /// The key of a listener that was ready, but behind something else.
    passed_over: Option<u64>,
    phase: Phase,
    doorbell: OwnedFd,
    life: OwnedFd,
    lifeline: Lifeline,
    supervisor: Arc<SupervisorProcess>,
    ticker: Option<Box<dyn Ticker>>,
    handlers: Handlers,
    /// That a connection could not be watched.
    unwatched: RateLimitedLog,
}

impl<'a, A: Application> EventLoop<'a, A> {
    /// Registers what there is to wait for.
    pub fn new(init: WorkerInit, app: &'a mut A) -> io::Result<Self> {
        let WorkerInit { entry, header, life, doorbell, listeners, settings, .. } = init;
        let WorkerInit { supervisor, log, access_log, ticker, .. } = init;
        let poller = Poller::new(BATCH)?;
        let guarded = fork_guard::begin();
        let guards = [poller.as_fd(), doorbell.as_fd(), life.as_fd()].map(Mark::of);
        poller.add(&doorbell, DOORBELL_KEY, Interest::Read)?;
        poller.add(&life, LIFE_KEY, Interest::Read)?;
        let mut acceptor = Acceptor::new(listeners, header);
        acceptor.open(&poller)?;
        let timeouts = settings.timeouts.clone();
        let deadlines = Deadlines::new(|timer| match timer {
            Timer::KeepAlive => timeouts.keep_alive,
            Timer::Head => timeouts.head,
            Timer::Body | Timer::BodyRate => timeouts.body,
            Timer::Write => timeouts.write,
            Timer::Linger => timeouts.linger,
            Timer::LingerTotal => timeouts.linger_total,
        });
        let now = Instant::now();
        let access = access_log.map(|fd| AccessLog::new(fd, log.format()));
        let most_channels = settings.limits.connections_within(fd::descriptor_limit());
        Ok(Self {
            _guards: guards,
            _guarded: guarded,
            app,
            reading: Reading::new(&settings),
            context: WorkerContext::new(settings, entry, log, access),
            poller,
            acceptor,
            clients: ConnTable::new(),
            most_channels,
            deadlines,
            stalls: Stalls::starting(now),
            has_slept: false,
            waiting: VecDeque::new(),
            passed_over: None,
            phase: Phase::Serving,
            doorbell,
            life,
            lifeline: Lifeline::Held,
            supervisor,
            ticker,
            handlers: Handlers::installed(now),
            unwatched: RateLimitedLog::default(),
        })
    }

    /// The socket to the supervisor.
    pub fn life(&self) -> BorrowedFd<'_> {
        self.life.as_fd()
    }

    /// Makes the request that the application has to answer before this worker is ready. Here, because a
    /// child that the application forks meanwhile must have nothing of ours.
    ///
    /// Errors: why it is not, for a person, with what the application has told of it.
    pub fn rehearse(&mut self, path: &str) -> Result<(), String> {
        let settings = &self.context.settings;
        let local = self.acceptor.first_name().unwrap_or(SocketName::Unix(String::new()));
        let now = self.context.clock.now();
        self.app.keep_failures();
        let outcome = readiness_check::rehearse(self.app, settings, path, local, now);
        let failures = self.app.take_failures();
        self.context.leave_if_forked();
        self.context.clock.read();
        outcome.map_err(|refusal| format!("--reload-check: GET {path} {refusal}.\n{failures}"))
    }

    /// Tells the application that it is about to serve. Here for the same reason.
    ///
    /// Errors: as [`Application::ready`].
    pub fn make_ready(&mut self) -> Result<(), String> {
        let outcome = self.app.ready();
        self.context.leave_if_forked();
        self.context.clock.read();
        outcome
    }

    /// Turns until told to leave.
    pub fn run(mut self) -> io::Result<Leftover> {
        while !self.turn()? {}
        Ok(self.leave())
    }

    /// Turns once; whether that was the last time.
    fn turn(&mut self) -> io::Result<bool> {
        let count = self.wait()?;
        self.context.clock.read();
        self.context.woke = self.context.clock.monotonic();
        self.stalls.look(self.context.clock.now());
        self.take_batch(count);
        for _ in 0..self.waiting.len() {
            if self.is_cut_short() {
                break;
            }
            if let Some(token) = self.waiting.pop_front() {
                self.serve(token, false);
            }
        }
        self.check_deadlines();
        self.look_for_supervisor();
        self.follow_orders();
        let is_silent = self.acceptor.deferring_to().is_some_and(|token| self.is_silent(token));
        self.acceptor.tend(&self.poller, &self.context, self.can_make_room(), is_silent);
        self.context.flush_access_log();
        self.handlers.tend(&self.context);
        if let Some(ticker) = &mut self.ticker {
            ticker.turn(self.context.clock.now());
        }
        Ok(self.is_done(count == 0))
    }

    /// Takes a batch of events. Looks without sleeping first, so that a busy worker never hands the
    /// interpreter's lock over, and an idle one lets the application's threads run.
    fn wait(&mut self) -> io::Result<usize> {
        self.context.entry.tick();
        let count = self.poller.wait(Some(Duration::ZERO))?;
        self.has_slept = count == 0 && self.waiting.is_empty();
        if !self.has_slept {
            return Ok(count);
        }
        let now = self.context.clock.now();
        let ticker = self.ticker.as_ref().and_then(|ticker| ticker.next_deadline());
        let next = [
            self.deadlines.next(),
            self.acceptor.next_look(),
            self.phase.next_look(now),
            self.next_resend_is_late(now),
            self.lifeline.next_look(now),
            ticker,
        ];
        let sleep = next
            .into_iter()
            .flatten()
            .map(|at| at.saturating_duration_since(now))
            .min()
            .map_or(LONGEST_SLEEP, |sleep| sleep.min(LONGEST_SLEEP));
        self.stalls.sleep(now, sleep);
        let poller = &mut self.poller;
        let count = self.app.unlocked(|| poller.wait(Some(sleep)))?;
        self.context.entry.tick();
        if count == 0 {
            self.signalled();
        }
        Ok(count)
    }

    fn take_batch(&mut self, count: usize) {
        let owed = self.passed_over.take();
        let first = (0..count).find(|&index| Some(self.poller.event(index).key) == owed);
        let rest = (0..count).filter(|&index| Some(index) != first);
        for (place, index) in first.into_iter().chain(rest).enumerate() {
            let event = self.poller.event(index);
            let began_requests = self.context.begins_requests;
            self.take_event(event, place == 0);
            if self.is_cut_short() || (began_requests && !self.context.begins_requests) {
                return;
            }
        }
        // Its turn has come when nobody waits there any more, or another listener waits as well. A
        // full batch may have left it out.
        if self.passed_over.is_none() && (first.is_some() || count == BATCH) {
            self.passed_over = owed;
        }
    }

    fn take_event(&mut self, event: Event, is_first: bool) {
        match event.key {
            DOORBELL_KEY => {
                // EAGAIN: somebody rang and it was heard already.
                let _ = read(&self.doorbell, &mut [0; 8]);
                self.signalled();
            }
            LIFE_KEY => self.hear_supervisor(),
            key if key >= FIRST_DOOR_KEY => {
                if is_first {
                    return self.accept((key - FIRST_DOOR_KEY) as usize);
                }
                self.passed_over.get_or_insert(key);
            }
            key => {
                let token = Token::from_bits(key);
                if event.half_closed
                    && let Some(client) = self.clients.get_mut(token)
                {
                    client.suspect();
                }
                self.serve(token, event.hung_up);
            }
        }
    }

    /// Lets the interpreter run its signal handlers, which may be the application's.
    fn signalled(&mut self) {
        self.context.clock.read(); // It may have slept since.
        match self.context.outside(|| self.app.signalled()) {
            Heard::Nothing => {}
            Heard::Leave => self.leave_soon(self.phase.dismissed(self.context.clock.now())),
        }
    }

    /// Carries a connection as far as it goes, then notes what it waits for.
    fn serve(&mut self, token: Token, hung_up: bool) {
        let Some(client) = self.clients.get_mut(token) else { return };
        let pause = drive(self.app, &mut self.reading, &mut self.context, client, hung_up);
        self.context.entry.tick();
        let interest = match pause {
            Wait::Closed(manner) => {
                self.deadlines.clear_all(token);
                if let Some(mut client) = self.clients.remove(token) {
                    close_reply(&mut self.context, &mut client); // Leaves where it has forked.
                    client.unwatch(&self.poller);
                    client.close(manner);
                }
                return;
            }
            Wait::Readable => Interest::Read,
            Wait::Writable => Interest::Write,
            Wait::Again => {
                self.waiting.push_back(token);
                Interest::Nothing
            }
            Wait::Held => Interest::Nothing,
        };
        if let Err(error) = client.watch(&self.poller, token.to_bits(), interest) {
            // ENOSPC, ENOMEM: there may be room again when it is closed.
            client.conn_mut().give_up(&self.context.entry.counters);
            if self.unwatched.is_due(self.context.clock.now()) {
                let pairs = [("error", Value::Display(&error))];
                self.context.log.line(Level::Error, "connection.not_watched", &pairs);
            }
            return self.serve(token, false);
        }
        let (now, persistence) = (self.context.clock.now(), self.context.persistence);
        client.arm(&mut self.deadlines, token, now, persistence, &self.stalls);
    }

    /// Whether this turn ends before the rest of its work, which may be minutes: the worker is to leave at
    /// once, or its time is over. What is on its way is in the next turn's batch.
    fn is_cut_short(&mut self) -> bool {
        let began_requests = self.context.begins_requests;
        self.poll_commands();
        (began_requests && !self.context.begins_requests)
            || self.phase.is_out_of_time(self.context.clock.now())
    }

    /// Hears of orders, and of signal handlers that have run inside of a call.
    fn poll_commands(&mut self) {
        if self.app.is_signalled() {
            self.signalled();
        }
        self.hear_orders();
    }

    /// Does what the supervisor's command word and direct signals ask.
    fn follow_orders(&mut self) {
        self.hear_orders();
        if let Phase::Draining { since, cause } = self.phase
            && !self.acceptor.are_closed()
        {
            match cause {
                Cause::Command => self.empty_queue(None),
                Cause::Orphaned => {
                    self.acceptor.shut();
                    self.empty_queue(Some(Phase::takes_until(since)));
                    self.acceptor.end();
                }
                Cause::Signal | Cause::Disconnected => {}
            }
            self.acceptor.close(&self.poller);
        }
    }

    /// Hears of a new order. Signalled after each connection of a turn: who is answered after it is answered as
    /// it says.
    fn hear_orders(&mut self) {
        match (self.context.order(), self.phase) {
            (Command::Serve, Phase::Announcing) => {
                self.phase = Phase::Serving;
                self.context.persistence = Persistence::KeepAlive;
            }
            (Command::Announce, Phase::Serving) => {
                self.phase = Phase::Announcing;
                self.context.persistence = Persistence::Close;
            }
            (Command::Drain, Phase::Serving | Phase::Announcing) => {
                let is_told = self.context.entry.command() == Command::Drain;
                self.drain(if is_told { Cause::Command } else { Cause::Signal });
            }
            (Command::Quick, Phase::Serving | Phase::Announcing | Phase::Draining { .. }) => {
                self.leave_soon(self.phase.hurried());
            }
            (Command::Serve | Command::Announce | Command::Drain | Command::Quick, _) => {}
        }
    }

    fn leave_soon(&mut self, phase: Phase) {
        self.context.persistence = Persistence::Close;
        self.context.begins_requests = false;
        self.acceptor.close(&self.poller);
        self.phase = phase;
    }

    fn drain(&mut self, cause: Cause) {
        self.context.persistence = Persistence::Close;
        self.phase = Phase::Draining { since: self.context.clock.now(), cause };
    }

    /// `is_lull`: nothing was due when this turn began, so no request is known to the kernel and not to
    /// us.
    fn is_done(&self, is_lull: bool) -> bool {
        let now = self.context.clock.now();
        if self.phase.is_out_of_time(now) {
            return true;
        }
        match self.phase {
            Phase::Serving | Phase::Announcing => false,
            Phase::Draining { since, cause: _ } => {
                let is_quiet = is_lull && now.saturating_duration_since(since) >= DRAIN_QUIET;
                let is_served = self.waiting.is_empty()
                    && !self.any(|c| !c.is_idle() || c.awaits_resend(now).is_some());
                self.clients.is_empty() || (is_quiet && is_served)
            }
            Phase::Leaving { .. } => !self.any(|c| c.conn().is_replying()),
        }
    }

    /// While draining, when the next of those that a closed queue has not heard has had its time.
    fn next_resend_is_late(&self, now: Instant) -> Option<Instant> {
        match self.phase {
            Phase::Serving | Phase::Announcing | Phase::Leaving { .. } => None,
            Phase::Draining { .. } => self
                .clients
                .tokens()
                .filter_map(|token| self.clients.get(token)?.awaits_resend(now))
                .min(),
        }
    }

    fn any(&self, question: impl Fn(&Client<A::Body>) -> bool) -> bool {
        self.clients.tokens().any(|token| self.clients.get(token).is_some_and(&question))
    }

    /// Closes what is left and says what was cut off.
    fn leave(mut self) -> Leftover {
        let mut abandoned_count = 0;
        let now = self.context.clock.now();
        let tokens: Vec<Token> = self.clients.tokens().collect();
        for token in tokens {
            let Some(client) = self.clients.get_mut(token) else { continue };
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
        let exit_ends = self.lifeline.lost_at().map(|lost_at| phase::exit_ends(lost_at, now));
        Leftover { abandoned_count, exit_ends }
    }
}

#[cfg(test)]
mod tests;
