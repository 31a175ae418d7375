//! How long the loop did not look at its clients, because the application ran or the process was stopped.
//! Pure: time is an argument.
//!
//! Most deadlines need not know this, because they are checked after the loop has read what the kernel received
//! meanwhile. The minimum rate of a request body does: while the loop stalls, the kernel's buffers fill up, and
//! the peer cannot send.

use std::time::{Duration, Instant};

/// Shorter stalls hinder nobody: the kernel's buffers hold what a peer sends meanwhile.
const HARMLESS: Duration = Duration::from_secs(1);

/// The stalls of one loop, added up.
pub(super) struct Stalls {
    total: Duration,
    /// When the loop last looked at its clients.
    looked_at: Instant,
    /// How long it was going to sleep then. It watches its clients while it sleeps.
    sleep: Duration,
}

impl Stalls {
    /// The loop starts now.
    pub(super) fn starting(now: Instant) -> Self {
        Self { total: Duration::ZERO, looked_at: now, sleep: Duration::ZERO }
    }

    /// The loop looks at its clients.
    pub(super) fn look(&mut self, now: Instant) {
        self.sleep(now, Duration::ZERO);
    }

    /// The loop looks at its clients, and then sleeps until something happens, at most for `timeout`.
    pub(super) fn sleep(&mut self, now: Instant, timeout: Duration) {
        *self = Self { total: self.total(now), looked_at: now, sleep: timeout };
    }

    /// The sum of all stalls until now, including the current one. It never decreases.
    pub(super) fn total(&self, now: Instant) -> Duration {
        let gap = now.saturating_duration_since(self.looked_at);
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
    fn short_turns_are_no_stall_however_many_there_are() {
        let start = Instant::now();
        let mut stalls = Stalls::starting(start);
        for turn in 0..1000 {
            stalls.look(start + turn * s(1));
        }
        assert_eq!(stalls.total(start + s(1000)), s(0));
    }

    #[test]
    fn sleep_is_no_stall_but_oversleeping_is() {
        let start = Instant::now();
        let mut stalls = Stalls::starting(start);
        stalls.sleep(start, s(2));
        stalls.look(start + s(2));
        assert_eq!(stalls.total(start + s(2)), s(0));
        stalls.sleep(start + s(2), s(2));
        stalls.look(start + s(62)); // The process was stopped.
        assert_eq!(stalls.total(start + s(62)), s(57));
    }

    #[test]
    fn long_turns_add_up_including_the_current_one() {
        let start = Instant::now();
        let mut stalls = Stalls::starting(start);
        stalls.look(start + s(16));
        assert_eq!(stalls.total(start + s(16)), s(15));
        assert_eq!(stalls.total(start + s(21)), s(19));
        stalls.sleep(start + s(21), s(2));
        stalls.look(start + s(22));
        assert_eq!(stalls.total(start + s(22)), s(19), "it was woken early");
    }
}
