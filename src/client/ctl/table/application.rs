//! The rows that show application metrics.
//!
//! They have the names of the page, with their labels: the names under which the application knows them cannot be told
//! from these. Their units follow from the conventions of Prometheus: a name that ends in `_seconds` or `_bytes`.

use std::collections::{BTreeMap, BTreeSet};

use arctos_worker::shared::scoreboard::Counter;

use super::{HistogramSample, MetricRow, MetricSample};
use crate::client::ctl::units::{cell, duration, size};
use crate::metrics::names::counter_prometheus_name;
use crate::metrics::{Distribution, Gauge};

/// The columns of a distribution.
pub(super) const OF_VALUES: [&str; 5] = ["count", "mean", "p50", "p90", "p99"];
/// The label of a worker. The server uses the second one for a gauge that has the first one itself.
const WORKER: [&str; 2] = ["arctos_worker", "worker"];

/// The rows, by the kind of their metrics.
#[derive(Default)]
pub(super) struct Rows {
    /// With the columns of the server's metrics.
    pub(super) counters: Vec<MetricRow>,
    /// With the same columns. A gauge that each worker has for itself has no total.
    pub(super) gauges: Vec<MetricRow>,
    /// With [`OF_VALUES`] as columns.
    pub(super) distributions: Vec<MetricRow>,
}

/// A metric with the values of its labels, apart from those of the server. The number is the place of its name on the page.
type SeriesName<'a> = (usize, &'a str, BTreeMap<&'a str, &'a str>);

/// The slots and the zone of the server, which tell its labels from those of the application.
struct Server<'a> {
    slots: &'a [u16],
    zone: Option<&'a str>,
}

/// The rows of all metrics in `kinds` that are not the server's.
pub(super) fn rows(samples: &[MetricSample], kinds: &BTreeMap<&str, &str>, slots: &[u16]) -> Rows {
    let target = Gauge::WorkersTarget.prometheus_name();
    let of_server = samples.iter().find(|sample| sample.name == target);
    let server = Server { slots, zone: of_server.and_then(|sample| sample.label("zone")) };
    let own = names_of_server();
    let mut rows = Rows::default();
    let mut series: BTreeMap<SeriesName<'_>, Vec<&MetricSample>> = BTreeMap::new();
    let mut families: Vec<&str> = Vec::new();
    for sample in samples {
        let Some(family) = family(&sample.name, kinds).filter(|name| !own.contains(*name)) else {
            continue;
        };
        if families.last() != Some(&family) {
            families.push(family);
        }
        let name = (families.len(), family, server.labels(sample));
        series.entry(name).or_default().push(sample);
    }
    for ((_, family, labels), samples) in series {
        let name = shown(family, &labels);
        match kinds.get(family).copied() {
            Some("counter") => rows.counters.push(server.counter(name, family, &samples)),
            Some("gauge") => rows.gauges.push(server.gauge(name, family, &samples)),
            Some("histogram" | "summary") => {
                rows.distributions.push(distribution(name, family, &samples));
            }
            Some(_) | None => {}
        }
    }
    rows
}

fn names_of_server() -> BTreeSet<String> {
    let counters = Counter::ALL.into_iter().map(counter_prometheus_name);
    let gauges = Gauge::ALL.into_iter().map(Gauge::prometheus_name);
    let distributions = Distribution::ALL.into_iter().map(Distribution::prometheus_name);
    counters.chain(gauges).chain(distributions).collect()
}

/// The metric of a sample: that with its name, or the one of which it is a part.
fn family<'a>(sample: &str, kinds: &BTreeMap<&'a str, &str>) -> Option<&'a str> {
    let parts = ["", "_bucket", "_sum", "_count"].into_iter();
    let mut names = parts.filter_map(|part| sample.strip_suffix(part));
    names.find_map(|name| kinds.get_key_value(name).map(|(family, _)| *family))
}

