//! USR2: the shell around [`Upgrade`], and, in a server that replaces another one, around [`Successor`].
//!
//! Between the start of a successor and its readiness both serve, from the same queues. Whatever ends the
//! successor until then, this server has lost nothing; and the other way round.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use arctos_worker::shared::fd::{self, Message};
use arctos_worker::shared::log::{Level, Value};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd;

use super::Monitor;
use crate::listener::InheritedSockets;
use crate::metrics::CarriedTotals;
use crate::process::reexec::{
    self, COUNTED, DYING, Handover, READY, SuccessorSetup, UNSENT, YOURS,
};
use crate::supervisor::restart_storm::crash_baseline::{self, CrashBaseline};
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::upgrade::successor::{Successor, TakeOver};
use crate::supervisor::upgrade::{Action, Failure, Upgrade, patience};
use crate::supervisor::{Event, OperatorCommand, ServiceState};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;
use crate::system::pid_file::PidFile;
use crate::system::sd_notify::Notifier;

/// Most messages of another server that are read at a time.
const MESSAGES_AT_A_TIME: usize = 64;
/// How often a successor is told what was counted.
const REPORT: Duration = Duration::from_secs(1);
/// How much longer than this server a successor may take to stop: it hears of it later, and kills its own
/// workers at its own deadline. Who kills it earlier leaves them alone.
const REAPING: Duration = Duration::from_secs(1);

/// Who comes before and after this server.
pub(super) struct Succession {
    successor: Successor,
    /// Who came before, until its process is gone.
    predecessor: Option<Predecessor>,
    upgrade: Upgrade,
    /// To the successor, as long as it is there.
    line: Option<UnixStream>,
    next_report: Instant,
    /// What the successor has counted, and what of that it could not send: ours, should it fail.
    its_counts: Option<CarriedTotals>,
    its_unsent: Option<CarriedTotals>,
    /// What workers may die of before everything is this server's, because those of the server before do.
    excuses: CrashBaseline,
}

struct Predecessor {
    pid: Pid,
    line: UnixStream,
    pid_file: Option<PathBuf>,
}

impl Succession {
    /// What was left to this server; its admin socket's listeners are returned beside.
    pub(super) fn begin(handover: Option<Handover>, now: Instant) -> (Self, InheritedSockets) {
        let (successor, predecessor, admin) = match handover {
            None => (Successor::without_predecessor(), None, InheritedSockets::default()),
            Some(Handover { predecessor: pid, socket: line, pid_file, admin, .. }) => {
                (Successor::booting(), Some(Predecessor { pid, line, pid_file }), admin)
            }
        };
        let upgrade = Upgrade::idle();
        let excuses = CrashBaseline::new(BTreeMap::new(), now);
        (
            Self {
                successor,
                predecessor,
                upgrade,
                line: None,
                next_report: now,
                its_counts: None,
                its_unsent: None,
                excuses,
            },
            admin,
        )
    }

    /// Whether listeners, pid file and the like are this server's alone.
    pub(super) fn is_owner(&self) -> bool {
        self.successor.is_owner()
    }

    /// Whether this server was to replace another one, and one of its workers has died.
    pub(super) fn is_unfit(&self) -> bool {
        self.successor.is_unfit()
    }

    /// The last of all: what no agent was told, to whoever goes on.
    pub(super) fn tell_unsent(&self, unsent: &CarriedTotals) {
        let before = self.predecessor.as_ref().filter(|_| !self.is_owner());
        if let Some(line) = before.map(|before| &before.line).or(self.line.as_ref()) {
            let _ = reexec::send_totals(line, UNSENT, unsent); // It is gone: then nobody sends it.
        }
    }

    /// Whether workers of the server before die of this request, too, and about as often.
    pub(super) fn excuses(&mut self, request: Option<&str>, now: Instant) -> bool {
        self.excuses.accept(request, now)
    }

    /// The first full set is ready; whether the world is to know.
    pub(super) fn serves(&mut self) -> bool {
        self.successor.serves();
        self.successor.is_owner()
    }

    /// Whether there is a successor that has nothing yet.
    pub(super) fn is_pending(&self) -> bool {
        self.upgrade.is_pending()
    }

    /// The successor's process.
    pub(super) fn successor(&self) -> Option<Pid> {
        self.upgrade.pid()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let before = self.predecessor.as_ref().filter(|_| !self.is_owner());
        let is_told = self.line.is_some() || before.is_some();
        let report = is_told.then_some(self.next_report);
        [self.successor.next_deadline(), self.upgrade.next_deadline(), report]
            .into_iter()
            .flatten()
            .min()
    }

