//! Workers that crash: when that becomes a restart storm, and which crashes are no news.

use std::time::Instant;

use arctos_worker::shared::scoreboard::WorkerEntry;

use super::running_request::running_request;
use super::source::{Report, Round, Source};
use crate::supervisor::restart_storm::RestartStorm;
use crate::supervisor::restart_storm::crash_baseline::CrashBaseline;
use crate::system::exit_cause::OomWatch;

/// See the module.
pub(super) struct Crashes {
    pub(super) storm: RestartStorm,
    /// The requests that workers of the old code crashed in when the reload began.
    pub(super) baseline: Option<CrashBaseline>,
    pub(super) oom: OomWatch,
}

impl Crashes {
    pub(super) fn new() -> Self {
        Self { storm: RestartStorm::default(), baseline: None, oom: OomWatch::new() }
    }

    /// Whether workers of the old code crash like the one that has this entry.
    pub(super) fn is_baseline(&mut self, entry: &'static WorkerEntry, now: Instant) -> bool {
        let request = running_request(entry).map(|running| running.line);
        self.baseline.as_mut().is_some_and(|baseline| baseline.accept(request.as_deref(), now))
    }
}

impl Source for Crashes {
    fn next_deadline(&self) -> Option<Instant> {
        self.storm.next_deadline()
    }

    fn check_deadlines(&mut self, round: &Round, reports: &mut Vec<Report>) {
        reports.extend(self.storm.check_deadlines(round.now).map(Report::RestartStorm));
    }
}
