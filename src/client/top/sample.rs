//! One sample of a server: its `/status` and `/metrics`, as far as this version knows them.
//!
//! Some of the texts come from strangers, request paths above all. This file strips control characters and query
//! strings from them, whatever the server is.

use std::time::Instant;

use serde_json::Value;

use crate::client::ctl::overview::{self, ReloadSummary, one_line};
use crate::client::ctl::page::{self, MetricSample};
use crate::client::ctl::routes::RouteCounts;
use crate::client::ctl::units::cell;

/// A sample. Values that the server did not report are `None`, or "-" for a text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sample {
    /// The time of the sample.
    pub(super) at: Instant,
    /// The version of arctos.
    pub(super) version: String,
    /// The pid of the supervisor.
    pub(super) pid: Option<u64>,
    pub(super) state: String,
    pub(super) generation: String,
    pub(super) state_s: Option<f64>,
    pub(super) age_s: Option<f64>,
    pub(super) ready: String,
    pub(super) target: String,
    pub(super) backlog: Option<Backlog>,
    /// The memory of the cgroup; empty if it is unknown.
    pub(super) memory: String,
    /// The progress of the last reload.
    pub(super) reload: ReloadSummary,
    /// How many requests are in quarantine, if there are any.
    pub(super) quarantined: Option<String>,
    pub(super) workers: Vec<WorkerRow>,
    pub(super) routes: RouteCounts,
    /// All metrics.
    pub(super) metrics: Vec<MetricSample>,
}

/// The accept queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Backlog {
    pub(super) len: u64,
    pub(super) max: u64,
}

/// A worker, or a slot that waits for one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WorkerRow {
    pub(super) slot: u16,
    pub(super) pid: Option<u64>,
    pub(super) generation: String,
    pub(super) state: String,
    pub(super) age_s: Option<f64>,
    pub(super) restarts: Option<u64>,
    pub(super) requests: Option<u64>,
    pub(super) open: Option<u64>,
    pub(super) memory: RowMemory,
    pub(super) request: Option<RunningRequest>,
}

/// The memory of a worker, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct RowMemory {
    pub(super) rss: Option<f64>,
    pub(super) pss: Option<f64>,
    pub(super) private: Option<f64>,
}

/// The request that a worker is handling.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct RunningRequest {
    /// Method and path.
    pub(super) line: String,
    pub(super) age_s: f64,
}

impl Sample {
    /// Parses both responses; `None` if one of them is from something else.
    pub(super) fn read(status: &str, metrics: &str, at: Instant) -> Option<Self> {
        let status: Value = serde_json::from_str(status).ok()?;
        let workers = status.get("workers")?.as_array()?;
        let backlog = &status["backlog"];
        Some(Self {
            at,
            version: one_line(&status["version"]),
            pid: status["pid"].as_u64(),
            state: one_line(&status["state"]),
            generation: one_line(&status["generation"]),
            state_s: status["state_s"].as_f64(),
            age_s: status["age_s"].as_f64(),
            ready: one_line(&status["workers_ready"]),
            target: one_line(&status["workers_target"]),
            backlog: backlog["len"]
                .as_u64()
                .zip(backlog["max"].as_u64())
                .map(|(len, max)| Backlog { len, max }),
            memory: overview::memory(&status["memory"]).unwrap_or_default(),
            reload: ReloadSummary::read(&status["reload"]),
            quarantined: overview::requests_in_quarantine(&status),
            workers: workers.iter().filter_map(worker).collect(),
            routes: RouteCounts::read(&status),
            metrics: page::read(metrics)?,
        })
    }

    /// The number of workers that are handling a request.
    pub(super) fn busy_count(&self) -> usize {
        self.workers.iter().filter(|worker| worker.request.is_some()).count()
    }

    /// The number of workers that ended unexpectedly, in all slots shown.
    pub(super) fn restarts(&self) -> u64 {
        // A slot whose worker is being replaced is listed twice.
        let mut slots: Vec<_> =
            self.workers.iter().map(|worker| (worker.slot, worker.restarts)).collect();
        slots.sort_unstable();
        slots.dedup_by_key(|(slot, _)| *slot);
        slots.into_iter().filter_map(|(_, restarts)| restarts).fold(0, u64::saturating_add)
    }
}

