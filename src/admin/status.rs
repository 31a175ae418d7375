//! The responses to `/livez`, `/readyz` and `/status`.
//!
//! This file turns values into responses; the monitor collects the values from slots, processes and the scoreboard.
//! There are two types because probes come every few seconds: [`Health`] costs nothing to collect, while
//! [`ServerStatus`] reads the memory of each worker.

use std::time::Duration;

use arctos_worker::shared::fd::AcceptQueue;
use arctos_worker::shared::identity::{Generation, SlotId};
use serde_json::{Value, json};

use super::AdminResponse;
use super::quarantine::{self, QuarantineStatus};
use super::routes::{self, RoutesStatus};
use crate::metrics::ProcessMemory;
use crate::supervisor::log_event::RunningRequest;
use crate::supervisor::slot::SlotState;
use crate::supervisor::{ReloadOutcome, ReloadStep, ServiceState};
use crate::system::cgroup::CgroupMemory;
use crate::system::duration::seconds;
use crate::system::pid::Pid;

/// The values of the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// The state of the server.
    pub state: ServiceState,
    /// The wanted number of workers.
    pub target: u16,
    /// The number of ready workers.
    pub ready: u16,
}

/// The values of `/status`.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of these fields say it")]
pub struct ServerStatus {
    pub version: &'static str,
    pub pid: u32,
    pub health: Health,
    /// The generation of a worker that is spawned now.
    pub generation: Generation,
    /// The time since the server started, by the monotonic clock.
    pub age: Duration,
    /// The time since the state of the server changed, by the monotonic clock.
    pub state_age: Duration,
    /// The addresses of its listeners.
    pub listen: Vec<String>,
    /// The addresses of its admin socket.
    pub admin: Vec<String>,
    pub resources: Resources,
    pub reload: ReloadStatus,
    pub requests: RequestsStatus,
    /// The slots in order, without empty ones, and beside them the worker that replaces another or is being replaced.
    pub workers: Vec<WorkerStatus>,
}

/// What is known of requests by their names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RequestsStatus {
    /// The requests in quarantine; `None` without `--quarantine`.
    pub quarantine: Option<QuarantineStatus>,
    /// The routes that the application has named.
    pub routes: RoutesStatus,
}

/// The progress of the last reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadStatus {
    /// There was no reload.
    Idle,
    /// The reload is running.
    Running {
        /// The new generation.
        generation: Generation,
        /// The current step.
        step: ReloadStep,
    },
    /// The reload has ended, and no other one has begun.
    Ended {
        /// The outcome.
        outcome: ReloadOutcome,
        /// The time since its end, by the monotonic clock.
        ago: Duration,
        /// The report of a failure, usually a traceback.
        report: Option<String>,
    },
}

/// What the server uses, apart from its workers.
#[derive(Clone, Debug, PartialEq)]
pub struct Resources {
    /// The accept queue; `None` without a TCP listener.
    pub backlog: Option<AcceptQueue>,
    /// The memory of the cgroup.
    pub memory: CgroupMemory,
}

/// A slot and its process.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of these fields say it")]
pub struct WorkerStatus {
    pub slot: SlotId,
    /// The generation of the process, or of its last process if there is none at present.
    pub generation: Generation,
    pub state: SlotState,
    /// The number of workers of this slot that ended unexpectedly.
    pub restarts_count: u64,
    /// The current process, if there is one.
    pub process: Option<ProcessStatus>,
}

/// A worker process.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names of these fields say it")]
pub struct ProcessStatus {
    pub pid: Pid,
    /// The time since it was forked.
    pub age: Duration,
    /// The request that it is handling.
    pub request: Option<RunningRequest>,
    /// The number of requests that it has passed to the application.
    pub requests_count: u64,
    /// The number of open connections.
    pub open_count: u64,
    /// Its memory; `None` if the kernel does not report it.
    pub memory: Option<ProcessMemory>,
}

/// The text of a server state. A paused server is `resting`, as clients and dashboards know it.
const fn state_text(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Starting => "starting",
        ServiceState::Serving => "serving",
        ServiceState::Paused => "resting",
        ServiceState::Stopping => "stopping",
    }
}

const fn step_text(step: ReloadStep) -> &'static str {
    match step {
        ReloadStep::Canary => "canary",
        ReloadStep::Rolling => "rolling",
        ReloadStep::RollingBack => "rolling-back",
    }
}

/// The response to `/livez`: 200 as long as the supervisor answers, even during a stop. An orchestrator that
/// restarted a stopping server would lose the requests that it is finishing.
pub fn livez() -> AdminResponse {
    AdminResponse::plain(200, "alive\n")
}