    /// The descriptors that a child closes.
    pub(super) fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.extend(self.awaited());
    }

    pub(super) fn awaited(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let before = self.predecessor.iter().map(|before| before.line.as_fd());
        before.chain(self.line.iter().map(UnixStream::as_fd))
    }
}

/// As the server that is to be replaced.
impl Monitor<'_> {
    /// USR2.
    pub(super) fn upgrade(&mut self, now: Instant) {
        if let Some(reason) = self.upgrade_refusal() {
            let pairs = [("reason", Value::Text(reason))];
            return self.log.line(Level::Error, "upgrade.refused", &pairs);
        }
        let graceful = self.generations.current().load.config.patience.graceful;
        let action = self.succession.upgrade.request(graceful, now);
        self.act(action, now);
    }

    fn upgrade_refusal(&self) -> Option<&'static str> {
        if std::process::id() == 1 {
            return Some("this is process 1: the container would end with it; start another one");
        }
        if let Some(reason) = self.generations.current().load.launch.upgrade_refusal() {
            return Some(reason);
        }
        if self.succession.predecessor.is_some() {
            return Some("the server before this one has not ended yet");
        }
        match self.supervisor.service_state() {
            ServiceState::Starting => return Some("the server is not ready yet"),
            ServiceState::Paused => return Some("the server rests; HUP brings its workers back"),
            ServiceState::Stopping => return Some("the server stops"),
            ServiceState::Serving => {}
        }
        self.supervisor.reloading().map(|_| "a reload is under way")
    }

    /// The successor's turn in each round: deadlines, and what it is told; and our own as one.
    pub(super) fn succeed(&mut self, now: Instant) {
        let graceful = self.generations.current().load.config.patience.graceful;
        let action = self.succession.upgrade.check_deadlines(graceful, now);
        self.act(action, now);
        if now >= self.succession.next_report {
            self.succession.next_report = now + REPORT;
            self.tell_deaths(now);
            self.tell_books(now);
        }
        if self.succession.successor.look(now) {
            if let Some(listeners) = &self.listeners {
                listeners.shut_leavings();
            }
            if let Some(before) = &self.succession.predecessor {
                reexec::send_ready(&before.line);
            }
        }
    }

    fn act(&mut self, action: Option<Action>, now: Instant) {
        let Some(action) = action else { return };
        match action {
            Action::Launch => self.launch(now),
            Action::Terminate { pid } => self.signal_successor(pid, Signal::SIGTERM),
            Action::Kill { pid } => self.signal_successor(pid, Signal::SIGKILL),
            Action::HandOver { pid } => self.hand_over(pid, now),
            Action::Fail(failure) => {
                let (pid, status) = match failure {
                    Failure::Ended { pid, status } => (pid, Some(status)),
                    Failure::Overdue { pid } => (pid, None),
                };
                let status = status.map(|status| status.to_string());
                let mut pairs = vec![("pid", Value::Number(i64::from(pid.0)))];
                pairs.extend(status.as_ref().map(|status| ("status", Value::Text(status))));
                let reason = match failure {
                    Failure::Ended { .. } => "the new server ended before it was ready",
                    Failure::Overdue { .. } => "the new server was not ready in time",
                };
                pairs.push(("reason", Value::Text(reason)));
                self.log.line(Level::Error, "upgrade.failed", &pairs);
            }
        }
    }

    fn launch(&mut self, now: Instant) {
        // It was fit when it was wished for, but the wish may have waited.
        let launched = match self.upgrade_refusal() {
            Some(reason) => Err(reason.to_owned()),
            None => self.try_launch().map_err(|error| error.to_string()),
        };
        match launched {
            Ok((pid, line)) => {
                let boot = self.generations.current().load.config.patience.boot;
                let deadline = now.checked_add(patience(boot));
                // Centuries from now is never.
                let deadline = deadline.unwrap_or(now + Duration::from_secs(1 << 30));
                self.succession.upgrade.launched(pid, deadline);
                self.succession.line = Some(line);
                (self.succession.its_counts, self.succession.its_unsent) = (None, None);
                self.succession.next_report = now;
                let pairs = [("pid", Value::Number(i64::from(pid.0)))];
                self.log.line(Level::Info, "upgrade.started", &pairs);
            }
            Err(reason) => {
                self.succession.upgrade.not_launched();
                self.scoreboard.header().set_shares_listeners(false);
                let pairs = [("reason", Value::Text(&reason))];
                self.log.line(Level::Error, "upgrade.failed", &pairs);
            }
        }
    }

    fn try_launch(&self) -> std::io::Result<(Pid, UnixStream)> {
        // Before there is anybody whom our orphans could harm.
        self.scoreboard.header().set_shares_listeners(true);
        let loaded = self.generations.current();
        let listeners =
            self.listeners.as_ref().map_or(Ok(Vec::new()), |all| all.inherited_sockets())?;
        reexec::launch(SuccessorSetup {
            directory: loaded.load.config.source.folder(),
            pid_file: self.pid_file.as_ref().map(PidFile::path),
            listeners,
            admin: self.admin.inherited_sockets()?,
        })
    }

    /// It is our child until it is reaped, so the pid is nobody else's.
    fn signal_successor(&self, pid: Pid, signal: Signal) {
        match kill(unistd::Pid::from_raw(pid.0), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => {
                let pairs =
                    [("pid", Value::Number(i64::from(pid.0))), ("reason", Value::Display(&error))];
                self.log.line(Level::Error, "upgrade.signal_failed", &pairs);
            }
        }
    }

    /// What the successor says.
    pub(super) fn hear_successor(&mut self, now: Instant) {
        for _ in 0..MESSAGES_AT_A_TIME {
            let Some(line) = &self.succession.line else { return };
            match fd::receive_message(line.as_fd()) {
                Message::Nothing => return,
                Message::Said { word: READY, .. } => {
                    let action = self.succession.upgrade.ready();
                    self.act(action, now);
                }
                Message::Said { word: COUNTED, descriptor } => {
                    let carried = descriptor.and_then(reexec::read_totals);
                    self.succession.its_counts = carried.or(self.succession.its_counts.take());
                }
                Message::Said { word: UNSENT, descriptor } => {
                    self.succession.its_unsent = descriptor.and_then(reexec::read_totals);
                }
                Message::Said { .. } => {} // Of a later version: it is not needed here.
                Message::Ended => self.succession.line = None,
            }
        }
    }

    /// Gives everything away and leaves. Where it cannot be told, nothing has changed.
    fn hand_over(&mut self, pid: Pid, now: Instant) {
        if self.supervisor.service_state() == ServiceState::Stopping {
            return; // Both end: it is told when the stop is carried out.
        }
        let carried = self.collector.carried(&self.scoreboard, now);
        let Some(line) = &self.succession.line else { return };
        let number = Value::Number(i64::from(pid.0));
        if let Err(error) = reexec::send_totals(line, YOURS, &carried) {
            let pairs = [("pid", number), ("reason", Value::Display(&error))];
            self.log.line(Level::Error, "upgrade.not_handed_over", &pairs);
            return self.signal_successor(pid, Signal::SIGTERM); // It will not ask again.
        }
        self.succession.upgrade.handed_over();
        // From here on the service manager listens to the successor.
        self.notify(&format!("MAINPID={}", pid.0));
        self.notifier = Notifier::silent();
        self.admin.give_away();
        if let Some(file) = &mut self.pid_file {
            file.give_away();
        }
        if let Some(listeners) = &mut self.listeners {
            listeners.disown();
        }
        self.collector.stand_beside(true);
        self.log.line(Level::Info, "upgrade.handed_over", &[("pid", number)]);
        self.supervisor.handle(Event::OperatorCommand(OperatorCommand::Quit), now);
    }

    pub(super) fn successor_exited(&mut self, pid: Pid, status: ExitStatus, now: Instant) {
        self.hear_successor(now);
        self.succession.line = None;
        if self.succession.upgrade.is_handed_over() {
            let pairs =
                [("pid", Value::Number(i64::from(pid.0))), ("status", Value::Display(&status))];
            return self.log.line(Level::Critical, "upgrade.successor_ended", &pairs);
        }
        // Its workers have served from the same queues: what they counted is not lost with it.
        if let Some(counted) = self.succession.its_counts.take() {
            self.collector.absorb(&counted);
        }
        if let Some(unsent) = self.succession.its_unsent.take() {
            self.collector.inherit(&unsent);
        }
        self.scoreboard.header().set_shares_listeners(false);
        if self.supervisor.service_state() != ServiceState::Stopping
            && let Some(listeners) = &self.listeners
        {
            listeners.reopen();
        }
        let action = self.succession.upgrade.exited(status);
        self.act(action, now);
    }

    /// This server stops by then: a successor that has nothing yet leaves, too.
    pub(super) fn end_successor(&mut self, deadline: Instant, now: Instant) {
        let action = self.succession.upgrade.stop(deadline + REAPING);
        self.act(action, now);
    }

    /// INT.
    pub(super) fn hasten_successor(&mut self, now: Instant) {
        let quick = self.generations.current().load.config.patience.quick;
        self.end_successor(now + quick, now);
        if let Some(pid) = self.succession.upgrade.pid().filter(|_| self.succession.is_pending()) {
            self.signal_successor(pid, Signal::SIGINT);
        }
    }

    pub(super) fn tell_books(&mut self, now: Instant) {
        if let Some(before) = &self.succession.predecessor
            && !self.succession.is_owner()
        {
            let carried = self.collector.own_books(&self.scoreboard, now);
            // It is gone, and everything is ours; or it is told again.
            let _ = reexec::send_totals(&before.line, COUNTED, &carried);
        }
        if self.succession.line.is_none() {
            return;
        }
        let carried = self.collector.carried(&self.scoreboard, now);
        if let Some(line) = &self.succession.line {
            // It is gone, which is heard; or it has not listened for long: the next carried have all of it.
            let _ = reexec::send_totals(line, COUNTED, &carried);
        }
    }

    /// The successor's workers get the same requests.
    fn tell_deaths(&mut self, now: Instant) {
        let rates = self.deaths.rates(self.supervisor.generation(), now);
        if let Some(line) = self.succession.line.as_ref().filter(|_| !rates.is_empty()) {
            // As with the carried: it is gone, or is told again.
            let _ = reexec::send_text(line, DYING, &crash_baseline::encode(&rates));
        }
    }

    /// The last worker is gone.
    pub(super) fn tell_last_books(&mut self) {
        self.tell_books(Instant::now());
    }
}

