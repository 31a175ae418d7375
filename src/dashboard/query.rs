//! What a line of a panel shows, in the query languages of Prometheus and of Datadog.
//!
//! | query | Prometheus | Datadog |
//! |---|---|---|
//! | [`Query::Rate`] | `rate()` over `$__rate_interval` | `.as_rate()` |
//! | [`Query::Events`] | `increase()` over `$__rate_interval` | `.as_count()` |
//! | [`Query::Share`] | the quotient of two rates | the same, by a formula |
//! | [`Query::Level`] | the gauge, added up or averaged over servers | the same |
//! | [`Query::Quantile`] | `histogram_quantile()` | `pN:`, which needs percentiles to be enabled for the metric |
//!
//! Only values of workers are filtered by the variable `worker`: what concerns a whole server has no such label, and
//! would vanish as soon as a worker is selected.

use arctos_worker::shared::scoreboard::Counter;

use super::metric::Metric;
use crate::metrics::{Distribution, Gauge};

/// What a line shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum Query {
    /// Events per second, of all these counters together.
    Rate(&'static [Counter]),
    /// How often something happened.
    Events(Counter),
    /// What fraction of the events of `whole` is in `part`.
    Share {
        /// The numerator.
        part: &'static [Counter],
        /// The denominator.
        whole: &'static [Counter],
    },
    /// The present value.
    Level(Gauge),
    /// The duration that this percentage of all durations does not exceed.
    Quantile {
        /// The durations.
        of: Distribution,
        /// From 1 to 99.
        percent: u8,
    },
}

/// What gets a line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// Nothing: there is one line.
    Total,
    /// Each worker of each server.
    Worker,
    /// Each value of the label `reason`.
    Reason,
    /// Each class of statuses, which is the value of the label `status`.
    Status,
}

/// A query of Datadog: the queries of single metrics, and a formula in which they are `query1`, `query2` and so on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Formula {
    /// The queries of single metrics.
    pub(super) queries: Vec<String>,
    /// How they make one value.
    pub(super) formula: String,
}

impl By {
    fn prometheus(self) -> &'static str {
        match self {
            Self::Total => "",
            Self::Worker => " by (instance, worker)",
            Self::Reason => " by (reason)",
            Self::Status => " by (status)",
        }
    }

    fn datadog(self) -> &'static str {
        match self {
            Self::Total => "",
            Self::Worker => " by {host,worker}",
            Self::Reason => " by {reason}",
            Self::Status => " by {status}",
        }
    }
}

impl Query {
    /// The metrics that it reads.
    pub(super) fn metrics(self) -> Vec<Metric> {
        match self {
            Self::Rate(counters) => counters.iter().copied().map(Metric::Counter).collect(),
            Self::Events(counter) => vec![Metric::Counter(counter)],
            Self::Share { part, whole } => {
                part.iter().chain(whole).copied().map(Metric::Counter).collect()
            }
            Self::Level(gauge) => vec![Metric::Gauge(gauge)],
            Self::Quantile { of, percent: _ } => vec![Metric::Distribution(of)],
        }
    }

    /// The query in PromQL, with the variables of the Grafana dashboard.
    pub(super) fn prometheus(self, by: By) -> String {
        let by = by.prometheus();
        let rate = |counters: &[Counter]| {
            let rates = counters.iter().map(|counter| {
                format!(
                    "sum{by} (rate({}[$__rate_interval]))",
                    selector(Metric::Counter(*counter), "")
                )
            });
            rates.collect::<Vec<_>>().join(" + ")
        };
        match self {
            Self::Rate(counters) => rate(counters),
            Self::Events(counter) => {
                format!(
                    "sum{by} (increase({}[$__rate_interval]))",
                    selector(Metric::Counter(counter), "")
                )
            }
            Self::Share { part, whole } => format!("({}) / ({})", rate(part), rate(whole)),
            Self::Level(gauge) => {
                format!("{}{by} ({})", together(gauge), selector(Metric::Gauge(gauge), ""))
            }
            Self::Quantile { of, percent } => {
                let by = if by.is_empty() { " by (le)" } else { &by.replace('(', "(le, ") };
                let buckets = selector(Metric::Distribution(of), "_bucket");
                format!(
                    "histogram_quantile(0.{percent:02}, sum{by} (rate({buckets}[$__rate_interval])))"
                )
            }
        }
    }

