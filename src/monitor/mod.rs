//! The shell around [`Supervisor`]: waits for signals, life sockets, dead children and deadlines,
//! hands them in, and carries out what comes back.
//!
//! Owns everything that touches the kernel: handlers, the scoreboard, the children, listeners, the pid file.
//! Decides nothing about workers. It has one thread and waits in one place. Time is CLOCK_MONOTONIC
//! throughout: a change of the wall clock moves nothing.
//!
//! | file | owns |
//! |---|---|
//! | `access_log` | opening it, and opening it anew on USR1 |
//! | `blame` | what the last line says of a server that gives up |
//! | `actions` | carrying out what the machine wants |
//! | `control` | metrics, and the answers of the admin socket |
//! | `descriptors` | what children close |
//! | `generations`, `reload` | what workers are made of, and its replacement |
//! | `opening` | what comes before the first worker of a generation |
//! | `preload` | the zygotes |
//! | `report` | what is told to the world |
//! | `stacks` | the stacks that workers write |
//! | `upgrade` | the server that is to replace this one, and the one that this one replaces |
//! | `watching` | who hangs, who is worn out |

mod access_log;
mod actions;
mod admin;
mod blame;
pub mod children;
mod descriptors;
pub mod fatal;
mod generations;
mod health;
mod on_start;
mod reload;
mod report;
pub mod revision;
mod stacks;
mod upgrade;
mod zygotes;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arctos_worker::process::supervisor_process::SupervisorProcess;
use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::scoreboard::ServerState;
use arctos_worker::shared::scoreboard::{Scoreboard, WorkerEntry};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};

use crate::admin::Admin;
use crate::admin::reload::ReloadWaiters;
use crate::config::Config;
use crate::emitter::collector::Collector;
use crate::listener::Listeners;
use crate::metrics::ResidentSet;
use crate::monitor::children::{Child, Word};
use crate::monitor::fatal::Fatal;
use crate::monitor::revision::{ReadRevision, Revision};
use crate::process::fork::wait;
use crate::process::on_start::OnStart;
use crate::process::reexec::Handover;
use crate::process::signals::{Signal, Signals};
use crate::process::threads::thread_names;
use crate::supervisor::health::{Grace, Hang, RecycleLimits};
use crate::supervisor::restart_storm::RestartStorm;
use crate::supervisor::restart_storm::crash_baseline::CrashBaseline;
use crate::supervisor::slot::{ExitStatus, Jitter};
use crate::supervisor::{
    Event, ExitDetails, OperatorCommand, Policy, ServiceState, Supervisor, Verdict,
};
use crate::system::exit_cause::OomWatch;
use crate::system::exit_code::ExitCode;
use crate::system::pid::Pid;
use crate::system::pid_file::PidFile;
use crate::system::sd_notify::Notifier;
use crate::system::watchdog::Watchdog;
use blame::Blame;
use generations::{Generations, Loaded};
use on_start::OnStartRuns;
use reload::EndedReload;
use report::running_request;
use upgrade::Succession;
use zygotes::Zygotes;

/// Least room on the scoreboard, so that TTIN has somewhere to go.
const SLOTS_AT_LEAST: u16 = 64;
/// A round that comes so much later than it should was not late: the supervisor was stopped.
const SUSPENDED: Duration = Duration::from_secs(1);
/// After that, deadlines are judged so much later: everybody else may have been stopped, too.
const GRACE_ROUND: Duration = Duration::from_millis(250);

/// Runs a server from the first fork to the last reaped process; its exit code. `reread` is asked at each
/// reload.
pub fn run(load: Revision, reread: ReadRevision<'_>, listeners: Listeners, log: Log) -> ExitCode {
    succeed(load, reread, listeners, log, None, None)
}

