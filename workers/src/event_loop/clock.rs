//! The worker's clock: one reading a loop turn, and one after each call of the application.

use std::time::{Duration, Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::http::HttpDate;

/// CLOCK_MONOTONIC in the two forms that are needed, and the `Date` that goes with it.
pub struct Clock {
    base: Instant,
    base_monotonic: Duration,
    now: Instant,
    monotonic: Duration,
    date: HttpDate,
    /// When the wall clock enters its next second.
    date_until: Instant,
}

impl Clock {
    /// Reads the clock for the first time.
    pub fn start() -> Self {
        let base = Instant::now();
        let base_monotonic = monotonic();
        let date = HttpDate::at(SystemTime::now());
        Self { base, base_monotonic, now: base, monotonic: base_monotonic, date, date_until: base }
    }

    /// Reads the clock again.
    pub fn read(&mut self) {
        self.monotonic = monotonic();
        self.now = self.base + self.monotonic.saturating_sub(self.base_monotonic);
        if self.now >= self.date_until {
            let wall = SystemTime::now();
            let part = wall
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |since_epoch| since_epoch.subsec_nanos());
            self.date = HttpDate::at(wall);
            self.date_until = self.now + Duration::from_nanos(1_000_000_000 - u64::from(part));
        }
    }

    /// Lets time pass for deadlines.
    #[cfg(test)]
    pub(crate) fn pass(&mut self, time: Duration) {
        self.base += time;
        self.now += time;
    }

    /// The last reading, for deadlines.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The last reading, as the scoreboard wants it: since boot.
    pub fn monotonic(&self) -> Duration {
        self.monotonic
    }

    /// The wall clock, read anew: for log lines only.
    pub fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    /// The current `Date`.
    pub fn date(&self) -> &HttpDate {
        &self.date
    }
}

/// CLOCK_MONOTONIC; it exists on every Linux, so its failure could only be a zero.
fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
