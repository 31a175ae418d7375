//! What `/livez`, `/readyz` and `/status` say.
//!
//! Values come in, answers go out; who fills the values in looks at slots, processes and the scoreboard. They
//! are two, because the probes are asked every few seconds by everybody: [`Health`] costs nothing to
//! fill in, [`Status`] reads the memory of each worker.

use std::time::Duration;

use arctos_worker::shared::fd::AcceptQueue;
use arctos_worker::shared::identity::{Generation, SlotId};
use serde_json::{Value, json};

use super::Answer;
use super::reload;
use crate::supervisor::ReloadOutcome;
use crate::supervisor::log_event::RunningRequest;
use crate::supervisor::slot::SlotState;
use crate::system::pid::Pid;

pub use crate::supervisor::{ReloadStep as Step, ServiceState as Phase};

/// What the probes want to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Where the server stands.
    pub phase: Phase,
    /// Workers that are wanted.
    pub target: u16,
    /// Workers that are ready.
    pub ready: u16,
}

/// Everything that `/status` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Of arctos.
    pub version: &'static str,
    /// Of the supervisor.
    pub pid: u32,
    /// Where the server stands.
    pub health: Health,
    /// What a worker that is spawned now is of.
    pub generation: Generation,
    /// How long it has been running, by the monotonic clock.
    pub age: Duration,
    /// How long it has stood where it stands, by the monotonic clock.
    pub standing_for: Duration,
    /// Where it serves requests.
    pub listen: Vec<String>,
    /// Where it answers operators.
    pub admin: Vec<String>,
    /// Connections that wait to be accepted; `None` where there is no TCP listener.
    pub backlog: Option<AcceptQueue>,
    /// The last reload.
    pub reload: Reload,
    /// The slots in order, without empty ones; and beside them the worker that replaces one, or is
    /// replaced.
    pub workers: Vec<Worker>,
}

/// How far the last reload has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// There was none.
    Idle,
    /// It is under way.
    Running {
        /// What it is about to bring.
        generation: Generation,
        /// What it is doing.
        step: Step,
    },
    /// It has ended, and no other one has begun.
    Ended {
        /// How.
        outcome: ReloadOutcome,
        /// So long ago, by the monotonic clock.
        ago: Duration,
        /// Why, for a person: a traceback, as a rule.
        report: Option<String>,
    },
}

/// One place, and who is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Worker {
    /// Which place.
    pub slot: SlotId,
    /// Whose code the process has, or had, if there is none at present.
    pub generation: Generation,
    /// What is in it.
    pub state: SlotState,
    /// How many workers ended here without having been asked to.
    pub restarts_count: u64,
    /// The process that is there.
    pub process: Option<Process>,
}

/// One worker process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Its number.
    pub pid: Pid,
    /// Since it was forked.
    pub age: Duration,
    /// What it is doing.
    pub request: Option<RunningRequest>,
    /// Requests it has given to the application.
    pub requests_count: u64,
    /// Connections that it has open.
    pub open_count: u64,
    /// Its resident memory; `None` where the kernel does not tell.
    pub rss_bytes: Option<u64>,
}

impl Phase {
    /// How it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Paused => "resting",
            Self::Stopping => "stopping",
        }
    }
}

impl Step {
    /// How it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::Rolling => "rolling",
            Self::RollingBack => "rolling-back",
        }
    }
}

/// 200 as long as somebody is there to say so, also during a stop: who restarts a server that is
/// finishing requests loses them.
pub fn livez() -> Answer {
    Answer::plain(200, "alive\n")
}

/// 200 when requests can be sent here; else 503 with the reasons, one a line.
pub fn readyz(health: &Health) -> Answer {
    let mut reasons = Vec::new();
    match health.phase {
        Phase::Serving => {}
        Phase::Starting => reasons.push("starting"),
        Phase::Paused => reasons.push("resting"),
        Phase::Stopping => reasons.push("stopping"),
    }
    if health.ready == 0 {
        reasons.push("no worker is ready");
    }
    match reasons.as_slice() {
        [] => Answer::plain(200, "ready\n"),
        reasons => Answer::plain(503, &format!("{}\n", reasons.join("\n"))),
    }
}

/// `/status`.
pub fn answer(status: &Status) -> Answer {
    Answer { status: 200, content_type: "application/json", body: json(status) }
}

