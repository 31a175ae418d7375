//! The watchdog of the service manager as a source: it is fed as long as the loop turns.

use std::time::Instant;

use super::source::{Report, Round, Source};
use crate::system::watchdog::Watchdog;

/// The notification that feeds the watchdog of the service manager.
pub(super) const ALIVE: &str = "WATCHDOG=1";

/// See the module. `None` where there is no watchdog.
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
