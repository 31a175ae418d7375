//! The shell around [`Supervisor`]: waits for signals, life sockets, dead children and deadlines,
//! hands them in, and carries out what comes back.
//!
//! Owns everything that touches the kernel: handlers, the board, the crew, listeners, the pid file.
//! Decides nothing about workers. It has one thread and waits in one place. Time is CLOCK_MONOTONIC
//! throughout: a change of the wall clock moves nothing.

use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use arctos_worker::identity::{Generation, SlotId};
use arctos_worker::log::{Level, Log, Value};
use arctos_worker::metrics::board::ServerState;
use arctos_worker::metrics::{Block, Board, Command, Counter, Side};
use arctos_worker::post::Post;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::time::{ClockId, clock_gettime};
use thiserror::Error;

use crate::admin::{Admin, Answer, Method, Question, prometheus};
use crate::config::{AccessLog, Config};
use crate::crew::{Lines, Member, Word};
use crate::error::{ExitCode, Fatal};
use crate::fork::{self, Berth, ForkError, Launch};
use crate::listener::Listeners;
use crate::meter::Meter;
use crate::metrics::{Occupant, Scene};
use crate::notice::{Notice, RunningRequest};
use crate::notify::Notifier;
use crate::pid_file::PidFile;
use crate::privileges::Identity;
use crate::signals::{Signal, Signals};
use crate::slot::{Ending, ExitStatus, Pid};
use crate::supervisor::{Action, Event, Policy, Supervisor, Verdict, Wish};

/// Least room on the board, so that TTIN has somewhere to go.
const SLOTS_AT_LEAST: u16 = 64;
/// A round that comes so much later than it should was not late: the supervisor was stopped.
const SUSPENDED: Duration = Duration::from_secs(1);
/// After that, deadlines are judged so much later: everybody else may have been stopped, too.
const GRACE_ROUND: Duration = Duration::from_millis(250);

