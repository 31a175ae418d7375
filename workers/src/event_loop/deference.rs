//! How long a worker that has just accepted leaves the next connection to others. Pure: the time comes in.
//!
//! The first bytes of a client come a moment after its connection. A worker that accepted once more in that
//! moment would make the second client wait for the request of the first, though another worker may
//! be idle. So it leaves the listeners out until the bytes are here, but not for longer than
//! [`LONGEST`]. A client that stays silent for that long costs every other one as much where all workers
//! do the same, and opening a connection is cheap: so after a wait in vain nothing is deferred for
//! [`INTERVAL`].

use std::time::{Duration, Instant};

/// The longest wait for the first bytes. On the loopback interface they take some 0.05 ms, from a client
/// that has to wait for a processor some ms; through a network they come with the end of the handshake.
const LONGEST: Duration = Duration::from_millis(2);
/// No wait for as long as this after one that was in vain: silent clients take 2 % of the time at most.
const INTERVAL: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Deference {
    not_before: Option<Instant>,
}

impl Deference {
    /// Until when to wait for the first bytes of a connection; `None` is not at all.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        let is_time = self.not_before.is_none_or(|not_before| not_before <= now);
        is_time.then(|| now + LONGEST)
    }

    /// Nothing came.
    pub(super) fn was_in_vain(&mut self, now: Instant) {
        self.not_before = Some(now + INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_clients_are_waited_for_once_in_an_interval() {
        let mut deference = Deference::default();
        let start = Instant::now();
        let first = deference.until(start).unwrap();
        assert_eq!(deference.until(start), Some(first), "it was not in vain");
        deference.was_in_vain(first);
        assert_eq!(deference.until(first), None);
        assert_eq!(deference.until(first + INTERVAL - Duration::from_millis(1)), None);
        assert!(deference.until(first + INTERVAL).is_some());
    }
}
