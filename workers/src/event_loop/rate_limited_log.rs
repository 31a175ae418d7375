//! What goes wrong with every connection is logged once a minute.

use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(60);

/// When one kind of complaint was logged last.
#[derive(Default)]
pub(super) struct RateLimitedLog {
    last: Option<Instant>,
}

impl RateLimitedLog {
    /// Whether it may be logged now; the next one then waits.
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
    fn the_same_complaint_is_due_once_a_minute() {
        let start = Instant::now();
        let mut complaint = RateLimitedLog::default();
        let due =
            [0, 1, 59, 60, 61, 119, 120].map(|s| complaint.is_due(start + Duration::from_secs(s)));
        assert_eq!(due, [true, false, false, true, false, false, true]);
    }
}
