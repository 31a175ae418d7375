//! Reports to the outside: the log, the service manager, the pid file, and the counters of ended workers.

use std::fs;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::log::{Level, LogFormat, Paint, Value};
use arctos_worker::shared::scoreboard::ServerState;
use arctos_worker::shared::scoreboard::{Counter, Scoreboard, WorkerEntry};
use nix::sys::signal::Signal;

use super::clock::monotonic;
use super::failure_cause::{self, Failure};
use super::quarantine::incident;
use super::running_request::running_request;
use super::startup_table::{self, Facts};
use super::{Monitor, workers};
use crate::listener::Listeners;
use crate::supervisor::log_event::LogEvent;
use crate::supervisor::quarantine;
use crate::supervisor::restart_storm;
use crate::supervisor::slot::{Ending, ExitStatus, KillReason};
use crate::system::cgroup;
use crate::system::exit_cause;
use crate::system::pid::Pid;
use crate::system::pid_file::PidFile;

/// The time that reaping and the last metrics take after the last deadline of a stop.
const STOP_MARGIN: Duration = Duration::from_secs(5);

impl Monitor<'_> {
    pub(super) fn report_ready(&mut self) {
        let header = self.server.scoreboard.header();
        header.set_generation(self.server.generations.number());
        header.set_state(ServerState::Serving);
        self.sources.upgrade.successor.serves();
        if self.sources.upgrade.is_owner() {
            self.announce_ready();
        }
    }

    /// Reports that this server is ready and owns the service.
    pub(super) fn announce_ready(&mut self) {
        let server = &mut self.server;
        if let Some(Err(error)) = server.service.pid_file.as_mut().map(PidFile::publish) {
            let pairs = [("reason", Value::Display(&error))];
            server.log.line(Level::Error, "pid_file.failed", &pairs);
        }
        let addresses = match &server.listeners {
            Some(listeners) => listeners.describe(server.generations.scheme()).join(" "),
            None => String::new(),
        };
        let admin = self.sources.admin.admin.descriptions().join(" ");
        let workers = i64::try_from(self.sources.workers.all().len()).unwrap_or(i64::MAX);
        let mut pairs = vec![
            ("pid", Value::Number(i64::from(std::process::id()))),
            ("workers", Value::Number(workers)),
            ("listen", Value::Text(&addresses)),
        ];
        if !admin.is_empty() {
            pairs.push(("admin", Value::Text(&admin)));
        }
        server.log.line(Level::Info, "server.ready", &pairs);
        server.notify("READY=1\nSTATUS=Serving");
        self.show_startup_table();
    }

    /// Shows the most important settings to a person in a terminal.
    fn show_startup_table(&self) {
        let server = &self.server;
        let is_for_person = std::io::stderr().is_terminal()
            && server.log.format() == LogFormat::Text
            && server.log.is_enabled(Level::Info);
        if !is_for_person {
            return;
        }
        let revision = server.generations.current();
        let describe = |listeners: &Listeners| listeners.describe(server.generations.scheme());
        let facts = Facts {
            runtime: revision.launch.describe(),
            addresses: server.listeners.as_ref().map(describe).unwrap_or_default(),
            admin: self.sources.admin.admin.descriptions(),
            boot_s: server.started.elapsed().as_secs_f64(),
            memory: cgroup::memory_limit(|path| fs::read_to_string(path).ok()),
            is_colored: server.log.paint() == Paint::Colored,
        };
        server.log.text(&startup_table::table(&revision.config, &facts));
    }

    pub(super) fn report_stopping(&mut self, deadline: Instant) {
        let server = &mut self.server;
        let header = server.scoreboard.header();
        header.set_state(ServerState::Stopping);
        let left = deadline.saturating_duration_since(Instant::now());
        header.set_drain_deadline(monotonic().map(|now| now + left));
        server.cut_off_before_stop = server.cut_off_count();
        let pairs = [("pid", Value::Number(i64::from(std::process::id())))];
        server.log.line(Level::Info, "server.stopping", &pairs);
        // This extends TimeoutStopSec= to the whole budget if it is shorter.
        let usec = (left + STOP_MARGIN).as_micros();
        server.notify(&format!("STOPPING=1\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC={usec}"));
        self.stop_successor(deadline, Instant::now());
    }

    /// Writes a log event of the state machine. For the end of a worker, the line says what it was doing.
    pub(super) fn log(&mut self, event: &LogEvent) {
        match event {
            LogEvent::Hung { slot, side, pid, .. } => {
                let entry = self.server.scoreboard.entry(*slot, *side);
                event.write(&self.server.log, entry.and_then(running_request).as_ref());
                self.log_hang(*pid);
            }
            LogEvent::Killed { slot, side, pid, reason, .. } => {
                if *reason == KillReason::BootTimeout {
                    self.server.record_failure(Failure::late(name(*slot, *pid)));
                }
                let entry = self.server.scoreboard.entry(*slot, *side);
                event.write(&self.server.log, entry.and_then(running_request).as_ref());
            }
            LogEvent::Ended { slot, side, .. } => {
                if let Some(entry) = self.server.scoreboard.entry(*slot, *side) {
                    self.log_ended_worker(event, entry);
                }
                let area = Scoreboard::worker_area(*slot, *side);
                self.sources.metrics.collector.retire_area(&self.server.scoreboard, area);
            }
            LogEvent::BootReport { slot, pid, report, .. } => {
                let failure = Failure::reported(name(*slot, *pid), report.clone());
                self.server.record_failure(failure);
                event.write(&self.server.log, None);
            }
            LogEvent::OnStartFailed { report, .. } => {
                event.write(&self.server.log, None);
                let who = "the process of --on-start".to_owned();
                self.server.record_failure(Failure::reported(who, report.clone()));
            }
            LogEvent::OnStartStarted { .. }
            | LogEvent::OnStartLate { .. }
            | LogEvent::SpawnFailed { .. }
            | LogEvent::OrphanReaped { .. }
            | LogEvent::Started { .. }
            | LogEvent::Ready { .. }
            | LogEvent::GoesOn { .. }
            | LogEvent::NotReady { .. }
            | LogEvent::Scaled { .. }
            | LogEvent::AtCeiling { .. }
            | LogEvent::AtFloor
            | LogEvent::RolloutHalted { .. }
            | LogEvent::CrashLoop { .. } => event.write(&self.server.log, None),
        }
    }

    /// Counts and logs the end of a worker, which was the only writer of its entry.
    fn log_ended_worker(&mut self, event: &LogEvent, entry: &'static WorkerEntry) {
        let LogEvent::Ended { slot, pid, ending, generation, status, is_baseline, .. } = event
        else {
            return;
        };
        let running = running_request(entry);
        self.count_ended_worker(*slot, *ending, *status, running.is_some(), entry);
        event.write(&self.server.log, running.as_ref());
        let who = name(*slot, *pid);
        let cause = match ending {
            Ending::BootFailed => Some(failure_cause::not_booted(&who, *status)),
            Ending::Died | Ending::Hung => Some(format!("{who} died: {status}")),
            Ending::Asked => None,
        };
        if let Some(cause) = cause {
            self.server.record_failure(Failure::observed(who, cause));
        }
        self.record_incident(*pid, *ending, *status, entry);
        let was_serving = matches!(ending, Ending::Died | Ending::Hung);
        if was_serving && ending.is_failure(*status, running.is_some()) {
            let request = running.as_ref().map(|running| running.line.as_str());
            let storm = self.sources.crashes.storm.record(request, *generation, Instant::now());
            if let Some(storm) = storm {
                self.log_restart_storm(&storm);
            }
            if !is_baseline {
                self.give_way();
            }
        }
        // The entry is vacant from here on, so it must show no running request and no open connection.
        entry.assign(*generation);
    }

    /// Records the request in which a worker died or hung, for the quarantine.
    fn record_incident(
        &mut self,
        pid: Pid,
        ending: Ending,
        status: ExitStatus,
        entry: &'static WorkerEntry,
    ) {
        if !quarantine::is_incident(ending, status) {
            return;
        }
        let generations = &self.server.generations;
        let revision = generations.of(entry.generation()).unwrap_or_else(|| generations.current());
        let keys = self.sources.quarantine.keys.at(&revision.config.worker.root_path);
        if let Some(incident) = incident(pid, entry, &keys) {
            self.sources.quarantine.record(incident, Instant::now());
        }
    }

    fn count_ended_worker(
        &mut self,
        slot: SlotId,
        ending: Ending,
        status: ExitStatus,
        had_running: bool,
        entry: &'static WorkerEntry,
    ) {
        let is_oom = status == ExitStatus::Signal(Signal::SIGKILL as i32)
            && ending == Ending::Died
            && self.sources.crashes.oom.has_new_kill();
        if had_running {
            entry.counters.inc(Counter::ReqKilled);
        }
        if ending == Ending::Hung {
            entry.counters.inc(Counter::WorkerTimeout);
        }
        match ending {
            Ending::Died | Ending::Hung | Ending::BootFailed if is_oom => {
                let pairs = [("slot", Value::Number(i64::from(slot.0)))];
                self.server.log.line(Level::Error, "worker.out_of_memory", &pairs);
                entry.counters.inc(Counter::WorkerRestartsOom);
            }
            Ending::Died | Ending::Hung | Ending::BootFailed => {
                entry.counters.inc(restart_reason(ending, status));
            }
            Ending::Asked => {}
        }
    }

    /// Logs a restart storm: workers keep crashing, and each is replaced at once.
    pub(super) fn log_restart_storm(&self, storm: &restart_storm::Report) {
        let number = |n: u64| Value::Number(i64::try_from(n).unwrap_or(i64::MAX));
        let pairs = [
            ("deaths", number(storm.crashes_count)),
            ("in_s", number(storm.within.as_secs())),
            ("requests", Value::Text(&storm.requests)),
        ];
        self.server.log.line(Level::Error, "server.restart_storm", &pairs);
    }

    /// Logs what the kernel and the scoreboard know about a worker that hangs. The worker's own Python stack follows.
    fn log_hang(&self, pid: Pid) {
        let Some(child) = self.sources.workers.of(pid) else { return };
        let Some((what, age)) = child.hang.map(workers::describe_hang) else { return };
        let wchan = exit_cause::wchan(pid).unwrap_or_default();
        let pairs = [
            ("slot", Value::Number(i64::from(child.slot.0))),
            ("pid", Value::Number(i64::from(pid.0))),
            ("in", Value::Text(what)),
            ("for_ms", Value::Number(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))),
            ("kernel", Value::Text(&wchan)),
        ];
        self.server.log.line(Level::Error, "worker.stuck", &pairs);
    }
}

/// Names a worker in a sentence.
fn name(slot: SlotId, pid: Pid) -> String {
    format!("worker {} (pid {})", slot.0, pid.0)
}

/// Returns the restart counter for a worker that ended without having been asked to.
fn restart_reason(ending: Ending, status: ExitStatus) -> Counter {
    match (ending, status) {
        (Ending::BootFailed, _) => Counter::WorkerRestartsBoot,
        (Ending::Hung, _) => Counter::WorkerRestartsTimeout,
        (Ending::Died | Ending::Asked, ExitStatus::Code(_)) => Counter::WorkerRestartsExit,
        (Ending::Died | Ending::Asked, ExitStatus::Signal(_)) => Counter::WorkerRestartsSignal,
    }
}