/// The response to `/readyz`: 200 if the server can take requests, else 503 with the reasons, one per line: the state
/// of the server, and what is `unmet` of [`readiness`](super::readiness).
pub fn readyz(state: ServiceState, unmet: Vec<String>) -> AdminResponse {
    let state = match state {
        ServiceState::Serving => None,
        ServiceState::Starting => Some("starting".to_owned()),
        ServiceState::Paused => Some("resting".to_owned()),
        ServiceState::Stopping => Some("stopping".to_owned()),
    };
    let reasons: Vec<_> = state.into_iter().chain(unmet).collect();
    match reasons.as_slice() {
        [] => AdminResponse::plain(200, "ready\n"),
        reasons => AdminResponse::plain(503, &format!("{}\n", reasons.join("\n"))),
    }
}

/// The response to `/status`.
pub fn response(status: &ServerStatus) -> AdminResponse {
    AdminResponse { status: 200, content_type: "application/json", body: json(status) }
}

/// The status as one JSON object, indented for people. Keys that end in `_s` are times in seconds; unknown values are
/// null. Clients have to accept new keys.
pub fn json(status: &ServerStatus) -> String {
    let object = json!({
        "version": status.version,
        "pid": status.pid,
        "state": state_text(status.health.state),
        "generation": status.generation.0,
        "age_s": seconds(status.age),
        "state_s": seconds(status.state_age),
        "workers_target": status.health.target,
        "workers_ready": status.health.ready,
        "listen": status.listen,
        "admin": status.admin,
        "backlog": status.resources.backlog.map(|queue| json!({ "len": queue.len, "max": queue.max })),
        "memory": memory(&status.resources.memory),
        "reload": reload(&status.reload),
        "quarantine": quarantine::summary(status.requests.quarantine.as_ref()),
        "routes_count": status.requests.routes.count,
        "routes": routes::list(&status.requests.routes),
        "workers": status.workers.iter().map(worker).collect::<Vec<_>>(),
    });
    format!("{object:#}\n")
}

/// Of the cgroup; null if neither a limit nor the use is known.
fn memory(memory: &CgroupMemory) -> Value {
    let CgroupMemory { limit, usage } = memory;
    if limit.is_none() && usage.is_none() {
        return Value::Null;
    }
    json!({
        "limit_bytes": limit.as_ref().map(|limit| limit.bytes),
        "limit_file": limit.as_ref().map(|limit| limit.file.display().to_string()),
        "used_bytes": usage.map(|usage| usage.used_bytes),
        "working_set_bytes": usage.map(|usage| usage.working_set_bytes),
    })
}

fn reload(reload: &ReloadStatus) -> Value {
    match reload {
        ReloadStatus::Idle => json!({ "state": "idle" }),
        ReloadStatus::Running { generation, step } => {
            json!({ "state": "running", "generation": generation.0, "step": step_text(*step) })
        }
        ReloadStatus::Ended { outcome, ago, report } => json!({
            "state": "ended",
            "outcome": outcome.name(),
            "ago_s": seconds(*ago),
            "report": report,
        }),
    }
}

fn worker(worker: &WorkerStatus) -> Value {
    let process = worker.process.as_ref();
    let request = process.and_then(|process| process.request.as_ref());
    let memory = process.and_then(|process| process.memory);
    let parts = memory.and_then(|memory| memory.parts);
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
            "request_id": request.id,
            "trace_id": (!request.trace.is_empty()).then_some(&request.trace),
        })),
        "requests": process.map(|process| process.requests_count),
        "connections_open": process.map(|process| process.open_count),
        "rss_bytes": memory.map(|memory| memory.rss_bytes),
        "pss_bytes": parts.map(|parts| parts.pss_bytes),
        "private_bytes": parts.map(|parts| parts.private_bytes),
    })
}

