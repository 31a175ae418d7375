//! What is told to the world: the log, the service manager, the pid file, the counters of ends.

use std::time::{Duration, Instant};

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::log::{Level, Value};
use arctos_worker::shared::scoreboard::ServerState;
use arctos_worker::shared::scoreboard::{Counter, Side, WorkerEntry};

use nix::sys::signal::Signal;

use super::{Monitor, blame, monotonic};
use crate::supervisor::health::Hang;
use crate::supervisor::log_event::{LogEvent, RunningRequest};
use crate::supervisor::restart_storm;
use crate::supervisor::slot::{Ending, ExitStatus, KillReason};
use crate::system::exit_cause;
use crate::system::pid::Pid;
use crate::system::pid_file::PidFile;

/// From the last deadline of a stop to the end of the process: reaping, and the last metrics.
const STOP_MARGIN: Duration = Duration::from_secs(5);

impl Monitor<'_> {
    pub(super) fn report_ready(&mut self) {
        let header = self.scoreboard.header();
        header.set_generation(self.generations.number());
        header.set_state(ServerState::Serving);
        if self.succession.serves() {
            self.tell_ready();
        }
    }

    /// Says to the world that this server is the one that serves.
    pub(super) fn tell_ready(&mut self) {
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
            ("workers", Value::Number(i64::try_from(self.children.len()).unwrap_or(i64::MAX))),
            ("listen", Value::Text(&addresses)),
        ];
        if !admin.is_empty() {
            pairs.push(("admin", Value::Text(&admin)));
        }
        self.log.line(Level::Info, "server.ready", &pairs);
        self.notify("READY=1\nSTATUS=Serving");
    }

    pub(super) fn report_stopping(&mut self, deadline: Instant) {
        let header = self.scoreboard.header();
        header.set_state(ServerState::Stopping);
        self.end_opening(None);
        self.end_zygotes(|_| true);
        let left = deadline.saturating_duration_since(Instant::now());
        header.set_drain_deadline(monotonic().map(|now| now + left));
        self.cut_off_before_stop = self.cut_off();
        let pairs = [("pid", Value::Number(i64::from(std::process::id())))];
        self.log.line(Level::Info, "server.stopping", &pairs);
        // The whole budget, where TimeoutStopSec= is shorter than it.
        let usec = (left + STOP_MARGIN).as_micros();
        self.notify(&format!("STOPPING=1\nSTATUS=Stopping\nEXTEND_TIMEOUT_USEC={usec}"));
        self.end_successor(deadline, Instant::now());
    }

    /// Tells the watchdog that the loop turns, if it is time.
    pub(super) fn beat(&mut self, now: Instant) {
        if self.watchdog.as_mut().is_some_and(|watchdog| watchdog.is_due(now)) {
            self.notify("WATCHDOG=1");
        }
    }

    pub(super) fn notify(&self, state: &str) {
        if !self.succession.is_owner() {
            return; // The service manager's service is the server before this one.
        }
        if let Err(error) = self.notifier.tell(state) {
            let pairs = [("state", Value::Text(state)), ("reason", Value::Display(&error))];
            self.log.line(Level::Warning, "notify.failed", &pairs);
        }
    }

    /// Writes a notice; with the end of a worker comes what it was doing.
    pub(super) fn tell(&mut self, notice: &LogEvent) {
        match notice {
            LogEvent::Hung { slot, side, pid, .. } => {
                let running = self.scoreboard.entry(*slot, *side).and_then(running_request);
                notice.write(&self.log, running.as_ref());
                self.tell_where_it_hangs(*slot, *pid);
            }
            LogEvent::Killed { slot, side, pid, reason, .. } => {
                let boot = self.generations.current().load.config.patience.boot;
                match reason {
                    KillReason::BootTimeout => {
                        let who = name(*slot, *pid);
                        self.blame(&who, blame::late(&who, boot));
                    }
                    KillReason::BootFailed | KillReason::Overdue | KillReason::Hung => {}
                }
                let running = self.scoreboard.entry(*slot, *side).and_then(running_request);
                notice.write(&self.log, running.as_ref());
            }
            LogEvent::Ended { slot, side, pid, ending, generation, status, is_baseline } => {
                let Some(entry) = self.scoreboard.entry(*slot, *side) else { return };
                let running = running_request(entry);
                let is_oom = *status == ExitStatus::Signal(Signal::SIGKILL as i32)
                    && *ending == Ending::Died
                    && self.oom.news();
                // The counters's only writer is dead.
                if running.is_some() {
                    entry.counters.inc(Counter::ReqKilled);
                }
                if *ending == Ending::Hung {
                    entry.counters.inc(Counter::WorkerTimeout);
                }
                match ending {
                    Ending::Died | Ending::Hung | Ending::BootFailed => {
                        if is_oom {
                            let pairs = [("slot", Value::Number(i64::from(slot.0)))];
                            self.log.line(Level::Error, "worker.out_of_memory", &pairs);
                            entry.counters.inc(Counter::WorkerRestartsOom);
                        } else {
                            entry.counters.inc(restart_reason(*ending, *status));
                        }
                    }
                    Ending::Asked => {}
                }
                notice.write(&self.log, running.as_ref());
                let who = name(*slot, *pid);
                match ending {
                    Ending::BootFailed => self.blame(&who, blame::not_booted(&who, *status)),
                    Ending::Died | Ending::Hung => {
                        self.blame(&who, format!("{who} died: {status}"));
                    }
                    Ending::Asked => {}
                }
                match ending {
                    Ending::Died | Ending::Hung
                        if ending.is_failure(*status, running.is_some()) =>
                    {
                        let request = running.as_ref().map(|running| running.line.as_str());
                        if let Some(storm) = self.deaths.note(request, *generation, Instant::now())
                        {
                            self.tell_storm(&storm);
                        }
                        if !is_baseline {
                            self.doubt();
                        }
                    }
                    Ending::Died | Ending::Hung | Ending::BootFailed | Ending::Asked => {}
                }
                // Nobody is there: no request runs and no connection is open, whoever reads it.
                entry.assign(*generation);
            }
            LogEvent::BootReport { slot, pid, report, .. } => {
                self.blame_by_report(&name(*slot, *pid));
                self.last_report = Some(report.clone());
                notice.write(&self.log, None);
            }
            LogEvent::Started { .. }
            | LogEvent::Ready { .. }
            | LogEvent::GoesOn { .. }
            | LogEvent::NotReady { .. }
            | LogEvent::Scaled { .. }
            | LogEvent::AtCeiling { .. }
            | LogEvent::AtFloor
            | LogEvent::RolloutHalted { .. }
            | LogEvent::CrashLoop { .. } => notice.write(&self.log, None),
        }
    }

    /// Workers die again and again, and are replaced as fast.
    pub(super) fn tell_storm(&self, storm: &restart_storm::Report) {
        let number = |n: u64| Value::Number(i64::try_from(n).unwrap_or(i64::MAX));
        let pairs = [
            ("deaths", number(storm.deaths_count)),
            ("in_s", number(storm.within.as_secs())),
            ("requests", Value::Text(&storm.requests)),
        ];
        self.log.line(Level::Error, "server.crash_storm", &pairs);
    }

    /// What the kernel and the scoreboard know of a worker that hangs. Its Python stack follows, from itself.
    fn tell_where_it_hangs(&self, slot: SlotId, pid: Pid) {
        let (what, age) = match self.last_hang {
            Some((hung, Hang::Request(age))) if hung == pid => ("request", age),
            Some((hung, Hang::Loop(age))) if hung == pid => ("loop", age),
            Some((hung, Hang::Exit(age))) if hung == pid => ("exit", age),
            Some(_) | None => return,
        };
        let wchan = exit_cause::wchan(pid).unwrap_or_default();
        let pairs = [
            ("slot", Value::Number(i64::from(slot.0))),
            ("pid", Value::Number(i64::from(pid.0))),
            ("in", Value::Text(what)),
            ("for_ms", Value::Number(i64::try_from(age.as_millis()).unwrap_or(i64::MAX))),
            ("kernel", Value::Text(&wchan)),
        ];
        self.log.line(Level::Error, "worker.stuck", &pairs);
    }

    /// Requests that workers cut off, or that were lost with them.
    pub(super) fn cut_off(&self) -> u64 {
        const LOST: [Counter; 2] = [Counter::ReqAbandoned, Counter::ReqKilled];
        self.sum((0..self.scoreboard.slot_count()).map(SlotId), LOST)
    }

    /// Workers of this slot that ended unasked.
    pub(super) fn restarts(&self, slot: SlotId) -> u64 {
        const REASONS: [Counter; 5] = [
            Counter::WorkerRestartsBoot,
            Counter::WorkerRestartsExit,
            Counter::WorkerRestartsSignal,
            Counter::WorkerRestartsTimeout,
            Counter::WorkerRestartsOom,
        ];
        self.sum(std::iter::once(slot), REASONS)
    }

    fn sum<const N: usize>(
        &self,
        slots: impl Iterator<Item = SlotId>,
        counters: [Counter; N],
    ) -> u64 {
        let entries = slots
            .flat_map(|slot| [Side::A, Side::B].map(|side| self.scoreboard.entry(slot, side)))
            .flatten();
        let counts = entries.flat_map(|entry| counters.map(|counter| entry.counters.get(counter)));
        counts.fold(0, u64::saturating_add)
    }
}

/// A worker in a sentence.
fn name(slot: SlotId, pid: Pid) -> String {
    format!("worker {} (pid {})", slot.0, pid.0)
}

/// `worker.restarts` with its reason, for a worker that ended unasked.
fn restart_reason(ending: Ending, status: ExitStatus) -> Counter {
    match (ending, status) {
        (Ending::BootFailed, _) => Counter::WorkerRestartsBoot,
        (Ending::Hung, _) => Counter::WorkerRestartsTimeout,
        (Ending::Died | Ending::Asked, ExitStatus::Code(_)) => Counter::WorkerRestartsExit,
        (Ending::Died | Ending::Asked, ExitStatus::Signal(_)) => Counter::WorkerRestartsSignal,
    }
}

/// What the occupant of a entry is doing, or was doing when it died.
pub(super) fn running_request(entry: &'static WorkerEntry) -> Option<RunningRequest> {
    let age = monotonic()?.saturating_sub(entry.request_start()?);
    Some(RunningRequest { age, line: entry.request_line().unwrap_or_default() })
}