/// Runs a server from the first fork to the last reaped process; its exit code.
pub fn run(config: &Config, listeners: Listeners, log: Log, launch: &dyn Launch) -> ExitCode {
    let outcome = Monitor::start(config, listeners, log.clone(), launch).and_then(Monitor::serve);
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

/// Why a worker could not be spawned.
#[derive(Debug, Error)]
enum SpawnError {
    #[error("cannot make its life socket or doorbell: {0}")]
    Lines(io::Error),
    #[error("cannot duplicate its listeners: {0}")]
    Listeners(io::Error),
    #[error("cannot duplicate the access log: {0}")]
    AccessLog(io::Error),
    #[error("there is no block for it on the board")]
    Board,
    #[error(transparent)]
    Fork(#[from] ForkError),
}

/// See the module.
struct Monitor<'a> {
    config: &'a Config,
    launch: &'a dyn Launch,
    log: Log,
    signals: Signals,
    board: Board,
    /// `None` once the door is closed and the workers know.
    listeners: Option<Listeners>,
    access_log: Option<OwnedFd>,
    identity: Identity,
    notifier: Notifier,
    pid_file: Option<PidFile>,
    supervisor: Supervisor,
    crew: Vec<Member>,
    meter: Meter,
    admin: Admin,
    /// When the last round was over.
    last_round: Instant,
    /// Requests cut off before the stop began: those of crashes, not of the stop.
    cut_off_before_stop: u64,
}

impl<'a> Monitor<'a> {
    fn start(
        config: &'a Config,
        listeners: Listeners,
        log: Log,
        launch: &'a dyn Launch,
    ) -> Result<Self, Fatal> {
        let system = |call| move |source| Fatal::System { call, source };
        let names = fork::thread_names().map_err(system("reading /proc/self/task"))?;
        if names.len() != 1 {
            return Err(Fatal::Threads { names });
        }
        let identity = Identity::resolve(&config.privileges)?;
        let access_log = open_access_log(&config.logging.access)?;
        let pid_file = match &config.pid_file {
            None => None,
            Some(path) => Some(
                PidFile::prepare(path, std::process::id())
                    .map_err(|source| Fatal::PidFile { path: path.clone(), source })?,
            ),
        };
        let slots = config.workers.saturating_mul(2).max(SLOTS_AT_LEAST);
        let board = Board::create(slots).map_err(system("mapping the board"))?;
        board.header().set_state(ServerState::Starting);
        let log = log.with_row(&board.header().row);
        let signals = Signals::install().map_err(system("sigaction(2)"))?;
        let now = Instant::now();
        let meter = Meter::start(&board, config.statsd.as_ref(), &log, now);
        let admin = Admin::bind(&config.admin_binds).map_err(|source| Fatal::Admin { source })?;
        for warning in admin.warnings() {
            log.line(Level::Warning, "admin.warning", &[("warning", Value::Text(warning))]);
        }
        let seed = RandomState::new().build_hasher().finish();
        let supervisor = Supervisor::start(policy(config, slots), seed, now);
        Ok(Self {
            config,
            launch,
            log,
            signals,
            board,
            listeners: Some(listeners),
            access_log,
            identity,
            notifier: Notifier::from_environment(),
            pid_file,
            supervisor,
            crew: Vec::new(),
            meter,
            admin,
            last_round: now,
            cut_off_before_stop: 0,
        })
    }

    fn serve(mut self) -> Result<(), Fatal> {
        let mut patience = Duration::ZERO;
        loop {
            if let Some(verdict) = self.carry_out() {
                return self.finish(verdict);
            }
            let timeout = self.timeout(patience);
            self.wait(timeout)?;
            let now = Instant::now();
            self.hear(now);
            let is_late = |timeout| now.duration_since(self.last_round) > timeout + SUSPENDED;
            patience = match timeout {
                // What was missed meanwhile has been heard by now; who is still late may have been
                // stopped as well, and gets another moment.
                Some(timeout) if is_late(timeout) => {
                    self.log.line(Level::Warning, "server.was_suspended", &[]);
                    GRACE_ROUND
                }
                Some(_) | None => {
                    self.supervisor.handle(Event::Tick, now);
                    Duration::ZERO
                }
            };
            self.measure(now);
            self.last_round = Instant::now();
        }
    }

    /// How long to wait: to the next deadline, and not less than `least`.
    fn timeout(&self, least: Duration) -> Option<Duration> {
        let deadlines = [
            self.supervisor.next_deadline(),
            self.meter.next_deadline(),
            self.admin.next_deadline(),
        ];
        let deadline = deadlines.into_iter().flatten().min()?;
        Some(deadline.saturating_duration_since(Instant::now()).max(least))
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<(), Fatal> {
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let lives = self.crew.iter().filter_map(Member::awaited);
        fds.extend(lives.map(|life| PollFd::new(life, PollFlags::POLLIN)));
        fds.extend(self.meter.awaited().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.admin.awaited().into_iter().map(|(fd, flags)| PollFd::new(fd, flags)));
        // Rounded up: poll(2) counts in ms, and one round too early would be followed by a hot one.
        let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
            let ms = timeout.as_millis() + 1;
            PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(Fatal::System { call: "poll(2)", source: error.into() }),
        }
    }

    /// Hands in all that has come. Signals first: a wish to stop is older than what it causes.
    fn hear(&mut self, now: Instant) {
        for signal in self.signals.take() {
            if let (Signal::Hup, Some(reason)) = (signal, self.launch.reload_refusal()) {
                self.log.line(Level::Error, "reload.refused", &[("reason", Value::Text(reason))]);
                continue;
            }
            let wish = match signal {
                Signal::Int => Wish::Interrupt,
                Signal::Quit => Wish::Quit,
                Signal::Term => Wish::Terminate,
                Signal::Ttin => Wish::More,
                Signal::Ttou => Wish::Fewer,
                Signal::Chld => continue, // It has woken us: children are reaped in every round.
                Signal::Hup | Signal::Usr1 | Signal::Usr2 | Signal::Winch => {
                    let pairs = [("signal", Value::Display(&signal.kernel()))];
                    self.log.line(Level::Warning, "signal.not_in_this_version", &pairs);
                    continue;
                }
            };
            let pairs = [("signal", Value::Display(&signal.kernel()))];
            self.log.line(Level::Info, "signal.received", &pairs);
            self.supervisor.handle(Event::Wish(wish), now);
        }
        for index in 0..self.crew.len() {
            self.hear_member(index, now);
        }
        while let Some((pid, status)) = fork::reap() {
            self.bury(pid, status, now);
        }
    }

    /// Sends the metrics that are due and answers who asks.
    fn measure(&mut self, now: Instant) {
        let Self { meter, admin, board, crew, supervisor, listeners, config, .. } = self;
        let scene = || scene(supervisor, crew, listeners.as_ref());
        meter.turn(board, scene, now);
        for Question { id, method, path, .. } in admin.turn(now) {
            let answer = match (method, path.as_str()) {
                (Method::Get | Method::Head, "/metrics") => {
                    let (ledger, gauges) = meter.look(board, scene, now);
                    Answer {
                        status: 200,
                        content_type: prometheus::CONTENT_TYPE,
                        body: prometheus::text(ledger, gauges, config.zone.as_deref()),
                    }
                }
                (Method::Post, "/metrics") => Answer::plain(405, "only GET and HEAD\n"),
                (Method::Get | Method::Head | Method::Post, _) => {
                    Answer::plain(404, "there is /metrics\n")
                }
            };
            admin.answer(id, answer);
        }
    }

    fn hear_member(&mut self, index: usize, now: Instant) {
        let member = &mut self.crew[index];
        let pid = member.pid;
        match member.listen() {
            Some(Word::Ready) => self.supervisor.handle(Event::Ready { pid }, now),
            Some(Word::Failing) => self.supervisor.handle(Event::Failing { pid }, now),
            None => {}
        }
    }

    fn bury(&mut self, pid: Pid, status: ExitStatus, now: Instant) {
        let Some(index) = self.crew.iter().position(|member| member.pid == pid) else {
            let pairs =
                [("pid", Value::Number(i64::from(pid.0))), ("status", Value::Display(&status))];
            self.log.line(Level::Debug, "orphan.reaped", &pairs);
            return;
        };
        self.hear_member(index, now); // Its last words, said between our two looks.
        let member = self.crew.swap_remove(index);
        self.supervisor.handle(Event::Exited { pid, status, report: member.report() }, now);
    }

    /// Does what the machine wants, to the last action; the verdict when it is the end.
    fn carry_out(&mut self) -> Option<Verdict> {
        while let Some(action) = self.supervisor.next_action() {
            match action {
                Action::Spawn { slot, side, generation } => {
                    let event = match self.spawn(slot, side, generation) {
                        Ok(pid) => Event::Started { slot, pid },
                        Err(error) => {
                            let pairs = [
                                ("slot", Value::Number(i64::from(slot.0))),
                                ("generation", Value::Number(i64::from(generation.0))),
                                ("reason", Value::Display(&error)),
                            ];
                            self.log.line(Level::Error, "worker.spawn_failed", &pairs);
                            Event::SpawnFailed { slot }
                        }
                    };
                    self.supervisor.handle(event, Instant::now());
                }
                Action::Command { pid, command } => self.command(pid, command),
                Action::Kill { pid } => self.kill(pid),
                Action::ReportReady => self.report_ready(),
                Action::ReportStopping { deadline } => self.report_stopping(deadline),
                Action::CloseDoor => {
                    let closed = self.listeners.as_ref().map_or(Ok(()), Listeners::close_door);
                    if let Err(error) = closed {
                        let pairs = [("error", Value::Display(&error))];
                        self.log.line(Level::Warning, "listener.door_open", &pairs);
                    }
                }
                Action::Retire { slot } => {
                    if let Some(listeners) = &self.listeners {
                        listeners.retire(slot);
                    }
                }
                Action::DropListeners => self.listeners = None,
                Action::Tell(notice) => self.tell(&notice),
                Action::Finish(verdict) => return Some(verdict),
            }
        }
        None
    }

    fn spawn(
        &mut self,
        slot: SlotId,
        side: Side,
        generation: Generation,
    ) -> Result<Pid, SpawnError> {
        let block = self.board.block(slot, side).ok_or(SpawnError::Board)?;
        let (lines, life, doorbell) = Lines::open().map_err(SpawnError::Lines)?;
        let listeners = match &self.listeners {
            Some(listeners) => listeners.for_slot(slot).map_err(SpawnError::Listeners)?,
            None => Vec::new(),
        };
        let access_log = self.access_log.as_ref().map(OwnedFd::try_clone).transpose();
        block.assign(generation);
        let post = Post {
            slot,
            generation,
            block,
            header: self.board.header(),
            life,
            doorbell,
            listeners,
            settings: self.config.worker.clone(),
            log: self.log.clone(),
            access_log: access_log.map_err(SpawnError::AccessLog)?,
            companion: None,
        };
        let berth = Berth {
            signals: &self.signals,
            identity: &self.identity,
            title: fork::title(self.config.name.as_deref().unwrap_or("arctos"), slot),
        };
        let pid = fork::spawn(self.launch, post, &berth)?;
        self.crew.push(Member::new(pid, slot, block, lines));
        Ok(pid)
    }

    fn command(&self, pid: Pid, command: Command) {
        let Some(member) = self.crew.iter().find(|member| member.pid == pid) else { return };
        if let Err(error) = member.command(command) {
            self.complain("worker.command_failed", member, error);
        }
    }

    fn kill(&self, pid: Pid) {
        let Some(member) = self.crew.iter().find(|member| member.pid == pid) else { return };
        match member.kill() {
            Ok(()) | Err(Errno::ESRCH) => {} // ESRCH: not with a pid that was not reaped.
            Err(error) => self.complain("worker.kill_failed", member, error),
        }
    }

    fn complain(&self, event: &str, member: &Member, error: Errno) {
        let pairs = [
            ("slot", Value::Number(i64::from(member.slot.0))),
            ("pid", Value::Number(i64::from(member.pid.0))),
            ("generation", Value::Number(i64::from(member.block.generation().0))),
            ("reason", Value::Display(&error)),
        ];
        self.log.line(Level::Error, event, &pairs);
    }

    fn report_ready(&mut self) {
        let header = self.board.header();
        header.set_generation(Generation(1));
        header.set_state(ServerState::Serving);
        if let Some(Err(error)) = self.pid_file.as_mut().map(PidFile::publish) {
            let pairs = [("reason", Value::Display(&error))];
            self.log.line(Level::Error, "pid_file.failed", &pairs);
        }
        let addresses = match &self.listeners {
            Some(listeners) => listeners.descriptions().join(" "),
            None => String::new(),
        };
        let admin = self.admin.descriptions().join(" ");
        let mut pairs = vec![
            ("pid", Value::Number(i64::from(std::process::id()))),
            ("workers", Value::Number(i64::try_from(self.crew.len()).unwrap_or(i64::MAX))),
            ("listen", Value::Text(&addresses)),
        ];
        if !admin.is_empty() {
            pairs.push(("admin", Value::Text(&admin)));
        }
        self.log.line(Level::Info, "server.ready", &pairs);
        self.notify("READY=1");
    }

    fn report_stopping(&mut self, deadline: Instant) {
        let header = self.board.header();
        header.set_state(ServerState::Stopping);
        let left = deadline.saturating_duration_since(Instant::now());
        header.set_drain_deadline(monotonic().map(|now| now + left));
        self.cut_off_before_stop = self.cut_off();
        self.log.line(Level::Info, "server.stopping", &[]);
        self.notify("STOPPING=1");
    }

    fn notify(&self, state: &str) {
        if let Err(error) = self.notifier.tell(state) {
            let pairs = [("state", Value::Text(state)), ("reason", Value::Display(&error))];
            self.log.line(Level::Warning, "notify.failed", &pairs);
        }
    }

    /// Writes a notice; with the end of a worker comes what it was doing.
    fn tell(&mut self, notice: &Notice) {
        match notice {
            Notice::Killed { slot, side, .. } => {
                let running = self.board.block(*slot, *side).and_then(running_request);
                notice.write(&self.log, running.as_ref());
            }
            Notice::Ended { slot, side, ending, generation, status, .. } => {
                let Some(block) = self.board.block(*slot, *side) else { return };
                let running = running_request(block);
                // The row's only writer is dead.
                if running.is_some() {
                    block.row.inc(Counter::ReqKilled);
                }
                let shown = match ending {
                    Ending::Died | Ending::BootFailed => {
                        block.row.inc(restart_reason(*ending, *status));
                        running
                    }
                    Ending::Asked => running.filter(|_| self.log.is_enabled(Level::Info)),
                };
                notice.write(&self.log, shown.as_ref());
                // Nobody is there: no request runs and no connection is open, whoever reads it.
                block.assign(*generation);
            }
            Notice::Started { .. }
            | Notice::Ready { .. }
            | Notice::BootReport { .. }
            | Notice::Scaled { .. }
            | Notice::AtCeiling { .. }
            | Notice::AtFloor
            | Notice::CrashLoop { .. } => notice.write(&self.log, None),
        }
    }

    /// Requests that workers cut off, or that were lost with them.
    fn cut_off(&self) -> u64 {
        let sides = [Side::A, Side::B];
        let slots = (0..self.board.slot_count()).map(SlotId);
        let blocks = slots.flat_map(|slot| sides.map(|side| self.board.block(slot, side)));
        let rows = blocks.flatten().map(|block| &block.row);
        rows.map(|row| row.get(Counter::ReqAbandoned) + row.get(Counter::ReqKilled)).sum()
    }

    fn finish(self, verdict: Verdict) -> Result<(), Fatal> {
        let abandoned = self.cut_off().saturating_sub(self.cut_off_before_stop);
        let pairs = [("abandoned", Value::Number(i64::try_from(abandoned).unwrap_or(i64::MAX)))];
        self.log.line(Level::Info, "server.stopped", &pairs);
        let scene = scene(&self.supervisor, &self.crew, self.listeners.as_ref());
        self.meter.finish(&self.board, || scene);
        verdict.into_result()
    }
}

/// What there is to measure at this moment.
fn scene(supervisor: &Supervisor, crew: &[Member], listeners: Option<&Listeners>) -> Scene {
    let occupant =
        |member: &Member| Occupant { slot: member.slot, pid: member.pid, block: member.block };
    Scene {
        target: supervisor.target(),
        occupants: crew.iter().map(occupant).collect(),
        queue: listeners.and_then(Listeners::queue),
        monotonic: monotonic().unwrap_or_default(),
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

/// Opened before the workers give up the right to.
fn open_access_log(access: &AccessLog) -> Result<Option<OwnedFd>, Fatal> {
    let failed = |path: &std::path::Path| {
        let path = path.to_owned();
        move |source| Fatal::AccessLog { path, source }
    };
    match access {
        AccessLog::Off => Ok(None),
        AccessLog::Stdout => {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            Ok(Some(stdout.map_err(failed("-".as_ref()))?))
        }
        AccessLog::File(path) => {
            let file: File =
                OpenOptions::new().append(true).create(true).open(path).map_err(failed(path))?;
            Ok(Some(file.into()))
        }
    }
}

/// `worker.restarts` with its reason, for a worker that ended unasked.
fn restart_reason(ending: Ending, status: ExitStatus) -> Counter {
    match (ending, status) {
        (Ending::BootFailed, _) => Counter::WorkerRestartsBoot,
        (Ending::Died | Ending::Asked, ExitStatus::Code(_)) => Counter::WorkerRestartsExit,
        (Ending::Died | Ending::Asked, ExitStatus::Signal(_)) => Counter::WorkerRestartsSignal,
    }
}

/// What the occupant of a block is doing, or was doing when it died.
fn running_request(block: &'static Block) -> Option<RunningRequest> {
    let age = monotonic()?.saturating_sub(block.request_start()?);
    Some(RunningRequest { age, line: block.request_line().unwrap_or_default() })
}

/// CLOCK_MONOTONIC as the board has it; `None` never comes from a kernel that has the clock.
fn monotonic() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_MONOTONIC).ok().map(Duration::from)
}
