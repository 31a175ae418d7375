//! A histogram of Prometheus' text format, as a person asks for it.

use super::page::Sample;
use super::units::duration;
use crate::metrics::Distribution;

/// A histogram: its buckets are cumulative, in the order of their bounds.
pub(crate) struct Spread {
    sum: f64,
    buckets: Vec<Bucket>,
}

/// How many were at most as long as this.
#[derive(Clone, Copy)]
struct Bucket {
    bound: f64,
    count: f64,
}

impl Spread {
    /// Of one slot, or of all together.
    pub(crate) fn of(samples: &[Sample], distribution: Distribution, slot: Option<u16>) -> Self {
        let name = distribution.prometheus_name();
        let (sum_name, bucket_name) = (format!("{name}_sum"), format!("{name}_bucket"));
        let mut spread = Self { sum: 0.0, buckets: Vec::new() };
        for sample in samples.iter().filter(|sample| slot.is_none() || sample.slot() == slot) {
            if sample.name == sum_name {
                spread.sum += sample.value;
            } else if sample.name == bucket_name
                && let Some(bound) = sample.label("le").and_then(|bound| bound.parse().ok())
            {
                match spread.buckets.iter_mut().find(|bucket| bucket.bound == bound) {
                    Some(bucket) => bucket.count += sample.value,
                    None => spread.buckets.push(Bucket { bound, count: sample.value }),
                }
            }
        }
        spread.buckets.sort_by(|one, other| one.bound.total_cmp(&other.bound));
        spread
    }

    /// What has come since an earlier moment. Where a count has fallen, somebody else is counting: all of it is new.
    pub(crate) fn since(mut self, earlier: &Self) -> Self {
        if self.count() < earlier.count() {
            return self;
        }
        for bucket in &mut self.buckets {
            let before = earlier.buckets.iter().find(|before| before.bound == bucket.bound);
            bucket.count -= before.map_or(0.0, |before| before.count);
        }
        self.sum -= earlier.sum;
        self
    }

    /// Whether there are no samples of it.
    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// How many there were.
    pub(crate) fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |bucket| bucket.count)
    }

    /// Empty where there were none.
    pub(crate) fn mean(&self) -> String {
        if self.count() > 0.0 { duration(self.sum / self.count()) } else { String::new() }
    }

    /// As `histogram_quantile` of Prometheus: values lie evenly in their bucket. Empty where there were none.
    pub(crate) fn percentile(&self, part: f64) -> String {
        let rank = part * self.count();
        if rank <= 0.0 {
            return String::new();
        }
        let mut below = Bucket { bound: 0.0, count: 0.0 };
        for bucket in &self.buckets {
            if bucket.count >= rank {
                if bucket.bound.is_infinite() {
                    break;
                }
                let share = (rank - below.count) / (bucket.count - below.count);
                return duration(below.bound + (bucket.bound - below.bound) * share);
            }
            below = *bucket;
        }
        format!(">{}", duration(below.bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_lies_within_its_bucket() {
        let bucket = |bound, count| Bucket { bound, count };
        let buckets = vec![bucket(0.001, 10.0), bucket(0.002, 20.0), bucket(f64::INFINITY, 20.0)];
        let spread = Spread { sum: 0.0, buckets };
        assert_eq!(spread.percentile(0.25), "500us");
        assert_eq!(spread.percentile(0.75), "1.50ms");
        assert_eq!(spread.percentile(1.0), "2.00ms");
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let spread = |counts: [f64; 2], sum| {
            let [first, all] = counts;
            let bucket = |bound, count| Bucket { bound, count };
            Spread { sum, buckets: vec![bucket(0.001, first), bucket(f64::INFINITY, all)] }
        };
        let since = spread([10.0, 30.0], 9.0).since(&spread([10.0, 20.0], 4.0));
        assert_eq!((since.count(), since.sum), (10.0, 5.0));
        assert_eq!(since.percentile(0.5), ">1.00ms");
        let other = spread([1.0, 1.0], 0.5).since(&spread([10.0, 20.0], 4.0));
        assert_eq!((other.count(), other.sum), (1.0, 0.5), "another server, which began anew");
    }
}
