//! Values in shared memory that have one writer at a time.
//!
//! A load and a store, both relaxed, take a tenth of the time of `fetch_add` (0.6 ns against 7), and
//! with one writer they lose nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Adds to a value that has no other writer.
#[inline]
pub(super) fn bump(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
}

/// An optional moment of CLOCK_MONOTONIC, in microseconds.
///
/// Shape: 0 is `None`, otherwise the moment plus one, so zeroed memory holds `None`.
#[repr(transparent)]
pub(super) struct Moment(AtomicU64);

impl Moment {
    pub(super) const fn none() -> Self {
        Self(AtomicU64::new(0))
    }

    /// A reader that sees this value also sees everything that was written before.
    #[inline]
    pub(super) fn set(&self, moment: Option<Duration>) {
        let word = moment.map_or(0, |moment| whole_us(moment).saturating_add(1));
        self.0.store(word, Ordering::Release);
    }

    #[inline]
    pub(super) fn get(&self) -> Option<Duration> {
        self.0.load(Ordering::Acquire).checked_sub(1).map(Duration::from_micros)
    }
}

/// Whole microseconds, at most 584 000 years.
#[inline]
pub(super) fn whole_us(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}

/// Whole nanoseconds, at most 584 years.
#[inline]
pub(super) fn saturating_ns(duration: Duration) -> u64 {
    duration
        .as_secs()
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::from(duration.subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_keeps_its_microseconds_and_the_first_one_is_not_none() {
        let moment = Moment::none();
        assert_eq!(moment.get(), None);
        for us in [0, 1, 1_234_567] {
            moment.set(Some(Duration::from_micros(us)));
            assert_eq!(moment.get(), Some(Duration::from_micros(us)));
        }
        moment.set(None);
        assert_eq!(moment.get(), None);
    }

    #[test]
    fn an_excessive_moment_is_the_maximum() {
        let moment = Moment::none();
        moment.set(Some(Duration::MAX));
        assert_eq!(moment.get(), Some(Duration::from_micros(u64::MAX - 1)));
    }
}