/// As the successor.
impl Monitor<'_> {
    /// What the server before says.
    pub(super) fn hear_predecessor(&mut self) {
        for _ in 0..MESSAGES_AT_A_TIME {
            let Some(before) = &self.succession.predecessor else { return };
            match fd::receive_message(before.line.as_fd()) {
                Message::Nothing => return,
                Message::Said { word: DYING, descriptor } => {
                    let text = descriptor.and_then(reexec::read_text).unwrap_or_default();
                    self.succession.excuses.extend(crash_baseline::decode(&text));
                }
                Message::Said { word: UNSENT, descriptor } => {
                    if let Some(unsent) = descriptor.and_then(reexec::read_totals) {
                        self.collector.inherit(&unsent);
                    }
                }
                Message::Said { word, descriptor } => {
                    match descriptor.and_then(reexec::read_totals) {
                        Some(carried) => self.collector.follow(carried),
                        None => self.log.line(Level::Warning, "upgrade.books_unread", &[]),
                    }
                    if word == YOURS {
                        self.take_over();
                    }
                }
                Message::Ended => {
                    self.take_over();
                    self.succession.predecessor = None;
                }
            }
        }
    }

    /// A worker that was ready has died. As long as there is another server that may go on, it should.
    pub(super) fn doubt(&mut self) {
        if self.succession.successor.died() {
            self.supervisor.handle(Event::OperatorCommand(OperatorCommand::Quit), Instant::now());
        }
    }

    /// Everything is this server's.
    fn take_over(&mut self) {
        let taken = self.succession.successor.take();
        if taken == TakeOver::Already {
            return;
        }
        self.scoreboard.header().set_shares_listeners(false);
        if let Some(listeners) = &mut self.listeners {
            listeners.own();
        }
        self.collector.stand_beside(false);
        if self.watchdog.is_some() {
            self.notify("WATCHDOG=1"); // Those before were not said.
        }
        let before = self.succession.predecessor.as_mut();
        let pid = before.as_ref().map_or(Pid(0), |before| before.pid);
        let pid_file = before.and_then(|before| before.pid_file.take());
        let pairs = [("predecessor", Value::Number(i64::from(pid.0)))];
        self.log.line(Level::Info, "upgrade.taken_over", &pairs);
        match taken {
            TakeOver::Serving => self.tell_ready(),
            TakeOver::Booting | TakeOver::Already => {}
        }
        if let (Some(path), Ok(pid)) = (pid_file, u32::try_from(pid.0)) {
            drop(PidFile::take_over(&path, pid));
        }
        self.admin.open();
    }
}
