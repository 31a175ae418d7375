//! A histogram of latencies. Buckets are at most 1/16 of their value wide, so quantiles are off by at most 3 %.
//!
//! Below 16 ns every value has its own bucket; above, each octave is divided into 16 equal steps.

use std::time::Duration;

/// Steps of one octave.
const STEPS: u64 = 16;
/// Values up to 2^44 ns, almost five hours; the last bucket also counts longer ones.
const BUCKETS: usize = 41 * STEPS as usize;

/// The number of latencies per bucket.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    longest: Duration,
}

impl Histogram {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], longest: Duration::ZERO }
    }

    /// Records a latency.
    pub(crate) fn add(&mut self, latency: Duration) {
        self.counts[bucket(nanoseconds(latency))] += 1;
        self.longest = self.longest.max(latency);
    }

    /// The exact maximum; zero without values.
    pub(crate) fn maximum(&self) -> Duration {
        self.longest
    }

    /// The middle of the bucket that contains the quantile `share` (0 to 1); zero without values.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let total: u64 = self.counts.iter().sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= wanted {
                let middle = (lower_bound(index) + lower_bound(index + 1)) / 2;
                return Duration::from_nanos(middle).min(self.longest);
            }
        }
        Duration::ZERO
    }
}

fn nanoseconds(latency: Duration) -> u64 {
    u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX)
}

fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < STEPS {
        return nanoseconds as usize;
    }
    let octave = u64::from(nanoseconds.ilog2() - STEPS.ilog2());
    let step = (nanoseconds >> octave) - STEPS;
    ((octave + 1) * STEPS + step).min(BUCKETS as u64 - 1) as usize
}

fn lower_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    (STEPS + bucket % STEPS) << (bucket / STEPS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bucket_begins_where_the_one_before_it_ends() {
        for index in 0..BUCKETS {
            assert_eq!(bucket(lower_bound(index)), index);
            assert_eq!(bucket(lower_bound(index + 1) - 1), index);
        }
    }

    #[test]
    fn what_is_too_long_goes_to_the_last_bucket() {
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_quantile_is_near_the_value_at_its_rank() {
        let mut latencies = Histogram::new();
        for us in 1..=1000 {
            latencies.add(Duration::from_micros(us));
        }
        let (median, slowest) = (latencies.quantile(0.5), latencies.quantile(0.99));
        assert!((485..=515).contains(&median.as_micros()), "{median:?}");
        assert!((960..=1000).contains(&slowest.as_micros()), "{slowest:?}");
        assert_eq!(latencies.maximum(), Duration::from_millis(1));
    }

    #[test]
    fn nothing_seen_has_no_latency() {
        assert_eq!(Histogram::new().quantile(0.99), Duration::ZERO);
    }
}
