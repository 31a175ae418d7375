//! The log events of the state machine, and the lines that they write.
//!
//! The state machine only says what happened; the wording and the level are decided here. Every line about a worker has
//! its slot, pid and generation.
#![expect(missing_docs, reason = "a field that is a pid, a slot or a generation needs no sentence")]

use std::fmt;
use std::time::Duration;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::scoreboard::Side;

use crate::supervisor::slot::{Ending, ExitStatus, KillReason};
use crate::system::duration::shown;
use crate::system::pid::Pid;

/// An event that is logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// The process of `--on-start` was started.
    OnStartStarted { generation: Generation, pid: Pid },
    /// The hooks of `--on-start` have not returned within the boot timeout.
    OnStartLate { generation: Generation, pid: Pid, limit: Duration },
    /// `--on-start` failed.
    OnStartFailed { generation: Generation, report: String },
    /// A spawn that waited for a zygote failed.
    SpawnFailed { slot: SlotId, generation: Generation, reason: String },
    /// A process that the server had not started, but adopted as an orphan, was reaped.
    OrphanReaped { pid: Pid, status: ExitStatus },
    /// A worker was forked.
    Started { slot: SlotId, pid: Pid, generation: Generation },
    /// A worker can serve.
    Ready { slot: SlotId, pid: Pid, generation: Generation },
    /// A worker's report on why it cannot boot, usually a traceback.
    BootReport { slot: SlotId, pid: Pid, generation: Generation, report: String },
    /// A worker is being killed.
    Killed { slot: SlotId, side: Side, pid: Pid, generation: Generation, reason: KillReason },
    /// A worker hangs.
    Hung { slot: SlotId, side: Side, pid: Pid, generation: Generation },
    /// A worker that hung goes on, and is not killed.
    GoesOn { slot: SlotId, pid: Pid, generation: Generation },
    /// A worker is not ready within `--boot-timeout`.
    NotReady { slot: SlotId, pid: Pid, generation: Generation, limit: Duration },
    /// Workers of a new generation crashed, so its rollout is undone.
    RolloutHalted { generation: Generation },
    /// A worker has ended. `is_baseline` says whether workers of the old code crash in the same requests.
    Ended {
        slot: SlotId,
        side: Side,
        pid: Pid,
        generation: Generation,
        status: ExitStatus,
        ending: Ending,
        is_baseline: bool,
        answered: Answered,
    },
    /// An operator changed the number of workers.
    Scaled { workers: u16 },
    /// The maximum number of workers is reached, so none is added.
    AtCeiling { workers: u16 },
    /// The minimum of one worker is reached, so none is removed.
    AtFloor,
    /// The server had no ready worker for too long.
    CrashLoop { unready: Duration },
}

/// The request that a worker was running when it was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunningRequest {
    /// The age of the request.
    pub age: Duration,
    /// Method and path, with a space between them.
    pub line: String,
    /// Its identifier; empty if it is not known.
    pub id: String,
    /// The trace that it belongs to; empty if there is none.
    pub trace: String,
}

/// What the supervisor has sent to the clients of a worker that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// How many clients it has answered.
    pub count: u32,
    /// The status that the client of the running request got.
    pub running: Option<u16>,
}

impl RunningRequest {
    /// Returns the keys of a log line about this request.
    pub fn pairs(&self) -> Vec<(&'static str, Value<'_>)> {
        let age = i64::try_from(self.age.as_millis()).unwrap_or(i64::MAX);
        let id = (!self.id.is_empty()).then_some(("request_id", Value::Text(&self.id)));
        let trace = (!self.trace.is_empty()).then_some(("trace_id", Value::Text(&self.trace)));
        let (method, path) = self.line.split_once(' ').unwrap_or((&self.line, ""));
        let pairs = [
            ("request_ms", Value::Number(age)),
            ("method", Value::Text(method)),
            ("path", Value::Text(path)),
        ];
        pairs.into_iter().chain(id).chain(trace).collect()
    }
}

