//! Distributions: the value that represents a bucket, and the encoding of bucket counts.
//!
//! A bucket is represented by its middle, in milliseconds. A bucket's width is at most 1/16 of its start, so this value
//! is off by at most 1/32. Below 2 us, where buckets are 125 ns wide, it is off by at most 63 ns. The last bucket
//! also contains everything longer than 36 min.
//!
//! DogStatsD's agent counts a value 1/rate times and truncates the result, which is exact only for powers of two. The
//! count of a bucket is therefore sent bit by bit: there is a line for each bit, with the values of all buckets whose
//! count has this bit.

use arctos_worker::shared::scoreboard::Histogram;

/// The value of a bucket.
pub(super) fn value_ms(index: usize) -> f64 {
    let bounds = Histogram::bounds(index);
    // In half nanoseconds the middle is an integer, so that only the division rounds.
    let half_ns = (bounds.start + bounds.end).as_nanos();
    half_ns as f64 / 2_000_000.0
}

/// The bits that occur in these numbers, the lowest first.
pub(super) fn bits(gained: &[(usize, u64)]) -> impl Iterator<Item = u32> {
    let all = gained.iter().fold(0, |all, (_, n)| all | n);
    (0..u64::BITS).filter(move |bit| has_bit(all, *bit))
}

/// Whether a number has a bit.
pub(super) fn has_bit(n: u64, bit: u32) -> bool {
    n >> bit & 1 == 1
}

/// The quantiles of a distribution for plain statsd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Quantile {
    /// The median.
    P50,
    /// 90 % of the values are at most this.
    P90,
    /// 99 % of the values are at most this.
    P99,
    /// The maximum.
    Max,
}

impl Quantile {
    /// All quantiles, in order.
    pub(super) const ALL: [Self; 4] = [Self::P50, Self::P90, Self::P99, Self::Max];

    /// The last part of the metric name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P99 => "p99",
            Self::Max => "max",
        }
    }

    const fn percent(self) -> u64 {
        match self {
            Self::P50 => 50,
            Self::P90 => 90,
            Self::P99 => 99,
            Self::Max => 100,
        }
    }

    /// The bucket of this quantile; `None` without values. `gained` is sorted by bucket.
    pub(super) fn bucket(self, gained: &[(usize, u64)]) -> Option<usize> {
        let total: u128 = gained.iter().map(|(_, n)| u128::from(*n)).sum();
        let rank = (total * u128::from(self.percent())).div_ceil(100);
        let mut seen = 0_u128;
        let reached = gained.iter().find(|(_, n)| {
            seen += u128::from(*n);
            seen >= rank
        });
        reached.map(|(index, _)| *index)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_value_is_off_by_at_most_a_thirty_second(ns in 2000..1000_u64 << 31, shift in 0..30_u32) {
            let ns: u64 = (ns >> shift).max(2000);
            let index = Histogram::index_of(std::time::Duration::from_nanos(ns));
            let off = (value_ms(index) * 1e6 - ns as f64).abs();
            prop_assert!(off <= ns as f64 / 32.0);
        }
    }

    #[test]
    fn values_have_few_decimals() {
        for index in 0..Histogram::BUCKETS {
            let text = value_ms(index).to_string();
            let decimals = text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
            assert!(decimals <= 7 && text.len() <= 11, "{text}");
        }
    }

    #[test]
    fn quantiles_match_those_of_a_sorted_list() {
        let gained = [(3, 50), (7, 40), (8, 9), (20, 1)];
        let buckets = Quantile::ALL.map(|quantile| quantile.bucket(&gained));
        assert_eq!(buckets, [Some(3), Some(7), Some(8), Some(20)]);
        assert_eq!(Quantile::ALL.map(|quantile| quantile.bucket(&[(5, 1)])), [Some(5); 4]);
        assert_eq!(Quantile::ALL.map(|quantile| quantile.bucket(&[])), [None; 4]);
    }
}
