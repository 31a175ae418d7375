//! Decides whether the application is slow, so that sharing connections pays. Pure: time is an argument.
//!
//! | verdict | window | next verdict |
//! |---|---|---|
//! | Fast | the 2nd in a row whose mean is above the threshold | Slow |
//! | Slow | the 8th in a row whose mean is below half the threshold | Fast |
//! | either | any other | the same |
//!
//! A window ends after [`WINDOW_REQUESTS`] requests, or [`WINDOW_TIME`] if there was any request. The mean is what
//! counts, not the median: one request of 100 ms among a hundred of 10 us makes the others wait. Whole windows, and
//! more of them on the way back, keep a pause of the machine from changing the verdict.

use std::time::Duration;

/// A window has at most this many requests.
const WINDOW_REQUESTS: u32 = 64;
/// A window with a request ends after this time.
const WINDOW_TIME: Duration = Duration::from_millis(250);
/// How many slow windows in a row make the verdict Slow, and how many fast ones make it Fast again.
const SLOW_WINDOWS: u32 = 2;
const FAST_WINDOWS: u32 = 8;

/// What the application is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Speed {
    Fast,
    Slow,
}

/// Measures how long the loop works for one request.
#[derive(Debug)]
pub struct ServiceTime {
    threshold: Duration,
    speed: Speed,
    /// How many windows in a row have spoken against the verdict.
    streak: u32,
    since: Duration,
    busy: Duration,
    requests: u32,
}

impl ServiceTime {
    /// Begins a measurement. A new worker begins with the verdict of its predecessor.
    pub fn new(threshold: Duration, speed: Speed, now: Duration) -> Self {
        Self { threshold, speed, streak: 0, since: now, busy: Duration::ZERO, requests: 0 }
    }

    /// A turn of the loop has ended: it began `requests`, and worked for `busy`. Returns the new verdict if it
    /// changes. `now` is CLOCK_MONOTONIC.
    pub fn turn(&mut self, busy: Duration, requests: u32, now: Duration) -> Option<Speed> {
        if requests == 0 && self.requests == 0 {
            self.since = now; // A window begins with its first request.
            return None;
        }
        self.busy += busy;
        self.requests = self.requests.saturating_add(requests);
        let is_over = now.saturating_sub(self.since) >= WINDOW_TIME;
        if self.requests < WINDOW_REQUESTS && !is_over {
            return None;
        }
        let mean = self.busy / self.requests;
        (self.since, self.busy, self.requests) = (now, Duration::ZERO, 0);
        self.judge(mean)
    }

    fn judge(&mut self, mean: Duration) -> Option<Speed> {
        let (speaks_against, enough, other) = match self.speed {
            Speed::Fast => (mean > self.threshold, SLOW_WINDOWS, Speed::Slow),
            Speed::Slow => (mean < self.threshold / 2, FAST_WINDOWS, Speed::Fast),
        };
        self.streak = if speaks_against { self.streak + 1 } else { 0 };
        if self.streak < enough {
            return None;
        }
        (self.speed, self.streak) = (other, 0);
        Some(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const US: Duration = Duration::from_micros(1);
    const THRESHOLD: Duration = Duration::from_micros(300);

    /// A measurement that starts at 0, and its clock.
    struct Rig {
        time: ServiceTime,
        now: Duration,
    }

    impl Rig {
        fn new(speed: Speed) -> Self {
            let time = ServiceTime::new(THRESHOLD, speed, Duration::ZERO);
            Self { time, now: Duration::ZERO }
        }

        /// One request that keeps the loop busy for this long, at once after the last one.
        fn request(&mut self, busy: Duration) -> Option<Speed> {
            self.now += busy;
            self.time.turn(busy, 1, self.now)
        }

        /// One whole window of such requests.
        fn window(&mut self, busy: Duration) -> Option<Speed> {
            (0..WINDOW_REQUESTS).find_map(|_| self.request(busy))
        }
    }

    #[test]
    fn two_slow_windows_in_a_row_make_it_slow() {
        let mut rig = Rig::new(Speed::Fast);
        assert_eq!(rig.window(MS), None);
        assert_eq!(rig.window(10 * US), None);
        assert_eq!(rig.window(MS), None);
        assert_eq!(rig.window(MS), Some(Speed::Slow));
        assert_eq!(rig.window(MS), None, "it says so once");
    }

    #[test]
    fn eight_fast_windows_in_a_row_make_it_fast_again() {
        let mut rig = Rig::new(Speed::Slow);
        for _ in 0..7 {
            assert_eq!(rig.window(10 * US), None);
        }
        assert_eq!(rig.window(200 * US), None, "above half the threshold");
        for _ in 0..7 {
            assert_eq!(rig.window(10 * US), None);
        }
        assert_eq!(rig.window(10 * US), Some(Speed::Fast));
    }

    #[test]
    fn one_long_request_among_a_hundred_short_ones_counts() {
        let mut rig = Rig::new(Speed::Fast);
        let mixed = |rig: &mut Rig| {
            let long = rig.request(100 * MS);
            long.or_else(|| (0..63).find_map(|_| rig.request(10 * US)))
        };
        assert_eq!(mixed(&mut rig), None);
        assert_eq!(mixed(&mut rig), Some(Speed::Slow));
    }

    #[test]
    fn few_requests_make_a_window_after_a_quarter_of_a_second() {
        let mut rig = Rig::new(Speed::Fast);
        rig.now += 3600 * 1000 * MS;
        assert_eq!(rig.time.turn(Duration::ZERO, 0, rig.now), None, "an idle hour is no window");
        assert_eq!(rig.request(MS), None);
        rig.now += 250 * MS;
        assert_eq!(rig.request(MS), None);
        assert_eq!(rig.request(300 * MS), Some(Speed::Slow));
    }

    #[test]
    fn a_pause_in_one_window_changes_nothing() {
        let mut rig = Rig::new(Speed::Fast);
        assert_eq!(rig.request(400 * MS), None);
        for _ in 0..100 {
            assert_eq!(rig.window(10 * US), None);
        }
    }

    #[test]
    fn turns_without_requests_count_as_work_of_the_window() {
        let mut rig = Rig::new(Speed::Fast);
        for _ in 0..2 {
            assert_eq!(rig.time.turn(US, 1, rig.now), None);
            rig.now += 251 * MS;
            let verdict = rig.time.turn(MS, 0, rig.now);
            assert!(verdict.is_none_or(|verdict| verdict == Speed::Slow));
        }
        assert_eq!(rig.time.speed, Speed::Slow);
    }
}