impl LogEvent {
    /// Writes the log line. `running` is the request that the worker of this event was running.
    pub fn write(&self, log: &Log, running: Option<&RunningRequest>) {
        match self {
            Self::OnStartStarted { generation, pid } => {
                log.line(Level::Info, "on_start.started", &on_start(generation, pid));
            }
            Self::OnStartLate { generation, pid, limit } => {
                write_late(log, "on_start.not_ready", &on_start(generation, pid), *limit);
            }
            Self::OnStartFailed { generation, report } => {
                let pairs = [("generation", number(generation.0))];
                log.block(Level::Error, "on_start.failed", &pairs, report);
            }
            Self::SpawnFailed { slot, generation, reason } => {
                let reason = ("reason", Value::Text(reason));
                let pairs =
                    [("slot", number(slot.0)), ("generation", number(generation.0)), reason];
                log.line(Level::Error, "worker.spawn_failed", &pairs);
            }
            Self::OrphanReaped { pid, status } => {
                let pairs = [("pid", number(pid.0)), ("status", Value::Display(status))];
                log.line(Level::Debug, "orphan.reaped", &pairs);
            }
            Self::Started { slot, pid, generation } => {
                log.line(Level::Info, "worker.started", &worker(slot, pid, generation));
            }
            Self::Ready { slot, pid, generation } => {
                log.line(Level::Info, "worker.ready", &worker(slot, pid, generation));
            }
            Self::BootReport { slot, pid, generation, report } => {
                let pairs = worker(slot, pid, generation);
                log.block(Level::Error, "worker.boot_failed", &pairs, report);
            }
            Self::Killed { slot, side: _, pid, generation, reason } => {
                let mut pairs = worker(slot, pid, generation).to_vec();
                pairs.push(("reason", Value::Text(kill_reason(*reason))));
                write_with_request(log, Level::Error, "worker.killed", pairs, running);
            }
            Self::Hung { slot, side: _, pid, generation } => {
                let pairs = worker(slot, pid, generation).to_vec();
                write_with_request(log, Level::Error, "worker.hung", pairs, running);
            }
            Self::GoesOn { slot, pid, generation } => {
                log.line(Level::Warning, "worker.recovered", &worker(slot, pid, generation));
            }
            Self::NotReady { slot, pid, generation, limit } => {
                write_late(log, "worker.not_ready", &worker(slot, pid, generation), *limit);
            }
            Self::RolloutHalted { generation } => {
                log.line(Level::Error, "reload.halted", &[("generation", number(generation.0))]);
            }
            Self::Ended { .. } => self.write_end(log, running),
            Self::Scaled { workers } => {
                write_workers(log, Level::Info, "server.scaled", *workers);
            }
            Self::AtCeiling { workers } => {
                write_workers(log, Level::Warning, "server.at_most_workers", *workers);
            }
            Self::AtFloor => write_workers(log, Level::Warning, "server.at_least_workers", 1),
            Self::CrashLoop { unready } => {
                let seconds = i64::try_from(unready.as_secs()).unwrap_or(i64::MAX);
                let pairs = [("no_worker_ready_for_s", Value::Number(seconds))];
                log.line(Level::Critical, "server.crash_loop", &pairs);
            }
        }
    }

    /// Writes the line about the end of a worker: what it was running, and what its clients got.
    fn write_end(&self, log: &Log, running: Option<&RunningRequest>) {
        let Self::Ended { slot, pid, generation, status, ending, answered, .. } = self else {
            return;
        };
        let (level, event) = ended(*ending, *status, running.is_some());
        let mut pairs = worker(slot, pid, generation).to_vec();
        pairs.push(("status", Value::Display(status)));
        if running.is_some() {
            pairs.push(("answered", answered.running.map_or(Value::Text("no"), number)));
        }
        if answered.count > 0 {
            pairs.push(("victims", number(answered.count)));
        }
        write_with_request(log, level, event, pairs, running);
    }
}

/// The level and the name of the log event for the end of a worker.
fn ended(ending: Ending, status: ExitStatus, had_running: bool) -> (Level, &'static str) {
    match (ending, status) {
        // The request that the worker should have finished is lost with it.
        (Ending::Asked, _) if had_running => (Level::Warning, "worker.exited"),
        (Ending::Asked, _) => (Level::Info, "worker.exited"),
        // The worker was sent TERM directly, or it recycled itself.
        (Ending::Died, ExitStatus::Code(0)) => (Level::Warning, "worker.exited"),
        (Ending::Died, ExitStatus::Code(_) | ExitStatus::Signal(_)) | (Ending::Hung, _) => {
            (Level::Error, "worker.died")
        }
        (Ending::BootFailed, _) => (Level::Error, "worker.not_booted"),
    }
}