fn state(state: SlotState) -> &'static str {
    match state {
        SlotState::Empty => "empty",
        SlotState::Backoff { .. } => "waiting",
        SlotState::Spawning { .. } | SlotState::Starting { .. } => "starting",
        SlotState::Failing { .. } => "failing",
        SlotState::Ready { .. } => "ready",
        SlotState::Recalled { .. } | SlotState::Draining { .. } => "draining",
        SlotState::Quitting { .. } => "quitting",
        SlotState::Hung { .. } => "hanging",
        SlotState::Killed { .. } => "killed",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::system::cgroup::{MemoryLimit, MemoryUse};
    use crate::system::process_memory::MemoryParts;

    fn health(state: ServiceState, ready: u16) -> Health {
        Health { state, target: 2, ready }
    }

    fn resources(memory: CgroupMemory) -> Resources {
        Resources { backlog: Some(AcceptQueue { len: 3, max: 2048 }), memory }
    }

    fn status() -> ServerStatus {
        ServerStatus {
            version: "1.2.3",
            pid: 7,
            health: health(ServiceState::Serving, 1),
            generation: Generation(3),
            age: Duration::from_micros(61_234_567),
            state_age: Duration::from_millis(60_100),
            listen: vec!["http://127.0.0.1:8000".to_owned()],
            admin: vec!["unix:/run/a.sock".to_owned()],
            resources: resources(CgroupMemory::default()),
            reload: ReloadStatus::Idle,
            requests: RequestsStatus::default(),
            workers: Vec::new(),
        }
    }

    fn read(status: &ServerStatus) -> Value {
        serde_json::from_str(&json(status)).unwrap()
    }

    #[test]
    fn a_server_is_ready_only_if_it_serves_and_nothing_is_unmet() {
        let probe = |state, unmet: &[&str]| {
            let answer = readyz(state, unmet.iter().map(|&reason| reason.to_owned()).collect());
            (answer.status, answer.body)
        };
        assert_eq!(probe(ServiceState::Serving, &[]), (200, "ready\n".into()));
        assert_eq!(probe(ServiceState::Serving, &["a", "b"]), (503, "a\nb\n".into()));
        assert_eq!(probe(ServiceState::Starting, &[]), (503, "starting\n".into()));
        assert_eq!(probe(ServiceState::Starting, &["a"]), (503, "starting\na\n".into()));
        assert_eq!(probe(ServiceState::Stopping, &[]), (503, "stopping\n".into()));
        assert_eq!(probe(ServiceState::Paused, &["a"]), (503, "resting\na\n".into()));
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
                "memory": null,
                "reload": { "state": "idle" }, "quarantine": null, "routes_count": 0, "routes": [], "workers": [],
            })
        );
        assert_eq!(response(&status()).content_type, "application/json");
    }

    #[test]
    fn the_memory_of_the_cgroup_is_described_as_far_as_it_is_known() {
        let limit = MemoryLimit { bytes: 512, file: "/sys/fs/cgroup/memory.max".into() };
        let usage = MemoryUse { used_bytes: 170, working_set_bytes: 130 };
        let memory = CgroupMemory { limit: Some(limit), usage: Some(usage) };
        assert_eq!(
            read(&ServerStatus { resources: resources(memory.clone()), ..status() })["memory"],
            json!({
                "limit_bytes": 512, "limit_file": "/sys/fs/cgroup/memory.max", "used_bytes": 170,
                "working_set_bytes": 130,
            })
        );
        let memory = CgroupMemory { limit: None, ..memory };
        let found = read(&ServerStatus { resources: resources(memory), ..status() });
        assert_eq!(found["memory"]["limit_bytes"], Value::Null);
        assert_eq!(found["memory"]["used_bytes"], 170);
    }

    #[test]
    fn a_worker_is_described_by_its_process_if_it_has_one() {
        let now = Instant::now();
        let worker = |state, process| WorkerStatus {
            slot: SlotId(1),
            generation: Generation(3),
            state,
            restarts_count: 2,
            process,
        };
        let process = ProcessStatus {
            pid: Pid(70),
            age: Duration::from_secs(60),
            request: Some(RunningRequest {
                age: Duration::from_millis(1500),
                line: "GET /a\"\n\u{1b}".to_owned(),
                id: String::new(),
                trace: "4bf9".to_owned(),
            }),
            requests_count: 12,
            open_count: 3,
            memory: Some(ProcessMemory {
                rss_bytes: 1 << 20,
                parts: Some(MemoryParts { pss_bytes: 600, private_bytes: 500, shared_bytes: 200 }),
            }),
        };
        let workers = vec![
            worker(SlotState::Ready { pid: Pid(70), since: now, has_served: true }, Some(process)),
            worker(SlotState::Backoff { until: now }, None),
        ];
        let status = ServerStatus { workers, ..status() };
        assert!(!json(&status).contains('\u{1b}'), "control characters are escaped");
        assert_eq!(
            read(&status)["workers"],
            json!([
                {
                    "slot": 1, "generation": 3, "state": "ready", "pid": 70, "age_s": 60.0,
                    "restarts": 2,
                    "request": { "line": "GET /a\"\n\u{1b}", "age_s": 1.5, "request_id": "", "trace_id": "4bf9" },
                    "requests": 12, "connections_open": 3, "rss_bytes": 1_048_576, "pss_bytes": 600,
                    "private_bytes": 500,
                },
                {
                    "slot": 1, "generation": 3, "state": "waiting", "pid": null, "age_s": null,
                    "restarts": 2,
                    "request": null, "requests": null, "connections_open": null, "rss_bytes": null,
                    "pss_bytes": null, "private_bytes": null,
                },
            ])
        );
    }

    #[test]
    fn a_reload_is_described_while_it_runs_and_afterwards() {
        let of = |reload| read(&ServerStatus { reload, ..status() })["reload"].clone();
        let running =
            ReloadStatus::Running { generation: Generation(4), step: ReloadStep::RollingBack };
        assert_eq!(
            of(running),
            json!({ "state": "running", "generation": 4, "step": "rolling-back" })
        );
        let ended = ReloadStatus::Ended {
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
