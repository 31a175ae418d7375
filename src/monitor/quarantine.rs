//! The quarantine as a source: records incidents, and shows workers and operators what is in quarantine.

use std::time::{Duration, Instant};

use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::request_key::RequestKeys;
use arctos_worker::shared::scoreboard::{QuarantineTable, WorkerEntry};

use super::clock::monotonic;
use super::source::{Report, Round, Source};
use crate::admin::quarantine::{QuarantineStatus, QuarantinedStatus};
use crate::supervisor::quarantine::{
    Change, Incident, Quarantine, QuarantineLimits, QuarantinedRequest, RequestName,
};
use crate::system::pid::Pid;

/// What is in quarantine, and the table in which workers read it.
pub(super) struct QuarantineSource {
    quarantine: Quarantine,
    table: &'static QuarantineTable,
    /// Makes the keys of requests, as the workers do.
    pub(super) keys: RequestKeys,
    log: Log,
    /// The number of requests that were refused by quarantines that have ended.
    refused_before: u64,
}

impl QuarantineSource {
    pub(super) fn new(
        limits: Option<QuarantineLimits>,
        table: &'static QuarantineTable,
        log: Log,
    ) -> Self {
        let (quarantine, keys) = (Quarantine::new(limits), RequestKeys::new());
        Self { quarantine, table, keys, log, refused_before: 0 }
    }

    /// Records a request in which a worker died or hung.
    pub(super) fn record(&mut self, incident: Incident, now: Instant) {
        self.quarantine.record(incident, now);
        self.apply(now);
    }

    /// A reload has succeeded.
    pub(super) fn reload(&mut self, limits: Option<QuarantineLimits>, now: Instant) {
        self.quarantine.reload(limits);
        self.apply(now);
    }

    /// An operator ends one quarantine, or all of them. Returns how many have ended.
    pub(super) fn release(&mut self, number: Option<u16>, now: Instant) -> usize {
        let ended = self.quarantine.release(number);
        self.apply(now);
        ended
    }

    pub(super) fn status(&self, now: Instant) -> Option<QuarantineStatus> {
        let limits = self.quarantine.limits()?;
        let of = |request: &QuarantinedRequest| QuarantinedStatus {
            number: request.number,
            name: request.name.clone(),
            incidents_count: request.incidents,
            rest: request.until.saturating_duration_since(now),
            refused_count: self.table.refused(request.place),
        };
        let mut requests: Vec<_> = self.quarantine.iter().map(of).collect();
        requests.sort_by_key(|request| std::cmp::Reverse(request.rest));
        let counts = requests.iter().map(|request| request.refused_count);
        let refused_count = counts.fold(self.refused_before, u64::saturating_add);
        Some(QuarantineStatus { limits, refused_count, requests })
    }

    /// Shows the changes to workers, and then in the log: what the log says is already so.
    fn apply(&mut self, now: Instant) {
        // First, because workers look at no place before.
        self.table.set_count(self.quarantine.iter().count());
        for change in self.quarantine.take_changes() {
            match change {
                Change::Began(request) => {
                    self.show(&request, now);
                    self.log_began(&request);
                }
                Change::Prolonged(request) => self.show(&request, now),
                Change::Ended { request, cause } => {
                    let refused = self.table.refused(request.place);
                    self.table.vacate(request.place);
                    self.refused_before = self.refused_before.saturating_add(refused);
                    let mut pairs = pairs(&request);
                    pairs.push(("cause", Value::Text(cause.word())));
                    pairs.push(("refused", number(refused)));
                    self.log.line(Level::Info, "request.released", &pairs);
                }
            }
        }
    }

    fn show(&self, request: &QuarantinedRequest, now: Instant) {
        let rest = request.until.saturating_duration_since(now);
        let end = monotonic().unwrap_or(Duration::ZERO).saturating_add(rest);
        self.table.set(request.place, request.key, end);
    }

    fn log_began(&self, request: &QuarantinedRequest) {
        let within = self.quarantine.limits().map_or(Duration::ZERO, |limits| limits.within);
        let mut pairs = pairs(request);
        pairs.push(("deaths", number(request.incidents)));
        pairs.push(("in_s", number(within.as_secs())));
        self.log.line(Level::Error, "request.quarantined", &pairs);
    }
}

impl Source for QuarantineSource {
    fn next_deadline(&self) -> Option<Instant> {
        self.quarantine.next_deadline()
    }

    fn check_deadlines(&mut self, round: &Round, _reports: &mut Vec<Report>) {
        self.quarantine.check_deadlines(round.now);
        self.apply(round.now);
    }
}

/// Returns the incident that the running request of a worker is, or was when the worker died.
pub(super) fn incident(
    pid: Pid,
    entry: &'static WorkerEntry,
    keys: &RequestKeys,
) -> Option<Incident> {
    let started = entry.request_start()?;
    let request = entry.keyed_request(keys)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (method, path) = (text(&request.method), text(&request.path));
    let name = RequestName { method, path, is_cut: request.is_cut };
    Some(Incident { key: request.key, name, pid, started })
}

fn pairs(request: &QuarantinedRequest) -> Vec<(&'static str, Value<'_>)> {
    vec![
        ("number", Value::Number(request.number.into())),
        ("method", Value::Text(&request.name.method)),
        ("path", Value::Text(&request.name.path)),
    ]
}

fn number(count: u64) -> Value<'static> {
    Value::Number(i64::try_from(count).unwrap_or(i64::MAX))
}
