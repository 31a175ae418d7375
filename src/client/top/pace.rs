//! Rates and percentiles between two samples: the difference of their counters.

use std::collections::BTreeMap;

use super::sample::Sample;
use crate::client::ctl::distribution::HistogramSample;
use crate::client::ctl::routes::RouteRequests;
use crate::metrics::Distribution;

/// The requests that finished between two samples.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Pace {
    /// The time between the samples.
    pub(super) seconds: f64,
    /// The requests of all workers.
    pub(super) all: RequestRate,
    /// The requests of each slot.
    pub(super) slots: BTreeMap<u16, RequestRate>,
    /// The requests of each route, the one first on which the most time was spent.
    pub(super) routes: Vec<RouteRequests>,
}

/// A rate of requests, and percentiles of their durations.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct RequestRate {
    pub(super) per_second: f64,
    /// Formatted; empty if no request finished.
    pub(super) p50: String,
    pub(super) p90: String,
    pub(super) p99: String,
}

impl Pace {
    /// `None` if the two samples are not from the same server.
    pub(super) fn between(earlier: &Sample, later: &Sample) -> Option<Self> {
        let seconds = later.at.saturating_duration_since(earlier.at).as_secs_f64();
        if earlier.pid != later.pid || seconds <= 0.0 {
            return None;
        }
        let of = |slot| {
            let durations = |sample: &Sample| {
                HistogramSample::of(&sample.metrics, Distribution::RequestDuration2xx, slot)
            };
            let durations = durations(later).since(&durations(earlier));
            RequestRate {
                per_second: durations.count() / seconds,
                p50: durations.percentile(0.5),
                p90: durations.percentile(0.9),
                p99: durations.percentile(0.99),
            }
        };
        let slots = later.workers.iter().map(|worker| (worker.slot, of(Some(worker.slot))));
        let routes = later.routes.since(&earlier.routes);
        Some(Self { seconds, all: of(None), slots: slots.collect(), routes })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn sample(at: Instant, pid: u32, counts: [[u32; 3]; 2]) -> Sample {
        let status = format!(r#"{{"pid": {pid}, "workers": [{{"slot": 0}}, {{"slot": 1}}]}}"#);
        let mut metrics = String::new();
        for (slot, counts) in counts.iter().enumerate() {
            for (bound, count) in ["0.001", "0.01", "+Inf"].iter().zip(counts) {
                metrics.push_str(&format!(
                    "arctos_request_duration_seconds_bucket{{worker=\"{slot}\",le=\"{bound}\"}} {count}\n"
                ));
            }
        }
        Sample::read(&status, &metrics, at).unwrap()
    }

    #[test]
    fn rates_and_percentiles_cover_the_time_between_the_samples() {
        let start = Instant::now();
        let before = sample(start, 7, [[1000, 1000, 1000], [0, 0, 0]]);
        let after = sample(start + Duration::from_secs(2), 7, [[1000, 1020, 1020], [20, 20, 20]]);
        let pace = Pace::between(&before, &after).unwrap();
        assert_eq!(pace.all.per_second, 20.0);
        assert_eq!((pace.all.p50.as_str(), pace.all.p90.as_str()), ("1.00ms", "8.20ms"));
        assert_eq!(pace.slots[&0].per_second, 10.0);
        assert_eq!(pace.slots[&0].p50, "5.50ms");
        assert_eq!(pace.slots[&1].p99, "990us");
    }

    #[test]
    fn without_requests_there_are_no_percentiles() {
        let start = Instant::now();
        let [before, after] =
            [0, 1].map(|s| sample(start + Duration::from_secs(s), 7, [[5, 5, 5], [5, 5, 5]]));
        let pace = Pace::between(&before, &after).unwrap();
        assert_eq!(pace.all, RequestRate::default());
    }

    #[test]
    fn samples_of_two_servers_are_not_compared() {
        let start = Instant::now();
        let [before, after] =
            [7, 8].map(|pid| sample(start + Duration::from_secs(pid), pid as u32, [[5, 5, 5]; 2]));
        assert_eq!(Pace::between(&before, &after), None);
        assert_eq!(Pace::between(&before, &before), None, "no time has passed");
    }
}
