//! The shell around [`Supervisor`]: one loop that waits for its sources, passes their events to the state machine, and
//! carries out the actions that it returns.
//!
//! The loop decides nothing about workers. It has one thread and waits in one place. All times are CLOCK_MONOTONIC, so
//! a change of the wall clock has no effect.
//!
//! | source ([`source`]) | polls | deadline | reports | reaps |
//! |---|---|---|---|---|
//! | `signals` | the self-pipe | | signals | |
//! | `on_start` | the pipe of `--on-start` | (the state machine has it) | | its process |
//! | `zygotes` | their sockets | boot, fork, exit | ready, lost, forked | zygotes |
//! | `workers` | control sockets, stack pipes | the next check, stack dumps | ready, failing, hung, limits | workers |
//! | `shared_connections` | mailboxes of workers | the next sweep | | |
//! | `victims` | connections whose last response was sent | the end of their lingering | | |
//! | `upgrade` | sockets to other servers | successor, next totals | totals, take-over | the successor |
//! | `watchdog` | | the next notification | a notification | |
//! | `watcher` | the pipe of the helper process | | changed files | the helper process |
//! | `crashes` | | the end of a period | a restart storm | |
//! | `quarantine` | | the end of a quarantine | | |
//! | `profiles` | | the next tick of a profile | a due tick | |
//! | `metrics` | the statsd socket | the next flush | a due flush | |
//! | `admin` | listeners and connections | idle connections | requests | |
//!
//! The actions are implemented in `actions`, `spawn`, `reload`, `handover`, `responses` and `report`. They change the
//! state in [`server`].

mod access_log;
mod actions;
mod admin;
pub(crate) mod certificates;
pub mod children;
mod clock;
mod crashes;
mod failure_cause;
pub mod fatal;
mod generations;
mod handover;
mod memory;
mod metrics;
mod on_start;
mod profiles;
mod quarantine;
mod reload;
mod report;
mod responses;
pub mod revision;
mod running_request;
mod server;
mod shared_connections;
mod signals;
mod source;
mod sources;
mod spawn;
mod start;
mod startup_table;
mod upgrade;
mod upgrade_report;
mod victims;
mod watchdog;
mod watcher;
mod workers;
mod zygotes;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::scoreboard::WorkerEntry;
use nix::errno::Errno;
use nix::poll::{PollTimeout, poll};

use crate::listener::Listeners;
use crate::monitor::fatal::Fatal;
use crate::monitor::revision::{ReadRevision, Revision};
use crate::process::fork::wait;
use crate::process::reexec::Handover;
use crate::process::signals::Signal;
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::{Event, OperatorCommand, ServiceState, Supervisor, Verdict};
use crate::system::exit_code::ExitCode;
use crate::system::pid::Pid;
use crate::watch::Watcher;
use server::Server;
use source::{Reaped, Report, Round};
use sources::Sources;
use start::Start;
use victims::{DeadWorker, Stage, WorkerEnd};

/// If a round comes later than planned by more than this, the supervisor was suspended.
const SUSPENDED: Duration = Duration::from_secs(1);
/// After a suspension, deadlines are checked this much later, because other processes may have been suspended, too.
const GRACE_ROUND: Duration = Duration::from_millis(250);

/// Runs a server from the first fork to the last reaped process, and returns its exit code. `read_revision` is
/// called at each reload.
pub fn run(
    revision: Revision,
    read_revision: ReadRevision<'_>,
    listeners: Listeners,
    log: Log,
) -> ExitCode {
    take_over(revision, read_revision, listeners, log, Surroundings::default())
}

/// What not every server has.
#[derive(Default)]
pub struct Surroundings<'a> {
    /// What this server takes over from a predecessor.
    pub handover: Option<Handover>,
    /// The directory to which the program that this server runs in returns afterwards.
    pub directory: Option<BorrowedFd<'a>>,
    /// What watches the files of the application.
    pub watcher: Option<&'a mut Watcher>,
}

/// Like [`run`], for a server with these surroundings.
pub fn take_over<'a>(
    revision: Revision,
    read_revision: ReadRevision<'a>,
    listeners: Listeners,
    log: Log,
    surroundings: Surroundings<'a>,
) -> ExitCode {
    let own_log = log.clone();
    let start = Start { revision, read_revision, listeners, log, surroundings };
    match Monitor::start(start).and_then(Monitor::serve) {
        Ok(()) => ExitCode::Asked,
        Err(fatal) => {
            let code = fatal.exit_code();
            let pairs = [
                ("reason", Value::Text(&fatal.chain())),
                ("exit_code", Value::Number(i64::from(code as i32))),
            ];
            own_log.line(Level::Critical, "server.failed", &pairs);
            code
        }
    }
}

/// The loop: the state machine, the sources of its events, and the state that its actions change.
struct Monitor<'a> {
    /// The pure state machine.
    supervisor: Supervisor,
    sources: Sources<'a>,
    server: Server<'a>,
    /// When the last round ended.
    last_round: Instant,
}

