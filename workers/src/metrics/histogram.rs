//! Durations, counted in buckets that grow with them.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::metrics::cell::{bump, whole_us};

/// Log-linear histogram: 16 steps an octave, 16 us to 36 min; below that, steps of 1 us.
///
/// A bucket is at most 1/16 of its start wide. Cumulative over all workers that had this place, and
/// written by the worker alone. The counts of buckets wrap at 2^32: readers take wrapping differences.
#[repr(C, align(128))]
pub struct Histogram {
    count: AtomicU64,
    sum_us: AtomicU64,
    buckets: [AtomicU32; Self::BUCKETS],
}

const STEPS: usize = 16;
/// 16 us = 2^4 us, where octaves start to be cut in 16.
const FIRST_OCTAVE: u32 = STEPS.ilog2();
/// 2^30 us to 2^31 us, 18 to 36 min.
const LAST_OCTAVE: u32 = 30;

impl Histogram {
    /// How many buckets there are.
    pub const BUCKETS: usize = STEPS + STEPS * (LAST_OCTAVE - FIRST_OCTAVE + 1) as usize;

    pub(super) const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            sum_us: AtomicU64::new(0),
            buckets: [const { AtomicU32::new(0) }; Self::BUCKETS],
        }
    }

    /// Records one. What is longer than the last bucket counts there.
    #[inline]
    pub fn record(&self, value: Duration) {
        let us = whole_us(value);
        let bucket = &self.buckets[bucket_of(us)];
        // One writer, as in `bump`.
        bucket.store(bucket.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        bump(&self.sum_us, us);
        // Last and released: a reader that finds it where it was need not look at the buckets.
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count.wrapping_add(1), Ordering::Release);
    }

    /// How many were recorded. Buckets and sum that are read after it have all of these, and perhaps
    /// some that came since.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The sum of all that was recorded, each cut to whole microseconds.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum_us.load(Ordering::Relaxed))
    }

    /// The counts of all buckets so far, shortest durations first.
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))
    }

    /// Which durations bucket `index`, below [`Histogram::BUCKETS`], counts; the last one also counts
    /// all that are longer.
    pub fn bounds(index: usize) -> Range<Duration> {
        Duration::from_micros(start_us(index))..Duration::from_micros(start_us(index + 1))
    }
}

/// The bucket of a duration: its octave from the highest bit, its step from the four bits below.
#[inline]
fn bucket_of(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let octave = us.ilog2();
    if octave > LAST_OCTAVE {
        return Histogram::BUCKETS - 1;
    }
    let scale = octave - FIRST_OCTAVE;
    // `us >> scale` lies between 16 and 31: its highest bit opens the next octave by itself.
    STEPS * scale as usize + (us >> scale) as usize
}

/// The shortest duration of a bucket: the inverse of [`bucket_of`].
fn start_us(index: usize) -> u64 {
    if index < STEPS {
        return index as u64;
    }
    let scale = index / STEPS - 1;
    ((STEPS + index % STEPS) as u64) << scale
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn only_bucket(value: Duration) -> usize {
        let histogram = Histogram::new();
        histogram.record(value);
        assert_eq!(histogram.buckets().map(u64::from).sum::<u64>(), 1);
        histogram.buckets().position(|count| count == 1).unwrap()
    }

    #[test]
    fn buckets_meet_each_other_without_a_gap() {
        assert_eq!(Histogram::bounds(0).start, Duration::ZERO);
        for index in 1..Histogram::BUCKETS {
            assert_eq!(Histogram::bounds(index - 1).end, Histogram::bounds(index).start);
        }
        let end = Histogram::bounds(Histogram::BUCKETS - 1).end;
        assert_eq!(end, Duration::from_micros(1 << 31));
    }

    #[test]
    fn an_octave_has_16_steps() {
        let octave = Duration::from_micros(1 << 20)..Duration::from_micros(1 << 21);
        let starts = (0..Histogram::BUCKETS).map(|index| Histogram::bounds(index).start);
        assert_eq!(starts.filter(|start| octave.contains(start)).count(), 16);
    }

    #[test]
    fn what_is_longer_than_the_last_bucket_counts_there() {
        assert_eq!(only_bucket(Duration::from_secs(36 * 60)), Histogram::BUCKETS - 1);
        assert_eq!(only_bucket(Duration::MAX), Histogram::BUCKETS - 1);
    }

    #[test]
    fn count_and_sum_are_kept_beside_the_buckets() {
        let histogram = Histogram::new();
        histogram.record(Duration::from_micros(3));
        histogram.record(Duration::from_millis(250));
        assert_eq!(histogram.count(), 2);
        assert_eq!(histogram.sum(), Duration::from_micros(250_003));
    }

    proptest! {
        #[test]
        fn a_duration_lies_within_the_bounds_of_its_bucket(us in 0..1u64 << 31, shift in 0..31) {
            let value = Duration::from_micros(us >> shift);
            prop_assert!(Histogram::bounds(only_bucket(value)).contains(&value));
        }

        #[test]
        fn a_longer_duration_is_never_in_an_earlier_bucket(a in any::<u64>(), b in any::<u64>(), shift in 0..64) {
            let (a, b): (u64, u64) = (a >> shift, b >> shift);
            prop_assert!(bucket_of(a.min(b)) <= bucket_of(a.max(b)));
        }

        #[test]
        fn a_bucket_is_at_most_a_sixteenth_wide(index in STEPS..Histogram::BUCKETS) {
            let bounds = Histogram::bounds(index);
            prop_assert!((bounds.end - bounds.start) * 16 <= bounds.start);
        }
    }
}
