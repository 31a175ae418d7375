//! A rate limit for log lines that a client can cause.

use std::time::{Duration, Instant};

/// Lets a limited number of lines pass in each interval, and counts the others.
#[derive(Debug)]
pub(crate) struct Throttle {
    burst: u32,
    interval: Duration,
    /// When the interval began, and how many lines have passed since; `None` before the first line.
    current: Option<(Instant, u32)>,
    suppressed: u64,
}

impl Throttle {
    /// Lets `burst` lines pass in each `interval`.
    pub(crate) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, current: None, suppressed: 0 }
    }

    /// Whether a line may pass now, and if so, how many were suppressed since the last one that passed.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        let (began, passed_count) = match self.current {
            Some((began, count)) if now.saturating_duration_since(began) < self.interval => {
                (began, count)
            }
            Some(_) | None => (now, 0),
        };
        if passed_count >= self.burst {
            self.suppressed += 1;
            return None;
        }
        self.current = Some((began, passed_count + 1));
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_lines_passes_in_each_interval_and_the_others_are_counted() {
        let start = Instant::now();
        let mut throttle = Throttle::new(2, Duration::from_secs(60));
        let passed = [0, 1, 2, 59, 60, 61, 62, 500]
            .map(|seconds| throttle.pass(start + Duration::from_secs(seconds)));
        assert_eq!(passed, [Some(0), Some(0), None, None, Some(2), Some(0), None, Some(1)]);
    }
}
