//! A histogram of any numbers, in buckets that grow with them.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use super::number::SharedNumber;

/// A log-linear histogram: 16 buckets per octave from 2^-20 to 2^44, which in seconds is from 1 us to 500 000 years, and
/// in bytes up to 16 TB. Bucket 0 counts everything below, the last one also everything above. Powers of two are
/// bounds. The width of a bucket is at most 1/16 of its start.
///
/// The counts are cumulative as long as a process has the area. Buckets wrap at 2^32, so readers use wrapping
/// differences.
#[repr(C, align(128))]
pub struct ValueHistogram {
    sum: SharedNumber,
    buckets: [AtomicU32; Self::BUCKETS],
}

const STEPS: usize = 16;
const STEP_BITS: u32 = STEPS.ilog2();
const FIRST_OCTAVE: i32 = -20;
const END_OCTAVE: i32 = 44;
/// Of the exponent of an `f64`.
const BIAS: i32 = 1023;
const FRACTION_BITS: u32 = 52;

impl ValueHistogram {
    /// The number of buckets.
    pub const BUCKETS: usize = 1 + STEPS * (END_OCTAVE - FIRST_OCTAVE) as usize;

    /// Records one value, which is not NaN.
    #[inline]
    pub fn record(&self, value: f64) {
        self.sum.add(value);
        // Last and released: a reader that sees the record in its bucket also sees it in the sum.
        self.buckets[Self::index_of(value)].fetch_add(1, Ordering::Release);
    }

    /// The counts of all buckets, those of the lowest values first.
    pub fn buckets(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Acquire))
    }

    /// The sum of all values. It includes all values of the buckets that were read before.
    pub fn sum(&self) -> f64 {
        self.sum.get()
    }

    /// The values that bucket `index` counts, which is below [`ValueHistogram::BUCKETS`]: from the start, and below the
    /// end.
    pub fn bounds(index: usize) -> Range<f64> {
        start(index)..if index + 1 == Self::BUCKETS { f64::INFINITY } else { start(index + 1) }
    }

    /// The index of the bucket that counts `value`. NaN is counted as what is too low.
    #[inline]
    pub fn index_of(value: f64) -> usize {
        if value.is_nan() || value < start(1) {
            return 0;
        }
        let bits = value.to_bits();
        let octave = (bits >> FRACTION_BITS) as i32 - BIAS;
        if octave >= END_OCTAVE {
            return Self::BUCKETS - 1;
        }
        let step = (bits >> (FRACTION_BITS - STEP_BITS)) as usize % STEPS;
        1 + STEPS * (octave - FIRST_OCTAVE) as usize + step
    }
}

/// The lowest value of a bucket.
fn start(index: usize) -> f64 {
    let Some(place) = index.checked_sub(1) else { return f64::NEG_INFINITY };
    let octave = FIRST_OCTAVE + (place / STEPS) as i32;
    let fraction = 1.0 + (place % STEPS) as f64 / STEPS as f64;
    fraction * f64::from(octave).exp2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_have_no_gap_between_them() {
        for index in 1..ValueHistogram::BUCKETS {
            let before = ValueHistogram::bounds(index - 1);
            let bounds = ValueHistogram::bounds(index);
            assert_eq!(before.end, bounds.start);
            assert_eq!(ValueHistogram::index_of(bounds.start), index);
            assert!(bounds.end.is_infinite() || bounds.end <= bounds.start * (1.0 + 1.0 / 16.0));
        }
        assert_eq!(ValueHistogram::bounds(1).start, 1.0 / f64::from(1 << 20));
        assert_eq!(ValueHistogram::bounds(ValueHistogram::BUCKETS - 1).end, f64::INFINITY);
    }

    #[test]
    fn every_power_of_two_is_a_bound() {
        for octave in FIRST_OCTAVE..END_OCTAVE {
            let power = f64::from(octave).exp2();
            assert_eq!(ValueHistogram::bounds(ValueHistogram::index_of(power)).start, power);
        }
    }

    #[test]
    fn what_is_too_low_or_too_high_has_a_bucket() {
        for low in [0.0, -0.0, -1.0, f64::NEG_INFINITY, f64::NAN, 1e-9, f64::MIN_POSITIVE] {
            assert_eq!(ValueHistogram::index_of(low), 0, "{low}");
        }
        for high in [1e300, f64::MAX, f64::INFINITY] {
            assert_eq!(ValueHistogram::index_of(high), ValueHistogram::BUCKETS - 1, "{high}");
        }
    }

    proptest! {
        #[test]
        fn a_value_is_within_the_bounds_of_its_bucket(value in 1e-6_f64..1e13) {
            let bounds = ValueHistogram::bounds(ValueHistogram::index_of(value));
            prop_assert!(bounds.contains(&value));
        }
    }
}
