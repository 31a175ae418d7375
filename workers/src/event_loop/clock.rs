//! The worker's clock: it is read once per turn, and once after each call of the application.

use std::time::{Duration, Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::http::HttpDate;
use crate::http::precondition::seconds;

/// CLOCK_MONOTONIC in two forms, and the matching `Date`.
pub struct Clock {
    base: Instant,
    base_monotonic: Duration,
    now: Instant,
    monotonic: Duration,
    date: HttpDate,
    /// The second of `date`, since 1970.
    second: u64,
    /// When the next second of the wall clock begins.
    date_until: Instant,
}

impl Clock {
    /// Reads the clock for the first time.
    pub fn start() -> Self {
        let base = Instant::now();
        let base_monotonic = monotonic();
        let wall = SystemTime::now();
        Self {
            base,
            base_monotonic,
            now: base,
            monotonic: base_monotonic,
            date: HttpDate::at(wall),
            second: seconds(wall),
            date_until: base,
        }
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
            self.second = seconds(wall);
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

    /// The last reading in the form of the scoreboard: the time since boot.
    pub fn monotonic(&self) -> Duration {
        self.monotonic
    }

    /// Reads the wall clock, for log lines only.
    pub fn wall(&self) -> SystemTime {
        SystemTime::now()
    }

    /// The second of [`Clock::date`], since 1970.
    pub fn second(&self) -> u64 {
        self.second
    }

    /// The current `Date`.
    pub fn date(&self) -> &HttpDate {
        &self.date
    }
}

/// Reads CLOCK_MONOTONIC. It exists on every Linux, so a failure is as good as a zero.
fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}
