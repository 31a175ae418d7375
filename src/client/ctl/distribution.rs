//! The count, mean and percentiles of a histogram in Prometheus' text format.

use super::page::MetricSample;
use super::units::duration;
use crate::metrics::Distribution;

/// A histogram with cumulative buckets, in the order of their bounds.
#[derive(Default)]
pub(crate) struct HistogramSample {
    sum: f64,
    buckets: Vec<Bucket>,
}

/// The number of values up to a bound.
#[derive(Clone, Copy)]
struct Bucket {
    bound: f64,
    count: f64,
}

impl HistogramSample {
    /// The histogram of one slot, or of all slots together, whatever the other tags are.
    pub(crate) fn of(
        samples: &[MetricSample],
        distribution: Distribution,
        slot: Option<u16>,
    ) -> Self {
        let name = distribution.prometheus_name();
        let mut histogram = Self::default();
        for sample in samples.iter().filter(|sample| slot.is_none() || sample.slot() == slot) {
            if let Some(part) = sample.name.strip_prefix(&name) {
                histogram.add(part, sample);
            }
        }
        histogram
    }

    /// Adds a sample whose name has this end after that of the histogram.
    pub(crate) fn add(&mut self, part: &str, sample: &MetricSample) {
        if part == "_sum" {
            self.sum += sample.value;
        } else if part == "_bucket"
            && let Some(bound) = sample.label("le").and_then(|bound| bound.parse().ok())
        {
            let at = self.buckets.partition_point(|bucket| bucket.bound < bound);
            match self.buckets.get_mut(at).filter(|bucket| bucket.bound == bound) {
                Some(bucket) => bucket.count += sample.value,
                None => self.buckets.insert(at, Bucket { bound, count: sample.value }),
            }
        }
    }

    /// A histogram of durations whose buckets reach from half of their bound to the bound, and are not cumulative. Those
    /// that are empty may be missing.
    pub(crate) fn of_octaves(sum: f64, octaves: impl IntoIterator<Item = (f64, u64)>) -> Self {
        let mut octaves: Vec<_> = octaves.into_iter().collect();
        octaves.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        let mut buckets: Vec<Bucket> = Vec::new();
        let mut count = 0.0;
        for (bound, n) in octaves {
            let start = bound / 2.0;
            let has_gap = buckets.last().is_none_or(|last| last.bound < start);
            if has_gap && bound.is_finite() {
                buckets.push(Bucket { bound: start, count });
            }
            count += n as f64;
            buckets.push(Bucket { bound, count });
        }
        Self { sum, buckets }
    }

    /// The values since an earlier sample. If the count has fallen, another server has begun to count, and all values
    /// are new.
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

    /// Whether the metrics do not contain this histogram.
    pub(crate) fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// The number of values.
    pub(crate) fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |bucket| bucket.count)
    }

    /// The mean; empty without values.
    pub(crate) fn mean(&self) -> String {
        if self.count() > 0.0 { duration(self.sum / self.count()) } else { String::new() }
    }

    /// A percentile of durations, computed like `histogram_quantile` of Prometheus, which assumes that values are spread
    /// evenly within their bucket; empty without values.
    pub(crate) fn percentile(&self, part: f64) -> String {
        self.percentile_as(part, duration)
    }

    /// A percentile, shown like this.
    pub(crate) fn percentile_as(&self, part: f64, show: impl Fn(f64) -> String) -> String {
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
                return show(below.bound + (bucket.bound - below.bound) * share);
            }
            below = *bucket;
        }
        format!(">{}", show(below.bound))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_lies_within_its_bucket() {
        let bucket = |bound, count| Bucket { bound, count };
        let buckets = vec![bucket(0.001, 10.0), bucket(0.002, 20.0), bucket(f64::INFINITY, 20.0)];
        let histogram = HistogramSample { sum: 0.0, buckets };
        assert_eq!(histogram.percentile(0.25), "500us");
        assert_eq!(histogram.percentile(0.75), "1.50ms");
        assert_eq!(histogram.percentile(1.0), "2.00ms");
    }

    #[test]
    fn a_percentile_of_octaves_ignores_the_empty_ones() {
        let histogram = HistogramSample::of_octaves(9.0, [(8.0, 2), (1.0, 2)]);
        assert_eq!((histogram.count(), histogram.mean().as_str()), (4.0, "2.25s"));
        let percentiles = [0.25, 0.5, 0.75, 1.0].map(|part| histogram.percentile(part));
        assert_eq!(percentiles, ["750ms", "1.00s", "6.00s", "8.00s"]);
        let beyond = HistogramSample::of_octaves(9.0, [(f64::INFINITY, 1), (1.0, 1)]);
        assert_eq!(beyond.percentile(0.99), ">1.00s");
        assert_eq!(HistogramSample::of_octaves(0.0, []).percentile(0.5), "");
    }

    #[test]
    fn values_since_an_earlier_sample_are_the_difference() {
        let histogram = |counts: [f64; 2], sum| {
            let [first, all] = counts;
            let bucket = |bound, count| Bucket { bound, count };
            HistogramSample { sum, buckets: vec![bucket(0.001, first), bucket(f64::INFINITY, all)] }
        };
        let since = histogram([10.0, 30.0], 9.0).since(&histogram([10.0, 20.0], 4.0));
        assert_eq!((since.count(), since.sum), (10.0, 5.0));
        assert_eq!(since.percentile(0.5), ">1.00ms");
        let other = histogram([1.0, 1.0], 0.5).since(&histogram([10.0, 20.0], 4.0));
        assert_eq!((other.count(), other.sum), (1.0, 0.5), "another server, which began at 0");
    }
}
