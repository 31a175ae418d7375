//! What all clients of a worker share: configuration, clock, counters, logs, and the current command.

use std::sync::Arc;
use std::time::Duration;

use super::file_server::FileServer;
use super::quarantine::Quarantine;
use crate::body_budget::BodyBudget;
use crate::connection::{ConnInfo, Rules};
use crate::event_loop::access_log::{AccessLog, Losses};
use crate::event_loop::clock::Clock;
use crate::event_loop::record::Record;
use crate::event_loop::routes::Routes;
use crate::http::Persistence;
use crate::process::fork_guard;
use crate::process::heap;
use crate::process::signals::{self, Signalled};
use crate::settings::Settings;
use crate::shared::log::throttle::Throttle;
use crate::shared::log::{Level, Log};
use crate::shared::scoreboard::{Command, WorkerEntry};

/// Refused requests, and bodies that could not be stored, that one worker logs in each interval: any client can cause
/// as many as it likes, and a full disk may be the one that the log is on.
const REFUSALS_LOGGED: u32 = 10;
const REFUSALS_INTERVAL: Duration = Duration::from_secs(60);
/// Slow requests that one worker logs in each interval. If everything is slow, a few of them show why.
const SLOW_LOGGED: u32 = 10;
const SLOW_INTERVAL: Duration = Duration::from_secs(10);

/// What all clients of a worker share.
#[expect(missing_docs, reason = "the types of the other fields say what they are")]
pub struct WorkerContext {
    pub settings: Settings,
    pub entry: &'static WorkerEntry,
    pub clock: Clock,
    pub log: Log,
    pub access: Option<AccessLog>,
    /// Which connections may be kept alive.
    pub kept: Kept,
    /// Whether requests are begun; not after a quick stop was requested.
    pub begins_requests: bool,
    pub requests: RequestCounts,
    /// When the loop woke up: every event of this turn has waited since then.
    pub woke: Duration,
    /// How long the loop had not looked for events before it woke up, because it was busy: an event of this turn may
    /// have waited since then.
    pub unwatched: Duration,
    /// The files that are served without the application, or by its order.
    pub files: Option<Box<FileServer>>,
    /// The requests that are refused for a while; `None` without `--quarantine`.
    pub quarantine: Option<Quarantine>,
    /// The memory of request bodies that arrive.
    pub(super) bodies: Arc<BodyBudget>,
    /// The routes of requests.
    pub(super) routes: Routes,
    pub(super) limited: LimitedLogs,
    pub(super) spare: Option<Vec<u8>>,
    /// The record of a former request, for the next one that is recorded.
    pub(super) spare_record: Option<Box<Record>>,
}

/// How many requests there were in this worker.
#[derive(Default)]
pub struct RequestCounts {
    /// Complete ones, of which the last one has this number.
    pub complete: u64,
    /// Those that were not refused, so that the application was called or a file sent.
    pub begun: u64,
}

/// Which connections may be kept alive after a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// All whose clients and settings allow it: this worker serves.
    All,
    /// Those that other workers can serve: this one drains.
    Shareable,
    /// No connection.
    None,
}

/// What is logged only from time to time.
pub(super) struct LimitedLogs {
    /// Limits how many refused requests are logged.
    pub(super) refusals: Throttle,
    /// Limits how many bodies that could not be stored are logged.
    pub(super) not_stored: Throttle,
    /// Limits how many slow requests are logged.
    pub(super) slow: Throttle,
    /// The lines that the access log has lost.
    pub(super) losses: Losses,
}

impl WorkerContext {
    /// The context of a worker that starts.
    pub fn new(
        settings: Settings,
        entry: &'static WorkerEntry,
        log: Log,
        access: Option<AccessLog>,
    ) -> Self {
        let clock = Clock::start();
        let woke = clock.monotonic();
        let limits = &settings.limits;
        let bodies = BodyBudget::new(limits.body_memory_bytes, limits.body_memory_total_bytes);
        Self {
            settings,
            entry,
            clock,
            log,
            access,
            kept: Kept::All,
            begins_requests: true,
            requests: RequestCounts::default(),
            woke,
            unwatched: Duration::ZERO,
            files: None,
            quarantine: None,
            bodies,
            routes: Routes::default(),
            limited: LimitedLogs {
                refusals: Throttle::new(REFUSALS_LOGGED, REFUSALS_INTERVAL),
                not_stored: Throttle::new(REFUSALS_LOGGED, REFUSALS_INTERVAL),
                slow: Throttle::new(SLOW_LOGGED, SLOW_INTERVAL),
                losses: Losses::default(),
            },
            spare: None,
            spare_record: None,
        }
    }

    /// The loop has looked for events. If it has not slept, it was busy with those of the previous turn until now.
    pub fn wake(&mut self, has_slept: bool) {
        self.clock.read();
        let woke = self.clock.monotonic();
        self.unwatched = if has_slept { Duration::ZERO } else { woke.saturating_sub(self.woke) };
        self.woke = woke;
    }

    /// The current command: that of the supervisor, or of a signal to this worker if it is stricter.
    pub fn command(&self) -> Command {
        let word = self.entry.command();
        match signals::requested() {
            Signalled::Nothing => word,
            Signalled::Drain => word.max(Command::Drain),
            Signalled::Quick => Command::Quick,
        }
    }

    /// Whether no further request is begun, even if the loop has not polled the command yet.
    pub fn is_quick_stop(&self) -> bool {
        !self.begins_requests || self.command() == Command::Quick
    }

    /// Calls the application outside of a request, and shows on the scoreboard that the time is the application's.
    /// Otherwise the supervisor would take the loop for one that hangs.
    pub fn outside<T>(&mut self, call: impl FnOnce() -> T) -> T {
        self.entry.begin_call(self.clock.monotonic());
        let outcome = call();
        self.leave_if_forked();
        self.clock.read();
        self.entry.end_call(self.clock.monotonic());
        outcome
    }

    /// Ends this process if it is a child that the application forked and did not end. Called after everything that
    /// runs code of the application, before anything is counted or sent.
    pub fn leave_if_forked(&self) {
        if fork_guard::is_forked() {
            self.log.line(Level::Warning, "application.fork_returned", &[]);
            fork_guard::leave();
        }
    }

    /// Gives the memory of large bodies back to the kernel once they are gone. It may take milliseconds, so the loop calls
    /// this about once a second.
    pub fn give_back_memory(&self) {
        if self.bodies.take_leftover() {
            heap::give_back();
        }
    }

    /// Whether the head of each request is kept until it is finished, because somebody writes about requests then. The
    /// application's further items need it in any case.
    pub fn keeps_heads(&self) -> bool {
        let settings = &self.settings;
        self.access.is_some()
            || settings.timeouts.slow.is_some()
            || settings.request_id_header.is_some()
    }

    /// The limits and counters of connections at this moment.
    pub fn rules(&self) -> Rules<'_> {
        Rules {
            settings: &self.settings,
            date: self.clock.date(),
            counters: &self.entry.counters,
            persistence: self.persistence(),
            request_id: None,
        }
    }

    /// The rules for a reply on this connection.
    pub fn reply_rules(&self, info: &ConnInfo) -> Rules<'_> {
        let mut rules = self.rules();
        if self.kept == Kept::Shareable && info.tls.is_none() {
            rules.persistence = Persistence::KeepAlive;
        }
        rules
    }

    /// Whether connections that nobody else can serve may be kept alive.
    pub fn persistence(&self) -> Persistence {
        match self.kept {
            Kept::All => Persistence::KeepAlive,
            Kept::Shareable | Kept::None => Persistence::Close,
        }
    }
}
