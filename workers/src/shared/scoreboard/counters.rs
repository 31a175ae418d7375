//! The counters of one worker.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::shared::scoreboard::Counter;
use crate::shared::scoreboard::cell::bump;

/// The counters of one worker, cumulative over all workers that had this entry. Only the worker writes them, and the
/// supervisor once the worker is dead.
#[repr(C, align(128))]
pub struct Counters {
    counts: [AtomicU64; Counter::ALL.len()],
}

impl Counters {
    pub(super) const fn new() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; Counter::ALL.len()] }
    }

    /// Counts one.
    #[inline]
    pub fn inc(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts `n`.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        #[cfg(test)]
        tape::note(counter);
        bump(&self.counts[counter as usize], n);
    }

    /// The count so far.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counts[counter as usize].load(Ordering::Relaxed)
    }

    /// Connections that were accepted but not closed: those that are open, and those that died with their worker. A
    /// reader that sees a close before its accept gets 0.
    pub fn unclosed(&self) -> u64 {
        self.get(Counter::ConnAcceptSuccess).saturating_sub(self.closed())
    }

    /// Connections that were closed.
    pub(super) fn closed(&self) -> u64 {
        const CLOSES: [Counter; 3] =
            [Counter::RespConnClose, Counter::RespAborted, Counter::ReqAborted];
        // Always saturating: a worker may have written anything here.
        CLOSES.into_iter().map(|close| self.get(close)).fold(0, u64::saturating_add)
    }
}

/// What this thread has counted, in order.
#[cfg(test)]
pub(crate) mod tape {
    use std::cell::RefCell;

    use super::Counter;

    thread_local! {
        static TAPE: RefCell<Vec<Counter>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn note(counter: Counter) {
        TAPE.with_borrow_mut(|tape| tape.push(counter));
    }

    /// What was counted since the last call.
    pub(crate) fn take() -> Vec<Counter> {
        TAPE.take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_do_not_touch_each_other() {
        let counters = Counters::new();
        for (n, counter) in (1..).zip(Counter::ALL) {
            counters.add(counter, n);
            counters.inc(counter);
        }
        for (n, counter) in (1..).zip(Counter::ALL) {
            assert_eq!(counters.get(counter), n + 1);
        }
    }

    #[test]
    fn a_connection_is_unclosed_from_its_accept_to_any_of_its_ends() {
        for end in [Counter::RespConnClose, Counter::RespAborted, Counter::ReqAborted] {
            let counters = Counters::new();
            counters.inc(Counter::ConnAcceptSuccess);
            counters.inc(Counter::RespDoneKeepalive);
            assert_eq!(counters.unclosed(), 1);
            counters.inc(end);
            assert_eq!(counters.unclosed(), 0);
        }
    }

    #[test]
    fn numbers_that_nobody_counted_are_no_overflow() {
        let counters = Counters::new();
        counters.add(Counter::ReqAborted, u64::MAX);
        counters.add(Counter::RespAborted, u64::MAX);
        assert_eq!(counters.unclosed(), 0);
    }

    #[test]
    fn a_close_seen_before_its_accept_is_no_underflow() {
        let counters = Counters::new();
        counters.inc(Counter::ReqAborted);
        assert_eq!(counters.unclosed(), 0);
    }
}
