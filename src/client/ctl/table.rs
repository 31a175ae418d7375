//! Metrics as a table: one row per metric, its total, and one column per worker if they fit.
//!
//! Metrics have the names of the table in the guide. A distribution has five rows. Its percentiles come from buckets
//! of one octave, within which values are assumed to be spread evenly, so they can be off by up to a factor of two.

use std::collections::BTreeSet;

use arctos_worker::shared::scoreboard::Counter;

use super::distribution::HistogramSample;
use super::page::MetricSample;
use super::units::size;
use crate::metrics::names::counter_prometheus_name;
use crate::metrics::{Distribution, Gauge};

/// The gap between two columns.
const GAP: &str = "  ";

/// Draws all metrics. `width` is the width of the terminal, if the output is one.
pub(super) fn draw(samples: &[MetricSample], width: Option<usize>) -> String {
    let slots: BTreeSet<u16> = samples.iter().filter_map(MetricSample::slot).collect();
    let slots: Vec<u16> = slots.into_iter().collect();
    let groups = [
        ("counters", counters(samples, &slots)),
        ("gauges", gauges(samples, &slots)),
        ("distributions", distributions(samples, &slots)),
    ];
    let headings = |group: &str| {
        let slots = slots.iter().map(|slot| format!("w{slot}"));
        let cells = std::iter::once("total".to_owned()).chain(slots).collect();
        MetricRow { name: group.to_owned(), cells }
    };
    let mut entries: Vec<Vec<MetricRow>> = Vec::new();
    for (group, rows) in groups {
        if !rows.is_empty() {
            entries.push(std::iter::once(headings(group)).chain(rows).collect());
        }
    }
    let columns = column_widths(&entries);
    let full: usize = columns.iter().sum::<usize>() + GAP.len() * columns.len().saturating_sub(1);
    let shown = match width {
        Some(width) if full > width => 2,
        Some(_) | None => columns.len(),
    };
    let entries = entries.iter().map(|rows| {
        let lines = rows.iter().map(|row| row.line(&columns[..shown.min(columns.len())]));
        lines.collect::<String>()
    });
    let mut page = entries.collect::<Vec<_>>().join("\n");
    if shown < columns.len() {
        page.push_str(&format!(
            "\nThe table with all workers is {full} columns wide: pipe it to less -S.\n"
        ));
    }
    page
}

/// The name, the total, and one cell per slot, which is empty without a value.
struct MetricRow {
    name: String,
    cells: Vec<String>,
}

impl MetricRow {
    fn line(&self, columns: &[usize]) -> String {
        let mut line = format!("{:<1$}", self.name, columns.first().copied().unwrap_or_default());
        for (cell, width) in self.cells.iter().zip(columns.iter().skip(1)) {
            line.push_str(GAP);
            line.push_str(&format!("{cell:>width$}"));
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
}

fn column_widths(entries: &[Vec<MetricRow>]) -> Vec<usize> {
    let mut widths: Vec<usize> = Vec::new();
    for row in entries.iter().flatten() {
        let texts = std::iter::once(&row.name).chain(&row.cells);
        for (column, text) in texts.enumerate() {
            match widths.get_mut(column) {
                Some(width) => *width = text.len().max(*width),
                None => widths.push(text.len()),
            }
        }
    }
    widths
}

/// A row of sums: over all samples, and over those of each slot.
fn sums(
    name: String,
    samples: &[&MetricSample],
    slots: &[u16],
    show: fn(f64) -> String,
) -> Option<MetricRow> {
    if samples.is_empty() {
        return None;
    }
    let total = samples.iter().map(|sample| sample.value).sum();
    let of = |slot: &u16| {
        let own = samples.iter().filter(|sample| sample.slot() == Some(*slot));
        let own: Vec<f64> = own.map(|sample| sample.value).collect();
        if own.is_empty() { String::new() } else { show(own.iter().sum()) }
    };
    Some(MetricRow {
        name,
        cells: std::iter::once(show(total)).chain(slots.iter().map(of)).collect(),
    })
}

fn counters(samples: &[MetricSample], slots: &[u16]) -> Vec<MetricRow> {
    let row = |counter: Counter| {
        let name = counter_prometheus_name(counter);
        let is_of_it = |sample: &&MetricSample| {
            let is_of_value = |(tag, value)| sample.label(tag) == Some(value);
            sample.name == name && counter.tag().is_none_or(is_of_value)
        };
        let own: Vec<_> = samples.iter().filter(is_of_it).collect();
        let name = match counter.tag() {
            Some((_, value)) => format!("{} {value}", counter.statsd_name()),
            None => counter.statsd_name().to_owned(),
        };
        sums(name, &own, slots, number)
    };
    Counter::ALL.into_iter().filter_map(row).collect()
}

fn gauges(samples: &[MetricSample], slots: &[u16]) -> Vec<MetricRow> {
    let row = |gauge: Gauge| {
        let name = gauge.prometheus_name();
        let own: Vec<_> = samples.iter().filter(|sample| sample.name == name).collect();
        let show = match gauge {
            Gauge::WorkerRss
            | Gauge::WorkerPss
            | Gauge::WorkerPrivate
            | Gauge::MemoryLimit
            | Gauge::MemoryUsed
            | Gauge::MemoryWorkingSet => size,
            Gauge::WorkersTarget
            | Gauge::WorkersReady
            | Gauge::WorkersBusy
            | Gauge::WorkersUtilization
            | Gauge::BacklogLen
            | Gauge::BacklogMax
            | Gauge::ConnShared
            | Gauge::ConnOpen => number,
        };
        sums(gauge.statsd_name().to_owned(), &own, slots, show)
    };
    Gauge::ALL.into_iter().filter_map(row).collect()
}

fn distributions(samples: &[MetricSample], slots: &[u16]) -> Vec<MetricRow> {
    let mut rows = Vec::new();
    for family in Distribution::families() {
        let distribution = family[0];
        let total = HistogramSample::of(samples, distribution, None);
        if total.is_empty() {
            continue;
        }
        let of = |slot: &u16| HistogramSample::of(samples, distribution, Some(*slot));
        let histograms: Vec<_> = std::iter::once(total).chain(slots.iter().map(of)).collect();
        let mut add = |suffix: &str, show: &dyn Fn(&HistogramSample) -> String| {
            let name = format!("{} {suffix}", distribution.statsd_name());
            rows.push(MetricRow { name, cells: histograms.iter().map(show).collect() });
        };
        add("count", &|histogram| number(histogram.count()));
        add("mean", &HistogramSample::mean);
        add("p50", &|histogram| histogram.percentile(0.5));
        add("p90", &|histogram| histogram.percentile(0.9));
        add("p99", &|histogram| histogram.percentile(0.99));
    }
    rows
}

/// A count or a fraction.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests;
