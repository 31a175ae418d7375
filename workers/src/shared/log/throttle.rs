//! How often lines of one kind are logged, where a peer decides how often there is something to log.

use std::time::{Duration, Instant};

/// Lets a number of lines pass in each interval, and counts the others.
#[derive(Debug)]
pub(crate) struct Throttle {
    burst: u32,
    interval: Duration,
    /// When the interval began, and the lines that have passed since; `None` before the first.
    current: Option<(Instant, u32)>,
    held_back: u64,
}

impl Throttle {
    /// For `burst` lines in each `interval`.
    pub(crate) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, current: None, held_back: 0 }
    }

    /// Whether a line may pass now; if so, how many were held back since the last one that passed.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        let (began, passed_count) = match self.current {
            Some((began, count)) if now.saturating_duration_since(began) < self.interval => {
                (began, count)
            }
            Some(_) | None => (now, 0),
        };
        if passed_count >= self.burst {
            self.held_back += 1;
            return None;
        }
        self.current = Some((began, passed_count + 1));
        Some(std::mem::take(&mut self.held_back))
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
