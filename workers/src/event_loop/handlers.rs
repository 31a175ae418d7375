//! Reinstalls the worker's signal handlers if the application replaced them in a request, and logs a warning.

use std::time::{Duration, Instant};

use super::rate_limited_log::RateLimitedLog;
use crate::event_loop::drive::WorkerContext;
use crate::process::signals;
use crate::shared::log::{Level, Value};

/// The minimum time between two checks: one takes three system calls.
const INTERVAL: Duration = Duration::from_secs(1);

/// The check of the signal handlers.
pub(super) struct SignalHandlers {
    checked_at: Instant,
    log: RateLimitedLog,
}

impl SignalHandlers {
    /// The handlers have just been installed.
    pub(super) fn installed(now: Instant) -> Self {
        Self { checked_at: now, log: RateLimitedLog::default() }
    }

    /// Checks the handlers if the interval is over, and reinstalls them. Returns whether it was.
    pub(super) fn reinstall(&mut self, context: &WorkerContext) -> bool {
        let now = context.clock.now();
        if now.saturating_duration_since(self.checked_at) < INTERVAL {
            return false;
        }
        self.checked_at = now;
        for signal in signals::reinstall() {
            if self.log.is_due(now) {
                let pairs = [("signal", Value::Text(signal.as_str()))];
                context.log.line(Level::Warning, "worker.signal_handler_replaced", &pairs);
            }
        }
        true
    }
}