impl Server<'_> {
    /// The slot of a sample of one worker.
    fn slot(&self, sample: &MetricSample) -> Option<u16> {
        let label = WORKER.into_iter().find_map(|name| sample.label(name))?;
        label.parse().ok().filter(|slot| self.slots.contains(slot))
    }

    /// The labels that the application has given a sample.
    fn labels<'s>(&self, sample: &'s MetricSample) -> BTreeMap<&'s str, &'s str> {
        let worker = WORKER.into_iter().find(|name| sample.label(name).is_some());
        let worker = worker.filter(|_| self.slot(sample).is_some());
        let is_own = |(name, value): &(&str, &str)| {
            let is_zone = *name == "zone" && self.zone == Some(*value);
            *name != "le" && Some(*name) != worker && !is_zone
        };
        let labels = sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        labels.filter(is_own).collect()
    }

    fn counter(&self, name: String, family: &str, samples: &[&MetricSample]) -> MetricRow {
        let total = samples.iter().map(|sample| sample.value).sum();
        MetricRow { name, cells: self.cells(Some(total), family, samples) }
    }

    fn gauge(&self, name: String, family: &str, samples: &[&MetricSample]) -> MetricRow {
        let is_of_each = samples.iter().any(|sample| self.slot(sample).is_some());
        let total = samples.first().filter(|_| !is_of_each).map(|sample| sample.value);
        MetricRow { name, cells: self.cells(total, family, samples) }
    }

    /// The total, and the value of each slot.
    fn cells(&self, total: Option<f64>, family: &str, samples: &[&MetricSample]) -> Vec<String> {
        let of = |slot: &u16| {
            let own = samples.iter().filter(|sample| self.slot(sample) == Some(*slot));
            own.map(|sample| sample.value).reduce(|sum, value| sum + value)
        };
        let values = std::iter::once(total).chain(self.slots.iter().map(of));
        let show = |value: Option<f64>| value.map_or_else(String::new, |it| value_of(family, it));
        values.map(show).collect()
    }
}

/// The row of a histogram or a summary. The second one has no buckets, and therefore no percentiles.
fn distribution(name: String, family: &str, samples: &[&MetricSample]) -> MetricRow {
    let mut histogram = HistogramSample::default();
    let (mut count, mut sum) = (0.0, 0.0);
    for sample in samples {
        let part = sample.name.strip_prefix(family).unwrap_or_default();
        histogram.add(part, sample);
        match part {
            "_count" => count += sample.value,
            "_sum" => sum += sample.value,
            _ => {}
        }
    }
    let show = |value| value_of(family, value);
    let mean = if count > 0.0 { show(sum / count) } else { String::new() };
    let percentiles = [0.5, 0.9, 0.99].map(|part| histogram.percentile_as(part, show));
    let cells = [number(count), mean].into_iter().chain(percentiles).collect();
    MetricRow { name, cells }
}

/// `name{label="value"}`, safe for a terminal.
fn shown(family: &str, labels: &BTreeMap<&str, &str>) -> String {
    if labels.is_empty() {
        return cell(family);
    }
    let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
    cell(&format!("{family}{{{}}}", labels.join(",")))
}

/// A value in the unit that the name of its metric ends in.
fn value_of(family: &str, value: f64) -> String {
    let name = family.strip_suffix("_total").unwrap_or(family);
    let unit = [("_seconds", duration as fn(f64) -> String), ("_bytes", size)];
    let unit = unit.into_iter().find(|(end, _)| name.ends_with(end) && value > 0.0);
    unit.map_or_else(|| number(value), |(_, show)| show(value))
}

/// A number without a unit: all digits of an integer, or three digits.
fn number(value: f64) -> String {
    match value {
        value if value.is_finite() && value.abs() >= 1e15 => return format!("{value:.2e}"),
        value if value.fract() == 0.0 || !value.is_finite() => return value.to_string(),
        _ => {}
    }
    // A fraction below 1 has further zeros behind its point.
    let decimals = 2.0 - value.abs().log10().floor();
    format!("{value:.*}", decimals.clamp(0.0, 12.0) as usize)
}

#[cfg(test)]
mod tests;
