//! The watchdog of the service manager as a source. It is notified as long as the loop makes progress.

use std::time::Instant;

use super::source::{Report, Round, Source};
use crate::system::watchdog::Watchdog;

/// The notification that the watchdog of the service manager expects.
pub(super) const ALIVE: &str = "WATCHDOG=1";

/// The watchdog; `None` if the service manager has none for this process.
pub(super) struct WatchdogSource(pub(super) Option<Watchdog>);

impl Source for WatchdogSource {
    fn next_deadline(&self) -> Option<Instant> {
        self.0.as_ref().map(Watchdog::next_deadline)
    }

    fn check_deadlines(&mut self, round: &Round, reports: &mut Vec<Report>) {
        if self.0.as_mut().is_some_and(|watchdog| watchdog.is_due(round.now)) {
            reports.push(Report::Notify(ALIVE));
        }
    }
}