/// One JSON object, on lines of its own for who reads it without a tool. Times end in `_s` and are in
/// seconds; what is not known is null. A reader has to bear keys that are new.
pub fn json(status: &Status) -> String {
    let object = json!({
        "version": status.version,
        "pid": status.pid,
        "state": status.health.phase.word(),
        "generation": status.generation.0,
        "age_s": seconds(status.age),
        "state_s": seconds(status.standing_for),
        "workers_target": status.health.target,
        "workers_ready": status.health.ready,
        "listen": status.listen,
        "admin": status.admin,
        "backlog": status.backlog.map(|queue| json!({ "len": queue.len, "max": queue.max })),
        "reload": reload(&status.reload),
        "workers": status.workers.iter().map(worker).collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

fn reload(reload: &Reload) -> Value {
    match reload {
        Reload::Idle => json!({ "state": "idle" }),
        Reload::Running { generation, step } => {
            json!({ "state": "running", "generation": generation.0, "step": step.word() })
        }
        Reload::Ended { outcome, ago, report } => json!({
            "state": "ended",
            "outcome": reload::word(*outcome),
            "ago_s": seconds(*ago),
            "report": report,
        }),
    }
}

fn worker(worker: &Worker) -> Value {
    let process = worker.process.as_ref();
    let request = process.and_then(|process| process.request.as_ref());
    json!({
        "slot": worker.slot.0,
        "generation": worker.generation.0,
        "state": state(worker.state),
        "pid": process.map(|process| process.pid.0),
        "age_s": process.map(|process| seconds(process.age)),
        "restarts": worker.restarts_count,
        "request": request.map(|request| json!({
            "line": request.line,
            "age_s": seconds(request.age),
        })),
        "requests": process.map(|process| process.requests_count),
        "connections_open": process.map(|process| process.open_count),
        "rss_bytes": process.and_then(|process| process.rss_bytes),
    })
}

fn state(state: SlotState) -> &'static str {
    match state {
        SlotState::Empty => "empty",
        SlotState::Backoff { .. } => "waiting",
        SlotState::Spawning | SlotState::Starting { .. } => "starting",
        SlotState::Failing { .. } => "failing",
        SlotState::Ready { .. } => "ready",
        SlotState::Recalled { .. } | SlotState::Draining { .. } => "draining",
        SlotState::Quitting { .. } => "quitting",
        SlotState::Hung { .. } => "hanging",
        SlotState::Killed { .. } => "killed",
    }
}

/// To the millisecond: more would be noise.
fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn health(phase: Phase, ready: u16) -> Health {
        Health { phase, target: 2, ready }
    }

    fn status() -> Status {
        Status {
            version: "1.2.3",
            pid: 7,
            health: health(Phase::Serving, 1),
            generation: Generation(3),
            age: Duration::from_micros(61_234_567),
            standing_for: Duration::from_millis(60_100),
            listen: vec!["http://127.0.0.1:8000".to_owned()],
            admin: vec!["unix:/run/a.sock".to_owned()],
            backlog: Some(AcceptQueue { len: 3, max: 2048 }),
            reload: Reload::Idle,
            workers: Vec::new(),
        }
    }

    fn read(status: &Status) -> Value {
        serde_json::from_str(&json(status)).unwrap()
    }

    #[test]
    fn it_is_ready_only_when_it_serves_with_at_least_one_worker() {
        let said = |phase, ready| {
            let answer = readyz(&health(phase, ready));
            (answer.status, answer.body)
        };
        assert_eq!(said(Phase::Serving, 1), (200, "ready\n".into()));
        assert_eq!(said(Phase::Serving, 0), (503, "no worker is ready\n".into()));
        assert_eq!(said(Phase::Starting, 1), (503, "starting\n".into()));
        assert_eq!(said(Phase::Starting, 0), (503, "starting\nno worker is ready\n".into()));
        assert_eq!(said(Phase::Stopping, 2), (503, "stopping\n".into()));
        assert_eq!(said(Phase::Paused, 0), (503, "resting\nno worker is ready\n".into()));
    }

    #[test]
    fn the_server_is_described_in_one_object() {
        assert_eq!(
            read(&status()),
            json!({
                "version": "1.2.3", "pid": 7, "state": "serving", "generation": 3, "age_s": 61.235,
                "state_s": 60.1,
                "workers_target": 2, "workers_ready": 1, "listen": ["http://127.0.0.1:8000"],
                "admin": ["unix:/run/a.sock"], "backlog": { "len": 3, "max": 2048 },
                "reload": { "state": "idle" }, "workers": [],
            })
        );
        assert_eq!(answer(&status()).content_type, "application/json");
    }

    #[test]
    fn a_worker_is_described_by_its_process_if_there_is_one() {
        let now = Instant::now();
        let place = |state, process| Worker {
            slot: SlotId(1),
            generation: Generation(3),
            state,
            restarts_count: 2,
            process,
        };
        let process = Process {
            pid: Pid(70),
            age: Duration::from_secs(60),
            request: Some(RunningRequest {
                age: Duration::from_millis(1500),
                line: "GET /a\"\n\u{1b}".to_owned(),
            }),
            requests_count: 12,
            open_count: 3,
            rss_bytes: Some(1 << 20),
        };
        let workers = vec![
            place(SlotState::Ready { pid: Pid(70), since: now, has_served: true }, Some(process)),
            place(SlotState::Backoff { until: now }, None),
        ];
        let status = Status { workers, ..status() };
        assert!(!json(&status).contains('\u{1b}'), "control characters are escaped");
        assert_eq!(
            read(&status)["workers"],
            json!([
                {
                    "slot": 1, "generation": 3, "state": "ready", "pid": 70, "age_s": 60.0,
                    "restarts": 2,
                    "request": { "line": "GET /a\"\n\u{1b}", "age_s": 1.5 },
                    "requests": 12, "connections_open": 3, "rss_bytes": 1_048_576,
                },
                {
                    "slot": 1, "generation": 3, "state": "waiting", "pid": null, "age_s": null,
                    "restarts": 2,
                    "request": null, "requests": null, "connections_open": null, "rss_bytes": null,
                },
            ])
        );
    }

    #[test]
    fn a_reload_is_described_while_it_runs_and_afterwards() {
        let of = |reload| read(&Status { reload, ..status() })["reload"].clone();
        let running = Reload::Running { generation: Generation(4), step: Step::RollingBack };
        assert_eq!(
            of(running),
            json!({ "state": "running", "generation": 4, "step": "rolling-back" })
        );
        let ended = Reload::Ended {
            outcome: ReloadOutcome::CanaryFailed,
            ago: Duration::from_secs(9),
            report: Some("Traceback\n".to_owned()),
        };
        assert_eq!(
            of(ended),
            json!({ "state": "ended", "outcome": "canary-failed", "ago_s": 9.0, "report": "Traceback\n" })
        );
    }
}