/// The same for the successor of another server, which has left it this; or in the process of a program that goes
/// back to a folder afterwards.
pub fn succeed<'a>(
    load: Revision,
    reread: ReadRevision<'a>,
    listeners: Listeners,
    log: Log,
    handover: Option<Handover>,
    folder: Option<BorrowedFd<'a>>,
) -> ExitCode {
    let started = Monitor::start(load, reread, listeners, log.clone(), handover, folder);
    let outcome = started.and_then(Monitor::serve);
    match outcome {
        Ok(()) => ExitCode::Asked,
        Err(fatal) => {
            let code = fatal.exit_code();
            let pairs = [
                ("reason", Value::Text(&fatal.chain())),
                ("exit_code", Value::Number(i64::from(code as i32))),
            ];
            log.line(Level::Critical, "server.failed", &pairs);
            code
        }
    }
}

/// See the module.
struct Monitor<'a> {
    reread: ReadRevision<'a>,
    generations: Generations,
    log: Log,
    signals: Signals,
    /// This process, as its workers see it.
    process: Arc<SupervisorProcess>,
    scoreboard: Scoreboard,
    /// `None` once the door is closed and the workers know.
    listeners: Option<Listeners>,
    access_log: Option<OwnedFd>,
    /// Where the program goes back to that this process belongs to; no child needs it.
    folder: Option<BorrowedFd<'a>>,
    notifier: Notifier,
    watchdog: Option<Watchdog>,
    pid_file: Option<PidFile>,
    supervisor: Supervisor,
    children: Vec<Child>,
    openings: OnStartRuns,
    zygotes: Zygotes,
    collector: Collector,
    admin: Admin,
    succession: Succession,
    /// When the workers are looked at again.
    next_look: Instant,
    pardon: Grace,
    /// Whom the last look found hanging, and in what.
    last_hang: Option<(Pid, Hang)>,
    blame: Blame,
    /// Why the last boot failed, in the worker's own words.
    last_report: Option<String>,
    /// How the last reload ended.
    last_reload: Option<EndedReload>,
    /// Who waits for a reload's end.
    waiting: ReloadWaiters,
    started: Instant,
    /// Where the server stands, and since when.
    service_state: (ServiceState, Instant),
    /// Memory of the workers that have a limit to it.
    resident: ResidentSet,
    oom: OomWatch,
    deaths: RestartStorm,
    /// What new workers may die of during a reload, because the old ones did when it began.
    excuses: Option<CrashBaseline>,
    jitter: Jitter,
    /// When the last round was over.
    last_round: Instant,
    /// Requests cut off before the stop began: those of crashes, not of the stop.
    cut_off_before_stop: u64,
}