fn kill_reason(reason: KillReason) -> &'static str {
    match reason {
        KillReason::BootTimeout => "not ready within --boot-timeout",
        KillReason::BootFailed => "could not boot and did not exit",
        KillReason::Overdue => "did not exit in time",
        KillReason::Hung => "hangs",
    }
}

fn number<'a>(number: impl Into<i64>) -> Value<'a> {
    Value::Number(number.into())
}

fn write_workers(log: &Log, level: Level, event: &str, workers: u16) {
    log.line(level, event, &[("workers", number(workers))]);
}

/// Logs that a process was not ready in time.
fn write_late(log: &Log, event: &str, pairs: &[(&str, Value<'_>)], limit: Duration) {
    let reason = not_ready_within(limit);
    let reason = [("reason", Value::Text(&reason))];
    log.line(Level::Error, event, &[pairs, &reason].concat());
}

/// The reason for a process that was not ready in time. Its Python stack is logged below.
pub fn not_ready_within(limit: Duration) -> String {
    format!("not ready within --boot-timeout {}: see its Python stack", shown(limit))
}

/// The keys of every log line about `--on-start`.
fn on_start<'a>(generation: &Generation, pid: &Pid) -> [(&'a str, Value<'a>); 2] {
    let generation = Value::Number(i64::from(generation.0));
    [("generation", generation), ("pid", Value::Number(i64::from(pid.0)))]
}

/// The keys of every log line about a worker.
fn worker<'a>(slot: &SlotId, pid: &Pid, generation: &Generation) -> [(&'a str, Value<'a>); 3] {
    [
        ("slot", Value::Number(i64::from(slot.0))),
        ("pid", Value::Number(i64::from(pid.0))),
        ("generation", Value::Number(i64::from(generation.0))),
    ]
}

fn write_with_request<'a>(
    log: &Log,
    level: Level,
    event: &str,
    mut pairs: Vec<(&'a str, Value<'a>)>,
    running: Option<&'a RunningRequest>,
) {
    if let Some(running) = running {
        pairs.extend(running.pairs());
    }
    log.line(level, event, &pairs);
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match nix::sys::signal::Signal::try_from(*number) {
                Ok(signal) => write!(f, "{signal}"),
                Err(_) => write!(f, "signal {number}"), // A real-time signal has no name.
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use arctos_worker::shared::log::LogFormat;
    use std::io::Read;

    use super::*;

    /// Returns the log line for the end of a worker that was asked to exit.
    fn left(running: Option<&RunningRequest>, answered: Answered) -> String {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let log = Log::new(Level::Info, LogFormat::Text, writer.into());
        let (slot, side, pid, generation) = (SlotId(0), Side::A, Pid(71), Generation(1));
        let (status, ending, is_baseline) = (ExitStatus::Code(9), Ending::Asked, false);
        LogEvent::Ended { slot, side, pid, generation, status, ending, is_baseline, answered }
            .write(&log, running);
        drop(log);
        let mut line = String::new();
        reader.read_to_string(&mut line).unwrap();
        line
    }

    fn running() -> RunningRequest {
        let (age, line) = (Duration::from_millis(97), "GET /work".to_owned());
        RunningRequest { age, line, id: "7f".to_owned(), trace: String::new() }
    }

    #[test]
    fn a_request_that_is_lost_with_an_exiting_worker_is_a_warning() {
        let line = left(Some(&running()), Answered::default());
        assert!(line.contains(" WARNING worker.exited "), "{line}");
        assert!(line.contains(" method=GET path=/work request_id=7f"), "{line}");
        assert!(left(None, Answered::default()).contains(" INFO worker.exited "));
    }

    #[test]
    fn the_line_says_what_the_client_of_the_running_request_got() {
        let answered = Answered { count: 3, running: Some(504) };
        let line = left(Some(&running()), answered);
        assert!(line.contains(" answered=504 victims=3 "), "{line}");
        let line = left(Some(&running()), Answered::default());
        assert!(line.contains(" answered=no ") && !line.contains("victims"), "{line}");
        let line = left(None, Answered { count: 1, running: None });
        assert!(line.contains(" victims=1") && !line.contains("answered"), "{line}");
    }

    #[test]
    fn a_real_time_signal_is_shown_as_a_number() {
        assert_eq!(ExitStatus::Signal(9).to_string(), "SIGKILL");
        assert_eq!(ExitStatus::Signal(40).to_string(), "signal 40");
        assert_eq!(ExitStatus::Code(7).to_string(), "exit code 7");
    }
}
