//! How long the loop was away from its connections, in the application or because its process was stopped.
//! Pure: the time comes in.
//!
//! Deadlines are judged after a look at what the kernel has received, so that most of them need not know
//! this. But a rate is not what a peer wanted to send, if the kernel's buffers were full meanwhile.

use std::time::{Duration, Instant};

/// An absence of so long hinders nobody: the kernel's buffers hold what a peer sends meanwhile.
const HARMLESS: Duration = Duration::from_secs(1);

/// The absences of one loop.
pub(super) struct Absence {
    total: Duration,
    /// When the loop looked last.
    looked: Instant,
    /// How long it was going to sleep then: it looks as long as it sleeps.
    sleep: Duration,
}

impl Absence {
    /// The loop begins now.
    pub(super) fn since(now: Instant) -> Self {
        Self { total: Duration::ZERO, looked: now, sleep: Duration::ZERO }
    }

    /// The loop looks.
    pub(super) fn looks(&mut self, now: Instant) {
        self.sleeps(now, Duration::ZERO);
    }

    /// The loop looks, and is going to sleep if it sees nothing, for so long at most.
    pub(super) fn sleeps(&mut self, now: Instant, sleep: Duration) {
        *self = Self { total: self.until(now), looked: now, sleep };
    }

    /// The sum of all absences until now. It never falls.
    pub(super) fn until(&self, now: Instant) -> Duration {
        let gap = now.saturating_duration_since(self.looked);
        self.total + gap.saturating_sub(self.sleep).saturating_sub(HARMLESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn short_turns_are_no_absence_however_many_there_are() {
        let start = Instant::now();
        let mut absence = Absence::since(start);
        for turn in 0..1000 {
            absence.looks(start + turn * s(1));
        }
        assert_eq!(absence.until(start + s(1000)), s(0));
    }

    #[test]
    fn sleep_is_no_absence_but_what_is_slept_longer_is() {
        let start = Instant::now();
        let mut absence = Absence::since(start);
        absence.sleeps(start, s(2));
        absence.looks(start + s(2));
        assert_eq!(absence.until(start + s(2)), s(0));
        absence.sleeps(start + s(2), s(2));
        absence.looks(start + s(62)); // It was stopped.
        assert_eq!(absence.until(start + s(62)), s(57));
    }

    #[test]
    fn long_turns_add_up_with_the_one_that_lasts() {
        let start = Instant::now();
        let mut absence = Absence::since(start);
        absence.looks(start + s(16));
        assert_eq!(absence.until(start + s(16)), s(15));
        assert_eq!(absence.until(start + s(21)), s(19));
        absence.sleeps(start + s(21), s(2));
        absence.looks(start + s(22));
        assert_eq!(absence.until(start + s(22)), s(19), "it was woken early");
    }
}