fn worker(worker: &Value) -> Option<WorkerRow> {
    let request = &worker["request"];
    Some(WorkerRow {
        slot: worker["slot"].as_u64()?.try_into().ok()?,
        pid: worker["pid"].as_u64(),
        generation: one_line(&worker["generation"]),
        state: one_line(&worker["state"]),
        age_s: worker["age_s"].as_f64(),
        restarts: worker["restarts"].as_u64(),
        requests: worker["requests"].as_u64(),
        open: worker["connections_open"].as_u64(),
        memory: RowMemory {
            rss: worker["rss_bytes"].as_f64(),
            pss: worker["pss_bytes"].as_f64(),
            private: worker["private_bytes"].as_f64(),
        },
        request: request["line"].as_str().map(|line| RunningRequest {
            line: cell(line.split('?').next().unwrap_or_default()),
            age_s: request["age_s"].as_f64().unwrap_or_default(),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_what_the_server_reports() {
        let status = r#"{"version": "1.2.3", "pid": 7, "state": "serving", "generation": 3,
            "age_s": 61.2, "workers_ready": 1, "workers_target": 2,
            "backlog": {"len": 3, "max": 2048},
            "memory": {"limit_bytes": 536870912, "working_set_bytes": 136314880}, "reload": {"state": "idle"},
            "quarantine": {"active": 4, "refused": 9}, "workers": [
            {"slot": 0, "pid": 70, "generation": 3, "state": "ready", "age_s": 60.0, "restarts": 2,
             "request": {"line": "GET /a", "age_s": 1.5}, "requests": 12, "connections_open": 3,
             "rss_bytes": 1024, "pss_bytes": 512, "private_bytes": 256},
            {"slot": 0, "pid": 71, "generation": 2, "state": "draining", "restarts": 2},
            {"slot": 1, "state": "waiting", "restarts": 1}]}"#;
        let sample = Sample::read(status, "arctos_x 1\n", Instant::now()).unwrap();
        assert_eq!(
            (sample.pid, sample.state.as_str(), sample.ready.as_str()),
            (Some(7), "serving", "1")
        );
        assert_eq!(sample.backlog, Some(Backlog { len: 3, max: 2048 }));
        assert_eq!(sample.memory, "130.0M of 512.0M");
        assert_eq!(sample.quarantined.as_deref(), Some("4 requests"));
        let memory = RowMemory { rss: Some(1024.0), pss: Some(512.0), private: Some(256.0) };
        assert_eq!(sample.workers[0].memory, memory);
        assert_eq!((sample.busy_count(), sample.restarts()), (1, 3));
        let request = RunningRequest { line: "GET /a".to_owned(), age_s: 1.5 };
        assert_eq!(sample.workers[0].request, Some(request));
        assert_eq!((sample.workers[2].slot, sample.workers[2].pid), (1, None));
        assert_eq!(sample.metrics.len(), 1);
    }

    #[test]
    fn missing_values_are_left_out() {
        let sample = Sample::read(r#"{"workers": [{"slot": 1}, {}]}"#, "", Instant::now()).unwrap();
        assert_eq!(
            (sample.state.as_str(), sample.reload.brief.as_str(), sample.backlog),
            ("-", "-", None)
        );
        assert_eq!((sample.workers.len(), sample.quarantined), (1, None));
    }

    #[test]
    fn a_response_of_another_program_is_rejected() {
        for (status, metrics) in [("", ""), ("{}", ""), (r#"{"workers": []}"#, "<html>")] {
            assert_eq!(Sample::read(status, metrics, Instant::now()), None);
        }
    }

    #[test]
    fn no_text_has_control_characters_and_no_path_a_query() {
        let status = r#"{"state": "a\u001b[2J\u009b", "workers": [{"slot": 0, "state": "b\r\u0007",
            "request": {"line": "GET /\u001b]0;x\u0007\u202e\n/y?token=secret", "age_s": 1}}]}"#;
        let sample = Sample::read(status, "", Instant::now()).unwrap();
        let line = &sample.workers[0].request.as_ref().unwrap().line;
        for text in [&sample.state, &sample.workers[0].state, line] {
            assert!(
                !text.contains(|letter: char| letter.is_control() || letter == '\u{202e}'),
                "{text:?}"
            );
        }
        assert!(line.ends_with(" /y"), "{line}");
    }
}
