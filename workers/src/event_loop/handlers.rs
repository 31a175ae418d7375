//! The worker's signals, where the application takes them in a request: they are put back, with a warning.

use std::time::{Duration, Instant};

use super::rate_limited_log::RateLimitedLog;
use crate::event_loop::drive::WorkerContext;
use crate::process::signals;
use crate::shared::log::{Level, Value};

/// How long the application may have them, at least: looking costs three system calls.
const INTERVAL: Duration = Duration::from_secs(1);

/// When the handlers were looked at last.
pub(super) struct Handlers {
    last_look: Instant,
    complaint: RateLimitedLog,
}

impl Handlers {
    /// They have just been installed.
    pub(super) fn installed(now: Instant) -> Self {
        Self { last_look: now, complaint: RateLimitedLog::default() }
    }

    /// Looks at them, if it is time.
    pub(super) fn tend(&mut self, context: &WorkerContext) {
        let now = context.clock.now();
        if now.saturating_duration_since(self.last_look) < INTERVAL {
            return;
        }
        self.last_look = now;
        for signal in signals::insist() {
            if self.complaint.is_due(now) {
                let pairs = [("signal", Value::Text(signal.as_str()))];
                context.log.line(Level::Warning, "worker.signal_handler_replaced", &pairs);
            }
        }
    }
}