    /// The query for Datadog, of metrics with this prefix.
    pub(super) fn datadog(self, by: By, prefix: &str) -> Formula {
        let by = by.datadog();
        let query = |aggregator: &str, metric: Metric, function: &str| {
            let scope = if metric.has_worker() {
                "$env,$service,$zone,$worker"
            } else {
                "$env,$service,$zone"
            };
            let dot = if prefix.is_empty() { "" } else { "." };
            format!("{aggregator}:{prefix}{dot}{}{{{scope}}}{by}{function}", metric.statsd_name())
        };
        let sums = |counters: &[Counter], function: &str| -> Vec<String> {
            counters.iter().map(|it| query("sum", Metric::Counter(*it), function)).collect()
        };
        match self {
            Self::Rate(counters) => {
                let queries = sums(counters, ".as_rate()");
                Formula { formula: sum_of_names(0..queries.len()), queries }
            }
            Self::Events(counter) => {
                Formula { queries: sums(&[counter], ".as_count()"), formula: name(0) }
            }
            Self::Share { part, whole } => Formula {
                queries: [sums(part, ".as_count()"), sums(whole, ".as_count()")].concat(),
                formula: format!(
                    "({}) / ({})",
                    sum_of_names(0..part.len()),
                    sum_of_names(part.len()..part.len() + whole.len())
                ),
            },
            Self::Level(gauge) => Formula {
                queries: vec![query(together(gauge), Metric::Gauge(gauge), "")],
                formula: name(0),
            },
            Self::Quantile { of, percent } => Formula {
                queries: vec![query(&format!("p{percent}"), Metric::Distribution(of), "")],
                formula: name(0),
            },
        }
    }
}

/// How the values of several servers make one.
fn together(gauge: Gauge) -> &'static str {
    if gauge == Gauge::WorkersUtilization { "avg" } else { "sum" }
}

/// The series of a metric that the variables of the dashboard select.
fn selector(metric: Metric, suffix: &str) -> String {
    let worker = if metric.has_worker() { r#",worker=~"$worker""# } else { "" };
    let name = metric.prometheus_name();
    format!(r#"{name}{suffix}{{job=~"$job",instance=~"$instance",zone=~"$zone"{worker}}}"#)
}

/// The name of a query in a formula: `query1` for 0.
pub(super) fn name(number: usize) -> String {
    format!("query{}", number + 1)
}

fn sum_of_names(numbers: std::ops::Range<usize>) -> String {
    numbers.map(name).collect::<Vec<_>>().join(" + ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_workers_are_filtered_by_worker_and_those_of_a_server_are_not() {
        let query = Query::Rate(&[Counter::ReqDone]);
        assert_eq!(
            query.prometheus(By::Total),
            r#"sum (rate(arctos_req_done_total{job=~"$job",instance=~"$instance",zone=~"$zone",worker=~"$worker"}[$__rate_interval]))"#
        );
        let query = Query::Level(Gauge::WorkersUtilization);
        assert_eq!(
            query.prometheus(By::Total),
            r#"avg (arctos_workers_utilization{job=~"$job",instance=~"$instance",zone=~"$zone"})"#
        );
        let formula = query.datadog(By::Total, "shop.web");
        assert_eq!(formula.queries, ["avg:shop.web.workers.utilization{$env,$service,$zone}"]);
    }

    #[test]
    fn a_share_divides_sums_of_both_languages() {
        let query = Query::Share {
            part: &[Counter::ReqKilled],
            whole: &[Counter::ReqDone, Counter::ReqKilled],
        };
        let text = query.prometheus(By::Total);
        let (part, whole) = text.split_once(" / ").unwrap();
        assert_eq!((part.matches("sum (").count(), whole.matches("sum (").count()), (1, 2));
        let formula = query.datadog(By::Total, "");
        assert_eq!(formula.formula, "(query1) / (query2 + query3)");
        let of_workers = "{$env,$service,$zone,$worker}.as_count()";
        assert_eq!(
            formula.queries,
            ["req.killed", "req.done", "req.killed"].map(|name| format!("sum:{name}{of_workers}"))
        );
    }

    #[test]
    fn a_quantile_keeps_the_bounds_of_the_buckets() {
        let query = Query::Quantile { of: Distribution::QueueWait, percent: 5 };
        let text = query.prometheus(By::Worker);
        assert!(
            text.starts_with("histogram_quantile(0.05, sum by (le, instance, worker) (rate("),
            "{text}"
        );
        assert!(text.contains("arctos_queue_wait_seconds_bucket{"), "{text}");
        assert_eq!(
            query.datadog(By::Worker, "arctos").queries,
            ["p5:arctos.queue.wait{$env,$service,$zone,$worker} by {host,worker}"]
        );
    }
}
