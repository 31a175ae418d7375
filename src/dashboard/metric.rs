//! Any metric of the server.

use arctos_worker::shared::scoreboard::Counter;
use arctos_worker::shared::series::ROUTE_DURATION;

use crate::metrics::names::{application_prometheus_name, counter_prometheus_name};
use crate::metrics::table;
use crate::metrics::{Distribution, Gauge, Scope};

/// A metric of the server. Those that differ only in the value of their own tag are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Metric {
    Counter(Counter),
    Gauge(Gauge),
    Distribution(Distribution),
    /// The durations of requests by route, which exist if the application names routes.
    Routes,
}

impl Metric {
    /// The name in statsd, without the prefix.
    pub(super) fn statsd_name(self) -> &'static str {
        match self {
            Self::Counter(counter) => counter.statsd_name(),
            Self::Gauge(gauge) => gauge.statsd_name(),
            Self::Distribution(distribution) => distribution.statsd_name(),
            Self::Routes => ROUTE_DURATION,
        }
    }

    /// The name in Prometheus.
    pub(super) fn prometheus_name(self) -> String {
        match self {
            Self::Counter(counter) => counter_prometheus_name(counter),
            Self::Gauge(gauge) => gauge.prometheus_name(),
            Self::Distribution(distribution) => distribution.prometheus_name(),
            Self::Routes => application_prometheus_name(ROUTE_DURATION),
        }
    }

    /// The meaning, in one sentence.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            Self::Counter(counter) => counter.meaning(),
            Self::Gauge(gauge) => gauge.meaning(),
            Self::Distribution(distribution) => distribution.meaning(),
            Self::Routes => {
                "Durations of the requests whose route the application has named, by route and status."
            }
        }
    }

    /// Whether its values have the label `worker`.
    pub(super) fn has_worker(self) -> bool {
        match self {
            Self::Counter(counter) => !table::is_of_supervisor(counter),
            Self::Gauge(gauge) => gauge.scope() == Scope::Worker,
            Self::Distribution(_) | Self::Routes => true,
        }
    }

    /// All metrics, each once.
    pub(super) fn all() -> Vec<Self> {
        let mut all: Vec<Self> = Counter::ALL.map(Self::Counter).to_vec();
        all.dedup_by_key(|metric| metric.statsd_name());
        all.extend(Gauge::ALL.map(Self::Gauge));
        all.extend(Distribution::families().map(|family| Self::Distribution(family[0])));
        all.push(Self::Routes);
        all
    }
}
