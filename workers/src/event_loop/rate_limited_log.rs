//! A failure that repeats with every connection is logged at most once per minute.

use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(60);

/// When one kind of failure was last logged.
#[derive(Default)]
pub(super) struct RateLimitedLog {
    last: Option<Instant>,
}

impl RateLimitedLog {
    /// Whether the failure may be logged now. If so, the next one waits for the interval.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.last.is_none_or(|last| now.saturating_duration_since(last) >= INTERVAL);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_logged_once_per_minute() {
        let start = Instant::now();
        let mut log = RateLimitedLog::default();
        let due = [0, 1, 59, 60, 61, 119, 120].map(|s| log.is_due(start + Duration::from_secs(s)));
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }
}
