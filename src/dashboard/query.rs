//! What a line of a panel shows, in the query languages of Prometheus and of Datadog.
//!
//! | query | Prometheus | Datadog |
//! |---|---|---|
//! | [`Query::Rate`] | `rate()` over `$__rate_interval` | `.as_rate()` |
//! | [`Query::Events`] | `increase()` over `$__rate_interval` | `.as_count()` |
//! | [`Query::Share`] | the quotient of two rates | the same, by a formula |
//! | [`Query::Level`] | the gauge, added up or averaged over servers | the same |
//! | [`Query::Quantile`] | `histogram_quantile()` | `pN:`, which needs percentiles to be enabled for the metric |
//! | [`Query::Routes`] | `topk()` of one of these | `top()` of one of these |
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
    /// A line for each of the [`MAX_ROUTES`] routes with the highest values.
    Routes(OfRoute),
}

/// What a line of a route shows.
#[derive(Clone, Copy, Debug)]
pub(super) enum OfRoute {
    /// Requests per second.
    Requests,
    /// Responses with 5xx per second.
    Errors,
    /// The sum of the durations, in seconds per second.
    Time,
    /// The duration that this percentage of all durations does not exceed.
    Quantile {
        /// From 1 to 99.
        percent: u8,
    },
}

/// The largest number of routes in a panel.
const MAX_ROUTES: usize = 10;
/// What selects responses with 5xx.
const ERRORS: [(&str, &str); 1] = [("status", "5xx")];

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
    /// Each route.
    Route,
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
            Self::Route => " by (route)",
        }
    }

    fn datadog(self) -> &'static str {
        match self {
            Self::Total => "",
            Self::Worker => " by {host,worker}",
            Self::Reason => " by {reason}",
            Self::Status => " by {status}",
            Self::Route => " by {route}",
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
            Self::Routes(_) => vec![Metric::Routes],
        }
    }

    /// Whether Grafana is to show the exemplars of its buckets, which are the same for each percentile.
    pub(super) fn shows_exemplars(self) -> bool {
        matches!(self, Self::Quantile { of, percent: 99 } if of.class().is_some())
    }

    /// The query in PromQL, with the variables of the Grafana dashboard.
    pub(super) fn prometheus(self, by: By) -> String {
        let by = by.prometheus();
        let rate_of = |series: &str| format!("sum{by} (rate({series}[$__rate_interval]))");
        let rate = |counters: &[Counter]| {
            let rates = counters
                .iter()
                .map(|counter| rate_of(&selector(Metric::Counter(*counter), "", &[])));
            rates.collect::<Vec<_>>().join(" + ")
        };
        let quantile = |metric: Metric, percent: u8| {
            let by = if by.is_empty() { " by (le)" } else { &by.replace('(', "(le, ") };
            let buckets = selector(metric, "_bucket", &[]);
            format!(
                "histogram_quantile(0.{percent:02}, sum{by} (rate({buckets}[$__rate_interval])))"
            )
        };
        match self {
            Self::Rate(counters) => rate(counters),
            Self::Events(counter) => {
                format!(
                    "sum{by} (increase({}[$__rate_interval]))",
                    selector(Metric::Counter(counter), "", &[])
                )
            }
            Self::Share { part, whole } => format!("({}) / ({})", rate(part), rate(whole)),
            Self::Level(gauge) => {
                format!("{}{by} ({})", together(gauge), selector(Metric::Gauge(gauge), "", &[]))
            }
            Self::Quantile { of, percent } => quantile(Metric::Distribution(of), percent),
            Self::Routes(of) => {
                let value = match of {
                    OfRoute::Requests => rate_of(&selector(Metric::Routes, "_count", &[])),
                    OfRoute::Errors => rate_of(&selector(Metric::Routes, "_count", &ERRORS)),
                    OfRoute::Time => rate_of(&selector(Metric::Routes, "_sum", &[])),
                    OfRoute::Quantile { percent } => quantile(Metric::Routes, percent),
                };
                format!("topk({MAX_ROUTES}, {value})")
            }
        }
    }

    /// The query for Datadog, of metrics with this prefix.
    pub(super) fn datadog(self, by: By, prefix: &str) -> Formula {
        let by = by.datadog();
        let selected = |aggregator: &str, metric: Metric, tags: &[(&str, &str)], function: &str| {
            let mut scope = "$env,$service,$zone".to_owned();
            scope.push_str(if metric.has_worker() { ",$worker" } else { "" });
            scope.extend(tags.iter().map(|(tag, value)| format!(",{tag}:{value}")));
            let dot = if prefix.is_empty() { "" } else { "." };
            format!("{aggregator}:{prefix}{dot}{}{{{scope}}}{by}{function}", metric.statsd_name())
        };
        let query = |aggregator: &str, metric: Metric, function: &str| {
            selected(aggregator, metric, &[], function)
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
            Self::Routes(of) => {
                let query = match of {
                    OfRoute::Requests => query("count", Metric::Routes, ".as_rate()"),
                    OfRoute::Errors => selected("count", Metric::Routes, &ERRORS, ".as_rate()"),
                    OfRoute::Time => query("sum", Metric::Routes, ".as_rate()"),
                    OfRoute::Quantile { percent } => {
                        query(&format!("p{percent}"), Metric::Routes, "")
                    }
                };
                let formula = format!("top({}, {MAX_ROUTES}, 'mean', 'desc')", name(0));
                Formula { queries: vec![query], formula }
            }
        }
    }
}

/// How the values of several servers make one.
fn together(gauge: Gauge) -> &'static str {
    if gauge == Gauge::WorkersUtilization { "avg" } else { "sum" }
}

/// The series of a metric that the variables of the dashboard and these labels select.
fn selector(metric: Metric, suffix: &str, labels: &[(&str, &str)]) -> String {
    let worker = if metric.has_worker() { r#",worker=~"$worker""# } else { "" };
    let labels: String =
        labels.iter().map(|(label, value)| format!(r#",{label}="{value}""#)).collect();
    let name = metric.prometheus_name();
    format!(r#"{name}{suffix}{{job=~"$job",instance=~"$instance",zone=~"$zone"{worker}{labels}}}"#)
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
    fn routes_are_those_with_the_highest_values() {
        let labels = r#"{job=~"$job",instance=~"$instance",zone=~"$zone",worker=~"$worker""#;
        let query = Query::Routes(OfRoute::Errors);
        assert_eq!(
            query.prometheus(By::Route),
            format!(
                r#"topk(10, sum by (route) (rate(arctos_route_duration_seconds_count{labels},status="5xx"}}[$__rate_interval])))"#
            )
        );
        let formula = query.datadog(By::Route, "arctos");
        assert_eq!(formula.formula, "top(query1, 10, 'mean', 'desc')");
        let expected = "count:arctos.route.duration.seconds{$env,$service,$zone,$worker,status:5xx} by {route}.as_rate()";
        assert_eq!(formula.queries, [expected]);
        let slowest = Query::Routes(OfRoute::Quantile { percent: 99 }).prometheus(By::Route);
        assert!(
            slowest.starts_with("topk(10, histogram_quantile(0.99, sum by (le, route) (rate("),
            "{slowest}"
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