impl Monitor<'_> {
    fn serve(mut self) -> Result<(), Fatal> {
        let mut minimum_wait = Duration::ZERO;
        let mut verdict = None;
        loop {
            verdict = verdict.or(self.carry_out());
            // A successor that owns nothing yet must not outlive this server.
            if let Some(verdict) = verdict.filter(|_| !self.sources.upgrade.is_pending()) {
                return self.finish(verdict);
            }
            let timeout = self.timeout(minimum_wait);
            let ready_fds = self.wait(timeout)?;
            let was_suspended = self.turn(ready_fds, timeout);
            minimum_wait = if was_suspended { GRACE_ROUND } else { Duration::ZERO };
        }
    }

    /// Returns how long to wait: until the next deadline, but at least `minimum`.
    fn timeout(&self, minimum: Duration) -> Option<Duration> {
        let of_sources = self.sources.all().into_iter().filter_map(|source| source.next_deadline());
        let deadline = of_sources.chain(self.supervisor.next_deadline()).min()?;
        Some(deadline.saturating_duration_since(Instant::now()).max(minimum))
    }

    /// Waits until something has arrived. Returns the descriptors that are ready.
    fn wait(&self, timeout: Option<Duration>) -> Result<Vec<RawFd>, Fatal> {
        let mut fds = Vec::new();
        self.sources.all().into_iter().for_each(|source| source.poll(&mut fds));
        // The timeout is rounded up, because poll(2) counts in ms: a round that comes too early would be followed by a
        // busy loop.
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            let ms = timeout.as_millis() + 1;
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) => {
                let ready = fds.iter().filter(|fd| fd.any() == Some(true));
                Ok(ready.map(|fd| fd.as_fd().as_raw_fd()).collect())
            }
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(error) => Err(Fatal::System { call: "poll(2)", source: error.into() }),
        }
    }

    /// Runs one round: reads what has arrived, reaps children and checks deadlines. Returns whether this process was
    /// suspended before the round.
    fn turn(&mut self, ready_fds: Vec<RawFd>, timeout: Option<Duration>) -> bool {
        let now = Instant::now();
        let elapsed = now.duration_since(self.last_round);
        let is_late = timeout.is_some_and(|timeout| elapsed > timeout + SUSPENDED);
        let suspended_for = is_late.then_some(elapsed);
        let mut round = self.begin_round(now);
        round.ready_fds = ready_fds;
        round.suspended_for = suspended_for;
        for index in 0..self.sources.all().len() {
            let mut reports = Vec::new();
            if let Some(source) = self.sources.get_mut(index) {
                source.read(&round, &mut reports);
            }
            if !reports.is_empty() {
                self.handle_reports(reports, now);
                // A signal may have started a successor. No zygote may pass it off as a worker.
                round.pids = self.pids();
            }
        }
        while let Some((pid, status)) = wait::reap() {
            self.reap(pid, status, now);
        }
        let count = self.sources.workers.all().len().try_into().unwrap_or(u32::MAX);
        self.server.scoreboard.header().set_worker_count(count);
        match suspended_for {
            // Everything that arrived in the meantime has been read by now. A worker that is still late may have been
            // suspended as well, and gets a little more time.
            Some(_) => self.server.log.line(Level::Warning, "server.was_suspended", &[]),
            None => self.supervisor.handle(Event::Tick, now),
        }
        self.sources.admin.note_state(self.supervisor.service_state(), now);
        let round = Round { suspended_for, ..self.begin_round(now) };
        for index in 0..self.sources.all().len() {
            let mut reports = Vec::new();
            if let Some(source) = self.sources.get_mut(index) {
                source.check_deadlines(&round, &mut reports);
            }
            self.handle_reports(reports, now);
        }
        self.last_round = Instant::now();
        is_late
    }

    /// Collects what sources may know about the rest of the server.
    fn begin_round(&self, now: Instant) -> Round {
        Round {
            now,
            ready_fds: Vec::new(),
            pids: self.pids(),
            revision: self.server.generations.current(),
            suspended_for: None,
            workers_target: self.supervisor.target(),
            is_settled: self.supervisor.service_state() == ServiceState::Serving
                && self.supervisor.reloading().is_none(),
        }
    }

    /// Returns the processes of all sources.
    fn pids(&self) -> Vec<Pid> {
        self.sources.all().into_iter().flat_map(|source| source.pids()).collect()
    }

    fn reap(&mut self, pid: Pid, status: ExitStatus, now: Instant) {
        let round = self.begin_round(now);
        let mut reaped = None;
        for index in 0..self.sources.all().len() {
            let mut reports = Vec::new();
            if let Some(source) = self.sources.get_mut(index) {
                reaped = source.reap(pid, status, &round, &mut reports);
            }
            self.handle_reports(reports, now);
            if reaped.is_some() {
                break;
            }
        }
        let details = match reaped {
            Some(Reaped::Worker { mut details, entry, has_hung, unanswered }) => {
                let end = if has_hung { WorkerEnd::TimedOut } else { WorkerEnd::Died };
                let mut dead = DeadWorker::new(entry, end);
                let Sources { shared_connections, victims, .. } = &mut self.sources;
                shared_connections.end_member(&mut dead, victims, now);
                if let Some(socket) = unanswered {
                    victims.answer(&mut dead, Stage::Running, socket, now);
                }
                details.answered = dead.answered;
                details.is_baseline = self.is_baseline(entry, now);
                details
            }
            Some(Reaped::Other(details)) => details,
            Some(Reaped::Unmanaged) => return,
            None => Default::default(), // This is an orphan, which the state machine logs.
        };
        self.supervisor.handle(Event::Exited { pid, status, details }, now);
    }

    /// Whether workers of the old code crash like the worker with this entry.
    fn is_baseline(&mut self, entry: &'static WorkerEntry, now: Instant) -> bool {
        let upgrade = &mut self.sources.upgrade;
        if !upgrade.is_owner() {
            let request = running_request::running_request(entry).map(|running| running.line);
            return upgrade.baseline.accept(request.as_deref(), now);
        }
        let is_new = self.supervisor.reloading().is_some_and(|(new, _)| new == entry.generation());
        is_new && self.sources.crashes.is_baseline(entry, now)
    }

    fn handle_reports(&mut self, reports: Vec<Report>, now: Instant) {
        for report in reports {
            match report {
                Report::Event(event) => self.supervisor.handle(event, now),
                Report::Signal(signal) => self.handle_signal(signal, now),
                Report::Forked(forked) => {
                    let source::ForkedWorker { slot, side, child } = *forked;
                    let pid = child.pid;
                    self.sources.workers.add(child);
                    self.supervisor.handle(Event::Started { slot, side, pid }, now);
                }
                Report::Failure(failure) => self.server.record_failure(failure),
                Report::AdminRequest(request) => self.respond(&request, now),
                Report::Notify(state) => self.server.notify(state),
                Report::RestartStorm(storm) => self.log_restart_storm(&storm),
                Report::Incident(incident) => self.sources.quarantine.record(incident, now),
                Report::MetricsDue => {
                    let Self { supervisor, sources, server, .. } = self;
                    let listeners = server.listeners.as_ref();
                    let snapshot = || {
                        responses::snapshot(
                            supervisor,
                            &mut sources.workers,
                            &sources.shared_connections,
                            listeners,
                        )
                    };
                    sources.metrics.collector.turn(&server.scoreboard, snapshot, now);
                }
                Report::AreaLeft(index) => {
                    let Self { sources, server, .. } = self;
                    sources.metrics.collector.retire_area(&server.scoreboard, index);
                }
                Report::ProfileDue => self.sample_workers(now),
                Report::FilesChanged => self.reload_changed_files(now),
                Report::Upgrade(report) => self.handle_upgrade(report, now),
            }
        }
    }

    fn handle_signal(&mut self, signal: Signal, now: Instant) {
        let command = match signal {
            Signal::Int => {
                self.interrupt_successor(now);
                OperatorCommand::Interrupt
            }
            Signal::Quit => OperatorCommand::Quit,
            // The predecessor still serves, so load balancers need no warning.
            Signal::Term if !self.sources.upgrade.is_owner() => OperatorCommand::Quit,
            Signal::Term => OperatorCommand::Terminate,
            Signal::Ttin => OperatorCommand::More,
            Signal::Ttou => OperatorCommand::Fewer,
            Signal::Chld => return, // The signal only wakes the loop: children are reaped in every round.
            Signal::Hup => OperatorCommand::Reload,
            Signal::Winch => OperatorCommand::Pause,
            Signal::Usr1 => return self.reopen_access_log(),
            Signal::Usr2 => return self.request_upgrade(now),
        };
        let pairs = [("signal", Value::Display(&signal.kernel()))];
        self.server.log.line(Level::Info, "signal.received", &pairs);
        self.supervisor.handle(Event::OperatorCommand(command), now);
    }

    fn finish(mut self, verdict: Verdict) -> Result<(), Fatal> {
        self.sources.shared_connections.pass_last();
        let server = &self.server;
        let abandoned = server.cut_off_count().saturating_sub(server.cut_off_before_stop);
        let pairs = [
            ("abandoned", Value::Number(i64::try_from(abandoned).unwrap_or(i64::MAX))),
            ("pid", Value::Number(i64::from(std::process::id()))),
        ];
        server.log.line(Level::Info, "server.stopped", &pairs);
        self.send_totals(Instant::now());
        let listeners = self.server.listeners.as_ref();
        let snapshot = responses::snapshot(
            &self.supervisor,
            &mut self.sources.workers,
            &self.sources.shared_connections,
            listeners,
        );
        let failures = self.sources.zygotes.failures();
        failures.into_iter().for_each(|failure| self.server.record_failure(failure));
        let Sources { zygotes, metrics, upgrade, .. } = self.sources;
        zygotes.close();
        let unsent = metrics.collector.finish(&self.server.scoreboard, || snapshot);
        upgrade.send_unsent(&unsent);
        let cause = self.server.failure.take();
        if upgrade.successor.is_unfit() {
            return Err(Fatal::Unfit { cause });
        }
        Fatal::check(verdict, cause)
    }
}