impl<'a> Monitor<'a> {
    fn start(
        load: Revision,
        reread: ReadRevision<'a>,
        listeners: Listeners,
        log: Log,
        handover: Option<Handover>,
        folder: Option<BorrowedFd<'a>>,
    ) -> Result<Self, Fatal> {
        let system = |call| move |source| Fatal::System { call, source };
        let names = thread_names().map_err(system("reading /proc/self/task"))?;
        if names.len() != 1 {
            return Err(Fatal::Threads { names });
        }
        let loaded = Loaded::resolve(load)?;
        let config = &loaded.load.config;
        let access_log = access_log::open(&config.logging.access)?;
        let pid_file = match &config.pid_file {
            None => None,
            Some(path) => {
                let before = handover.as_ref().and_then(|it| u32::try_from(it.predecessor.0).ok());
                warn_of_occupant(path, before, &log);
                let prepared = PidFile::prepare(path, std::process::id());
                Some(prepared.map_err(|source| Fatal::PidFile { path: path.clone(), source })?)
            }
        };
        let slots = config.workers.saturating_mul(2).max(SLOTS_AT_LEAST);
        let scoreboard = Scoreboard::create(slots).map_err(system("mapping the scoreboard"))?;
        scoreboard.header().set_state(ServerState::Starting);
        let log = log.with_row(&scoreboard.header().counters);
        let signals = Signals::install().map_err(system("sigaction(2)"))?;
        let now = Instant::now();
        let mut collector = Collector::start(&scoreboard, config.statsd.as_ref(), &log, now);
        let (succession, inherited_sockets) = Succession::begin(handover, now);
        let admin = Admin::inherit(&config.admin_binds, inherited_sockets);
        let mut admin = admin.map_err(|source| Fatal::Admin { source })?;
        if !succession.is_owner() {
            scoreboard.header().set_shares_listeners(true);
            collector.stand_beside(true);
            admin.close();
        }
        for warning in admin.warnings() {
            log.line(Level::Warning, "admin.warning", &[("warning", Value::Text(warning))]);
        }
        let environment = std::env::vars_os().collect();
        let watchdog = Watchdog::of(&environment, std::process::id(), now).unwrap_or_else(|bad| {
            log.line(Level::Warning, "watchdog.not_kept", &[("reason", Value::Display(&bad))]);
            None
        });
        let seed = RandomState::new().build_hasher().finish();
        let supervisor = Supervisor::start(policy(config, slots), seed, now);
        Ok(Self {
            reread,
            generations: Generations::first(loaded),
            log,
            signals,
            process: Arc::new(SupervisorProcess::this()),
            scoreboard,
            listeners: Some(listeners),
            access_log,
            folder,
            notifier: Notifier::from_environment(),
            watchdog,
            pid_file,
            supervisor,
            children: Vec::new(),
            openings: OnStartRuns::default(),
            zygotes: Zygotes::default(),
            collector,
            admin,
            succession,
            next_look: now,
            pardon: Grace::default(),
            last_hang: None,
            blame: Blame::default(),
            last_report: None,
            last_reload: None,
            waiting: ReloadWaiters::default(),
            started: now,
            service_state: (ServiceState::Starting, now),
            resident: ResidentSet::default(),
            oom: OomWatch::new(),
            deaths: RestartStorm::default(),
            excuses: None,
            jitter: Jitter::new(seed),
            last_round: now,
            cut_off_before_stop: 0,
        })
    }

    fn serve(mut self) -> Result<(), Fatal> {
        let mut patience = Duration::ZERO;
        let mut verdict = None;
        loop {
            verdict = verdict.or(self.carry_out());
            // A successor that has nothing yet does not outlive this server.
            if let Some(verdict) = verdict.filter(|_| !self.succession.is_pending()) {
                return self.finish(verdict);
            }
            let timeout = self.timeout(patience);
            let has_stacks = self.wait(timeout)?;
            let now = Instant::now();
            if has_stacks {
                self.hear_stacks(now);
            }
            self.hear(now);
            let is_late = |timeout| now.duration_since(self.last_round) > timeout + SUSPENDED;
            patience = match timeout {
                // What was missed meanwhile has been heard by now; who is still late may have been
                // stopped as well, and gets another moment.
                Some(timeout) if is_late(timeout) => {
                    self.log.line(Level::Warning, "server.was_suspended", &[]);
                    self.pardon(now.duration_since(self.last_round), now);
                    GRACE_ROUND
                }
                Some(_) | None => {
                    self.judge_opening(now);
                    self.judge_zygotes(now);
                    self.look_again(now);
                    self.supervisor.handle(Event::Tick, now);
                    Duration::ZERO
                }
            };
            self.tell_stacks(now);
            if self.service_state.0 != self.supervisor.service_state() {
                self.service_state = (self.supervisor.service_state(), now);
            }
            self.beat(now);
            self.watch(now);
            if let Some(storm) = self.deaths.check_deadlines(now) {
                self.tell_storm(&storm);
            }
            self.succeed(now);
            self.measure(now);
            self.last_round = Instant::now();
        }
    }

