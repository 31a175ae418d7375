//! A histogram of durations, in buckets that grow with them.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::shared::scoreboard::cell::saturating_ns;

/// A log-linear histogram: 16 buckets per octave from 2 us to 36 min, and below that buckets of 125 ns.
///
/// From 2 us on, the width of a bucket is at most 1/16 of its start. All bounds are whole nanoseconds, and each power
/// of two in microseconds is one of them. The counts are cumulative over all workers that had this entry, and only
/// the worker writes them. Buckets wrap at 2^32, so readers use wrapping differences.
#[repr(C, align(128))]
pub struct Histogram {
    count: AtomicU64,
    sum_ns: AtomicU64,
    buckets: [AtomicU32; Self::BUCKETS],
}

const STEPS: usize = 16;
/// The width of the narrowest buckets. Fast applications answer within 8 us: with whole microseconds, the width of a
/// bucket was 1/8 of such a duration.
const UNIT_NS: u64 = 125;
/// 2^4 units are 2 us: the first octave with 16 buckets.
const FIRST_OCTAVE: u32 = STEPS.ilog2();
/// 2^33 to 2^34 units, 18 to 36 min.
const LAST_OCTAVE: u32 = 33;

impl Histogram {
    /// The number of buckets.
    pub const BUCKETS: usize = STEPS + STEPS * (LAST_OCTAVE - FIRST_OCTAVE + 1) as usize;

    pub(super) const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            sum_ns: AtomicU64::new(0),
            buckets: [const { AtomicU32::new(0) }; Self::BUCKETS],
        }
    }

    /// Records one duration. The last bucket also counts everything longer.
    #[inline]
    pub fn record(&self, value: Duration) {
        let ns = saturating_ns(value);
        let bucket = &self.buckets[bucket_of(ns)];
        // There is one writer, as in `bump`.
        bucket.store(bucket.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        let sum_ns = self.sum_ns.load(Ordering::Relaxed).wrapping_add(ns);
        // Released: a reader that sees the sum also sees the buckets of everything in it.
        self.sum_ns.store(sum_ns, Ordering::Release);
        // Last and released: a reader that finds it unchanged need not read the buckets.
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count.wrapping_add(1), Ordering::Release);
    }

    /// The number of durations recorded. Buckets and sum that are read afterwards include all of them, and perhaps
    /// later ones.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// The sum of all durations recorded. Buckets that are read afterwards include all of them, and perhaps later
    /// ones.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_ns.load(Ordering::Acquire))
    }

    /// The counts of all buckets, those of the shortest durations first.
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed))
    }

    /// The durations that bucket `index` counts, which is below [`Histogram::BUCKETS`]. The last bucket also counts
    /// everything longer.
    pub fn bounds(index: usize) -> Range<Duration> {
        start(index)..start(index + 1)
    }

    /// The index of the bucket that counts `value`.
    pub fn index_of(value: Duration) -> usize {
        bucket_of(saturating_ns(value))
    }
}

/// The bucket of a duration: its octave from the highest bit, its step from the four bits below.
#[inline]
fn bucket_of(ns: u64) -> usize {
    let units = ns / UNIT_NS;
    if units < STEPS as u64 {
        return units as usize;
    }
    let octave = units.ilog2();
    if octave > LAST_OCTAVE {
        return Histogram::BUCKETS - 1;
    }
    let scale = octave - FIRST_OCTAVE;
    // `units >> scale` lies between 16 and 31: its highest bit opens the next octave by itself.
    STEPS * scale as usize + (units >> scale) as usize
}

/// The shortest duration of a bucket: the inverse of [`bucket_of`].
fn start(index: usize) -> Duration {
    let units = match (index / STEPS).checked_sub(1) {
        None => index as u64,
        Some(scale) => ((STEPS + index % STEPS) as u64) << scale,
    };
    Duration::from_nanos(units * UNIT_NS)
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
    fn buckets_have_no_gap_between_them() {
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
    fn longer_durations_count_in_the_last_bucket() {
        assert_eq!(only_bucket(Duration::from_secs(36 * 60)), Histogram::BUCKETS - 1);
        assert_eq!(only_bucket(Duration::MAX), Histogram::BUCKETS - 1);
    }

    #[test]
    fn a_microsecond_has_eight_buckets() {
        let us = |us| Histogram::index_of(Duration::from_micros(us));
        assert_eq!((us(0), us(1), us(2)), (0, 8, 16));
        assert_eq!(
            Histogram::bounds(us(8)),
            Duration::from_nanos(8000)..Duration::from_nanos(8500)
        );
    }

    #[test]
    fn the_sum_keeps_nanoseconds() {
        let histogram = Histogram::new();
        for _ in 0..1000 {
            histogram.record(Duration::from_nanos(8_700));
        }
        assert_eq!(histogram.sum(), Duration::from_nanos(8_700_000));
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
        fn a_duration_lies_within_the_bounds_of_its_bucket(ns in 0..1000u64 << 31, shift in 0..40) {
            let value = Duration::from_nanos(ns >> shift);
            prop_assert!(Histogram::bounds(only_bucket(value)).contains(&value));
        }

        #[test]
        fn a_longer_duration_is_never_in_an_earlier_bucket(a in any::<u64>(), b in any::<u64>(), shift in 0..64) {
            let (a, b): (u64, u64) = (a >> shift, b >> shift);
            let index_of = |ns| Histogram::index_of(Duration::from_nanos(ns));
            prop_assert!(index_of(a.min(b)) <= index_of(a.max(b)));
        }

        #[test]
        fn a_bucket_is_at_most_a_sixteenth_wide(index in STEPS..Histogram::BUCKETS) {
            let bounds = Histogram::bounds(index);
            prop_assert!((bounds.end - bounds.start) * 16 <= bounds.start);
        }
    }
}
