//! Carries out the actions of an upgrade: starts a successor, hands everything over to it, and takes everything over
//! from a predecessor.

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use arctos_worker::shared::fd;
use arctos_worker::shared::log::{Level, Value};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd;

use super::Monitor;
use super::upgrade_report::UpgradeReport;
use super::watchdog::ALIVE;
use crate::process::reexec::{self, COUNTED, KEPT, SuccessorSetup, YOURS};
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::upgrade::successor::TakeOver;
use crate::supervisor::upgrade::{Action, Failure, patience};
use crate::supervisor::{Event, OperatorCommand, ServiceState};
use crate::system::pid::Pid;
use crate::system::pid_file::PidFile;
use crate::system::sd_notify::Notifier;

/// How much longer than this server a successor may take to stop. The successor learns of the stop later, and kills its
/// workers at its own deadline; if it were killed earlier, it would leave them behind.
const REAPING: Duration = Duration::from_secs(1);
/// A deadline that is never reached.
const NEVER: Duration = Duration::from_secs(1 << 30);

impl Monitor<'_> {
    pub(super) fn handle_upgrade(&mut self, report: UpgradeReport, now: Instant) {
        match report {
            UpgradeReport::Act(action) => self.act(Some(action), now),
            UpgradeReport::TotalsDue => {
                let generation = self.supervisor.generation();
                let rates = self.sources.crashes.storm.rates(generation, now);
                self.sources.upgrade.send_crash_rates(&rates);
                self.send_totals(now);
            }
            UpgradeReport::PredecessorTotals(Some(totals)) => {
                self.sources.metrics.collector.set_predecessors(*totals);
            }
            UpgradeReport::PredecessorTotals(None) => {
                self.server.log.line(Level::Warning, "upgrade.totals_unreadable", &[]);
            }
            UpgradeReport::PredecessorUnsent(unsent) => {
                self.sources.metrics.collector.inherit(&unsent);
            }
            UpgradeReport::PredecessorConnections(socket) => {
                self.sources.shared_connections.begin_to_receive(socket);
            }
            UpgradeReport::TakeOver => self.take_over(),
            UpgradeReport::PredecessorEnded => self.sources.upgrade.predecessor = None,
            UpgradeReport::Proved => {
                if let Some(listeners) = &self.server.listeners {
                    listeners.close_unused_queues();
                }
                if let Some(before) = &self.sources.upgrade.predecessor {
                    reexec::send_ready(&before.line);
                }
            }
            UpgradeReport::SuccessorExited { pid, status } => {
                self.successor_exited(pid, status, now);
            }
        }
    }

    /// Handles USR2.
    pub(super) fn request_upgrade(&mut self, now: Instant) {
        if let Some(reason) = self.upgrade_refusal() {
            let pairs = [("reason", Value::Text(reason))];
            return self.server.log.line(Level::Error, "upgrade.refused", &pairs);
        }
        let graceful = self.server.generations.current().config.patience.graceful;
        let action = self.sources.upgrade.upgrade.request(graceful, now);
        self.act(action, now);
    }

    fn upgrade_refusal(&self) -> Option<&'static str> {
        if std::process::id() == 1 {
            return Some(
                "this is process 1, so the container would end with it; start another container",
            );
        }
        if let Some(reason) = self.server.generations.current().launch.upgrade_refusal() {
            return Some(reason);
        }
        if self.sources.upgrade.predecessor.is_some() {
            return Some("the previous server has not exited yet");
        }
        match self.supervisor.service_state() {
            ServiceState::Starting => return Some("the server is not ready yet"),
            ServiceState::Paused => {
                return Some("the server is paused; HUP brings its workers back");
            }
            ServiceState::Stopping => return Some("the server is stopping"),
            ServiceState::Serving => {}
        }
        self.supervisor.reloading().map(|_| "a reload is under way")
    }

    fn act(&mut self, action: Option<Action>, now: Instant) {
        let Some(action) = action else { return };
        match action {
            Action::Launch => self.launch_successor(now),
            Action::Terminate { pid } => self.signal_successor(pid, Signal::SIGTERM),
            Action::Kill { pid } => self.signal_successor(pid, Signal::SIGKILL),
            Action::HandOver { pid } => self.hand_over(pid, now),
            Action::Fail(failure) => {
                let (pid, status, reason) = match failure {
                    Failure::Ended { pid, status } => {
                        (pid, Some(status), "the new server ended before it was ready")
                    }
                    Failure::Overdue { pid } => (pid, None, "the new server was not ready in time"),
                };
                let status = status.map(|status| status.to_string());
                let mut pairs = vec![("pid", Value::Number(i64::from(pid.0)))];
                pairs.extend(status.as_ref().map(|status| ("status", Value::Text(status))));
                pairs.push(("reason", Value::Text(reason)));
                self.server.log.line(Level::Error, "upgrade.failed", &pairs);
            }
        }
    }

    fn launch_successor(&mut self, now: Instant) {
        // The state may have changed since the upgrade was requested.
        let launched = match self.upgrade_refusal() {
            Some(reason) => Err(reason.to_owned()),
            None => self.try_launch().map_err(|error| error.to_string()),
        };
        match launched {
            Ok((pid, line)) => {
                let boot = self.server.generations.current().config.patience.boot;
                let deadline = now.checked_add(patience(boot)).unwrap_or(now + NEVER);
                let source = &mut self.sources.upgrade;
                source.upgrade.launched(pid, deadline);
                source.line = Some(line);
                (source.carried_totals, source.carried_unsent) = (None, None);
                source.next_report = now;
                let pairs = [("pid", Value::Number(i64::from(pid.0)))];
                self.server.log.line(Level::Info, "upgrade.started", &pairs);
            }
            Err(reason) => {
                self.sources.upgrade.upgrade.not_launched();
                self.server.scoreboard.header().set_shares_listeners(false);
                let pairs = [("reason", Value::Text(&reason))];
                self.server.log.line(Level::Error, "upgrade.failed", &pairs);
            }
        }
    }

    fn try_launch(&self) -> std::io::Result<(Pid, UnixStream)> {
        // This must be set before the successor exists, because this server could otherwise refuse its connections.
        self.server.scoreboard.header().set_shares_listeners(true);
        let revision = self.server.generations.current();
        let listeners = self.server.listeners.as_ref();
        let listeners = listeners.map_or(Ok(Vec::new()), |all| all.inherited_sockets())?;
        reexec::launch(SuccessorSetup {
            directory: revision.config.source.start_directory(),
            pid_file: self.server.service.pid_file.as_ref().map(PidFile::path),
            listeners,
            admin: self.sources.admin.admin.inherited_sockets()?,
        })
    }

    /// Sends a signal to the successor. It stays a child until it is reaped, so no other process can have its pid.
    fn signal_successor(&self, pid: Pid, signal: Signal) {
        match kill(unistd::Pid::from_raw(pid.0), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(error) => {
                let pairs =
                    [("pid", Value::Number(i64::from(pid.0))), ("reason", Value::Display(&error))];
                self.server.log.line(Level::Error, "upgrade.signal_failed", &pairs);
            }
        }
    }

    /// Hands everything over and exits. If the successor cannot be reached, nothing changes.
    fn hand_over(&mut self, pid: Pid, now: Instant) {
        if self.supervisor.service_state() == ServiceState::Stopping {
            return; // Both servers stop: the successor is terminated when the stop is carried out.
        }
        let collector = &mut self.sources.metrics.collector;
        let totals = collector.for_successor(&self.server.scoreboard, now);
        let Some(line) = &self.sources.upgrade.line else { return };
        let number = Value::Number(i64::from(pid.0));
        if let Err(error) = reexec::send_totals(line, YOURS, &totals) {
            let pairs = [("pid", number), ("reason", Value::Display(&error))];
            self.server.log.line(Level::Error, "upgrade.not_handed_over", &pairs);
            return self.signal_successor(pid, Signal::SIGTERM); // The successor will not ask again.
        }
        self.sources.upgrade.upgrade.handed_over();
        self.pass_connections();
        // From here on the service manager accepts notifications only from the successor.
        self.server.notify(&format!("MAINPID={}", pid.0));
        self.server.service.notifier = Notifier::silent();
        self.sources.admin.admin.give_away();
        if let Some(file) = &mut self.server.service.pid_file {
            file.give_away();
        }
        if let Some(listeners) = &mut self.server.listeners {
            listeners.disown();
        }
        self.sources.metrics.collector.suppress_gauges(true);
        self.server.log.line(Level::Info, "upgrade.handed_over", &[("pid", number)]);
        self.supervisor.handle(Event::OperatorCommand(OperatorCommand::Quit), now);
    }

    /// Has the idle connections of draining workers go to the successor. Where this fails, they are closed.
    fn pass_connections(&mut self) {
        let Some(line) = &self.sources.upgrade.line else { return };
        let sent = self
            .sources
            .shared_connections
            .begin_to_pass()
            .and_then(|socket| Ok(fd::send_descriptor(line.as_fd(), KEPT, socket.as_fd())?));
        match sent {
            Ok(()) => self.server.scoreboard.header().set_passes_connections(true),
            Err(error) => {
                let pairs = [("reason", Value::Display(&error))];
                self.server.log.line(Level::Warning, "upgrade.connections_not_passed", &pairs);
            }
        }
    }

    fn successor_exited(&mut self, pid: Pid, status: ExitStatus, now: Instant) {
        let source = &mut self.sources.upgrade;
        if source.upgrade.is_handed_over() {
            let pairs =
                [("pid", Value::Number(i64::from(pid.0))), ("status", Value::Display(&status))];
            return self.server.log.line(Level::Critical, "upgrade.successor_ended", &pairs);
        }
        // The workers of the failed successor served from the same queues, so this server adds their counts to its own.
        let collector = &mut self.sources.metrics.collector;
        if let Some(totals) = source.carried_totals.take() {
            collector.absorb(&totals);
        }
        if let Some(unsent) = source.carried_unsent.take() {
            collector.inherit(&unsent);
        }
        self.server.scoreboard.header().set_shares_listeners(false);
        if self.supervisor.service_state() != ServiceState::Stopping
            && let Some(listeners) = &self.server.listeners
        {
            listeners.reopen();
        }
        let action = self.sources.upgrade.upgrade.exited(status);
        self.act(action, now);
    }

    /// Stops a successor that owns nothing yet, because this server stops by `deadline`.
    pub(super) fn stop_successor(&mut self, deadline: Instant, now: Instant) {
        let action = self.sources.upgrade.upgrade.stop(deadline + REAPING);
        self.act(action, now);
    }

    /// Stops the successor quickly, on INT.
    pub(super) fn interrupt_successor(&mut self, now: Instant) {
        let quick = self.server.generations.current().config.patience.quick;
        self.stop_successor(now + quick, now);
        let source = &self.sources.upgrade;
        if let Some(pid) = source.upgrade.pid().filter(|_| source.is_pending()) {
            self.signal_successor(pid, Signal::SIGINT);
        }
    }

    /// Sends the totals to the other servers.
    pub(super) fn send_totals(&mut self, now: Instant) {
        let (source, scoreboard) = (&self.sources.upgrade, &self.server.scoreboard);
        let collector = &mut self.sources.metrics.collector;
        if let Some(before) = source.predecessor.as_ref().filter(|_| !source.is_owner()) {
            let totals = collector.own_totals(scoreboard, now);
            // On an error, the predecessor is gone and this server owns everything; or the next totals include these.
            let _ = reexec::send_totals(&before.line, COUNTED, &totals);
        }
        if let Some(line) = &source.line {
            let totals = collector.for_successor(scoreboard, now);
            // On an error, the successor is gone, which is noticed elsewhere; or it has not read for long, and the next
            // totals include these.
            let _ = reexec::send_totals(line, COUNTED, &totals);
        }
    }

    /// Handles the crash of a worker that was ready. As long as the predecessor can go on, this server gives way to it.
    pub(super) fn give_way(&mut self) {
        if self.sources.upgrade.successor.worker_crashed() {
            self.supervisor.handle(Event::OperatorCommand(OperatorCommand::Quit), Instant::now());
        }
    }

    /// Makes this server the owner of everything.
    fn take_over(&mut self) {
        let taken = self.sources.upgrade.successor.take();
        if taken == TakeOver::Already {
            return;
        }
        self.server.service.is_owner = true;
        self.server.scoreboard.header().set_shares_listeners(false);
        if let Some(listeners) = &mut self.server.listeners {
            listeners.own();
        }
        self.sources.metrics.collector.suppress_gauges(false);
        if self.sources.optional.watchdog.0.is_some() {
            self.server.notify(ALIVE); // Earlier watchdog notifications were not sent.
        }
        let before = self.sources.upgrade.predecessor.as_mut();
        let pid = before.as_ref().map_or(Pid(0), |before| before.pid);
        let pid_file = before.and_then(|before| before.pid_file.take());
        let pairs = [("predecessor", Value::Number(i64::from(pid.0)))];
        self.server.log.line(Level::Info, "upgrade.taken_over", &pairs);
        match taken {
            TakeOver::Serving => self.announce_ready(),
            TakeOver::Booting | TakeOver::Already => {}
        }
        if let (Some(path), Ok(pid)) = (pid_file, u32::try_from(pid.0)) {
            drop(PidFile::take_over(&path, pid));
        }
        self.sources.admin.admin.open();
    }
}
