//! Crashes of workers: detects restart storms, and crashes that the old code had, too.

use std::time::Instant;

use arctos_worker::shared::scoreboard::WorkerEntry;

use super::running_request::running_request;
use super::source::{Report, Round, Source};
use crate::supervisor::restart_storm::RestartStorm;
use crate::supervisor::restart_storm::crash_baseline::CrashBaseline;
use crate::system::exit_cause::OomWatch;

/// The recent crashes, and during a reload those of the old code.
pub(super) struct Crashes {
    pub(super) storm: RestartStorm,
    /// The requests in which workers of the old code crashed when the reload began.
    pub(super) baseline: Option<CrashBaseline>,
    pub(super) oom: OomWatch,
}

impl Crashes {
    pub(super) fn new() -> Self {
        Self { storm: RestartStorm::default(), baseline: None, oom: OomWatch::new() }
    }

    /// Whether workers of the old code crash like the worker with this entry.
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
