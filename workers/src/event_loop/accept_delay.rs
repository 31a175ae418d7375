//! How long a worker that has just accepted a connection leaves the next one to other workers. Pure: time is an
//! argument.
//!
//! The first bytes of a client arrive a moment after its connection. If the worker accepted again in that moment,
//! the second client would wait for the request of the first, although another worker may be idle. So the worker
//! does not watch the listeners until the bytes have arrived, at most for [`MAX_DELAY`]. If every worker did that
//! for a client that stays silent, every other client would pay for it, and opening a connection is cheap. So
//! there is no delay for [`INTERVAL`] after one that was in vain.

use std::time::{Duration, Instant};

/// The maximum wait for the first bytes. On the loopback interface they take about 0.05 ms, from a client that
/// waits for a processor some milliseconds; through a network they arrive with the end of the handshake.
const MAX_DELAY: Duration = Duration::from_millis(2);
/// No delay for this long after one that was in vain: silent clients take at most 2 % of the time.
const INTERVAL: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct AcceptDelay {
    not_before: Option<Instant>,
}

impl AcceptDelay {
    /// Until when to wait for the first bytes of a connection; `None` means not at all.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        let is_allowed = self.not_before.is_none_or(|not_before| not_before <= now);
        is_allowed.then(|| now + MAX_DELAY)
    }

    /// Nothing arrived during the delay.
    pub(super) fn was_in_vain(&mut self, now: Instant) {
        self.not_before = Some(now + INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_clients_delay_accepting_once_per_interval() {
        let mut delay = AcceptDelay::default();
        let start = Instant::now();
        let first = delay.until(start).unwrap();
        assert_eq!(delay.until(start), Some(first), "it was not in vain");
        delay.was_in_vain(first);
        assert_eq!(delay.until(first), None);
        assert_eq!(delay.until(first + INTERVAL - Duration::from_millis(1)), None);
        assert!(delay.until(first + INTERVAL).is_some());
    }
}