    /// How long to wait: to the next deadline, and not less than `least`.
    fn timeout(&self, least: Duration) -> Option<Duration> {
        let deadlines = [
            self.supervisor.next_deadline(),
            self.collector.next_deadline(),
            self.admin.next_deadline(),
            self.openings.next_deadline(),
            self.watchdog.as_ref().map(Watchdog::next_deadline),
            self.zygotes.next_deadline(),
            self.deaths.next_deadline(),
            self.succession.next_deadline(),
            self.next_stacks(),
            Some(self.next_look),
        ];
        let deadline = deadlines.into_iter().flatten().min()?;
        Some(deadline.saturating_duration_since(Instant::now()).max(least))
    }

    /// Waits until something has come; whether workers have written of their stacks.
    fn wait(&self, timeout: Option<Duration>) -> Result<bool, Fatal> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let lives = self.children.iter().filter_map(Child::awaited);
        fds.extend(lives.map(|life| PollFd::new(life, PollFlags::POLLIN)));
        let opening = self.openings.opening().and_then(OnStart::poll_fd);
        fds.extend(opening.map(|words| PollFd::new(words, PollFlags::POLLIN)));
        fds.extend(self.zygotes.awaited().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.collector.awaited().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.succession.awaited().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.admin.poll_fds().into_iter().map(|(fd, flags)| PollFd::new(fd, flags)));
        let others = fds.len();
        let stacks = self.children.iter().filter_map(Child::awaited_stacks);
        fds.extend(stacks.map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        // Rounded up: poll(2) counts in ms, and one round too early would be followed by a hot one.
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            let ms = timeout.as_millis() + 1;
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) => Ok(fds[others..].iter().any(|fd| fd.any() == Some(true))),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(Fatal::System { call: "poll(2)", source: error.into() }),
        }
    }

    /// Hands in all that has come. Signals first: a wish to stop is older than what it causes.
    fn hear(&mut self, now: Instant) {
        for signal in self.signals.take() {
            let wish = match signal {
                Signal::Int => {
                    self.hasten_successor(now);
                    OperatorCommand::Interrupt
                }
                Signal::Quit => OperatorCommand::Quit,
                // Nobody sends requests to this server alone yet: there is nothing to announce.
                Signal::Term if !self.succession.is_owner() => OperatorCommand::Quit,
                Signal::Term => OperatorCommand::Terminate,
                Signal::Ttin => OperatorCommand::More,
                Signal::Ttou => OperatorCommand::Fewer,
                Signal::Chld => continue, // It has woken us: children are reaped in every round.
                Signal::Hup => OperatorCommand::Reload,
                Signal::Winch => OperatorCommand::Pause,
                Signal::Usr1 => {
                    self.reopen_access_log();
                    continue;
                }
                Signal::Usr2 => {
                    self.upgrade(now);
                    continue;
                }
            };
            let pairs = [("signal", Value::Display(&signal.kernel()))];
            self.log.line(Level::Info, "signal.received", &pairs);
            self.supervisor.handle(Event::OperatorCommand(wish), now);
        }
        self.hear_opening();
        self.hear_zygotes(None, now);
        for index in 0..self.children.len() {
            self.hear_member(index, now);
        }
        self.hear_predecessor();
        self.hear_successor(now);
        while let Some((pid, status)) = wait::reap() {
            self.bury(pid, status, now);
        }
        let count = self.children.len().try_into().unwrap_or(u32::MAX);
        self.scoreboard.header().set_worker_count(count);
    }

    fn hear_member(&mut self, index: usize, now: Instant) {
        let member = &mut self.children[index];
        let pid = member.pid;
        match member.listen() {
            Some(Word::Ready) => {
                if let Some(monotonic) = monotonic() {
                    let generation = member.entry.generation();
                    let limits = self.generations.of(generation).map(|it| it.load.config.limits);
                    let lease = |limits: RecycleLimits| {
                        limits.worker_limits(member.entry, monotonic, &mut self.jitter)
                    };
                    member.lease = limits.map(lease);
                }
                self.supervisor.handle(Event::Ready { pid }, now);
            }
            Some(Word::Failing) => self.supervisor.handle(Event::Failing { pid }, now),
            None => {}
        }
    }

    fn bury(&mut self, pid: Pid, status: ExitStatus, now: Instant) {
        if self.succession.successor() == Some(pid) {
            return self.successor_exited(pid, status, now);
        }
        if self.bury_opening(pid, status) {
            return;
        }
        if self.bury_zygote(pid, status, now) {
            return;
        }
        if self.children.iter().all(|member| member.pid != pid) {
            self.hear_zygotes(Some(pid), now); // It may be a worker that we have not been told of.
        }
        let Some(index) = self.children.iter().position(|member| member.pid == pid) else {
            let pairs =
                [("pid", Value::Number(i64::from(pid.0))), ("status", Value::Display(&status))];
            self.log.line(Level::Debug, "orphan.reaped", &pairs);
            return;
        };
        self.hear_member(index, now); // Its last words, said between our two looks.
        self.tell_last_stacks(pid, now);
        let member = self.children.swap_remove(index);
        let (report, had_request) = (member.report(), member.had_request());
        let was_in_request = running_request(member.entry).is_some();
        let is_baseline = self.excuses(member.entry, now);
        let life = ExitDetails { report, had_request, was_in_request, is_baseline };
        self.supervisor.handle(Event::Exited { pid, status, details: life }, now);
    }

    /// Whether a worker that has this entry died of what workers of the code before die of, too.
    fn excuses(&mut self, entry: &'static WorkerEntry, now: Instant) -> bool {
        let request = running_request(entry).map(|running| running.line);
        if !self.succession.is_owner() {
            return self.succession.excuses(request.as_deref(), now);
        }
        let is_new = self.supervisor.reloading().is_some_and(|(new, _)| new == entry.generation());
        let excuses = self.excuses.as_mut().filter(|_| is_new);
        excuses.is_some_and(|excuses| excuses.accept(request.as_deref(), now))
    }

    fn finish(mut self, verdict: Verdict) -> Result<(), Fatal> {
        let abandoned = self.cut_off().saturating_sub(self.cut_off_before_stop);
        let pairs = [
            ("abandoned", Value::Number(i64::try_from(abandoned).unwrap_or(i64::MAX))),
            ("pid", Value::Number(i64::from(std::process::id()))),
        ];
        self.log.line(Level::Info, "server.stopped", &pairs);
        self.tell_last_books();
        let scene = admin::scene(&self.supervisor, &self.children, self.listeners.as_ref());
        self.blame_zygotes();
        self.zygotes.close();
        let unsent = self.collector.finish(&self.scoreboard, || scene);
        self.succession.tell_unsent(&unsent);
        if self.succession.is_unfit() {
            return Err(Fatal::Unfit { cause: self.blame.take() });
        }
        Fatal::check(verdict, self.blame.take())
    }
}

/// A pid file that names somebody else is replaced all the same: numbers are given out again, in a container after
/// each restart. `before` is the server that this one is to replace.
fn warn_of_occupant(path: &Path, before: Option<u32>, log: &Log) {
    let occupant = PidFile::occupant(path, std::process::id());
    if let Some(pid) = occupant.filter(|pid| Some(*pid) != before) {
        let pairs =
            [("path", Value::Display(&path.display())), ("names", Value::Number(i64::from(pid)))];
        log.line(Level::Warning, "pid_file.names_another", &pairs);
    }
}

fn policy(config: &Config, ceiling: u16) -> Policy {
    Policy {
        workers: config.workers,
        ceiling,
        boot: config.patience.boot,
        graceful: config.patience.graceful,
        quick: config.patience.quick,
        drain_delay: config.patience.drain_delay,
    }
}

/// CLOCK_MONOTONIC as the scoreboard has it; `None` never comes from a kernel that has the clock.
fn monotonic() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_MONOTONIC).ok().map(Duration::from)
}
