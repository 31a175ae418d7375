//! Metrics as tables: one row per metric, its total, and one column per worker if they fit.
//!
//! The server's metrics have the names of the table in the guide. A distribution has five rows. Its percentiles come from
//! buckets of one octave, within which values are assumed to be spread evenly, so they can be off by up to a factor of
//! two. The metrics of the [`application`] follow in tables of their own, because their names may be long.

mod application;

use std::collections::{BTreeMap, BTreeSet};

use arctos_worker::shared::scoreboard::Counter;

use super::distribution::HistogramSample;
use super::overview::cut;
use super::page::MetricSample;
use super::units::size;
use crate::metrics::names::counter_prometheus_name;
use crate::metrics::{Distribution, Gauge};

/// The gap between two columns.
const GAP: &str = "  ";
/// Names up to this width are never cut to make room for the columns of workers. All names of the server are shorter.
const NAME_WIDTH: usize = 40;
/// The narrowest column of names, however narrow the terminal is.
const MIN_NAME_WIDTH: usize = 16;

/// Draws all metrics; `kinds` has the kind of each. `width` is the width of the terminal, if the output is one.
pub(super) fn draw(
    samples: &[MetricSample],
    kinds: &BTreeMap<&str, &str>,
    width: Option<usize>,
) -> String {
    // Every worker has this counter from its start on, while a label of the application may only look like a worker's.
    let accepted = counter_prometheus_name(Counter::ConnAcceptSuccess);
    let accepted = samples.iter().filter(|sample| sample.name == accepted);
    let slots: BTreeSet<u16> = accepted.filter_map(MetricSample::slot).collect();
    let slots: Vec<u16> = slots.into_iter().collect();
    let workers = slots.iter().map(|slot| format!("w{slot}"));
    let by_worker: Vec<String> = std::iter::once("total".to_owned()).chain(workers).collect();
    let of_values = application::OF_VALUES.map(str::to_owned);
    let application = application::rows(samples, kinds, &slots);
    let tables = [
        Table { headings: &by_worker, important: 1, groups: Vec::new() }
            .with("counters", counters(samples, &slots))
            .with("gauges", gauges(samples, &slots))
            .with("distributions", distributions(samples, &slots)),
        Table { headings: &by_worker, important: 1, groups: Vec::new() }
            .with("counters of the application", application.counters)
            .with("gauges of the application", application.gauges),
        Table { headings: &of_values, important: of_values.len(), groups: Vec::new() }
            .with("distributions of the application", application.distributions),
    ];
    let drawn: Vec<String> = tables.iter().filter_map(|table| table.draw(width)).collect();
    let mut page = drawn.join("\n");
    let full = tables.iter().map(Table::width).max().unwrap_or_default();
    if width.is_some_and(|width| full > width) {
        page.push_str(&format!("\nThe whole table is {full} columns wide: pipe it to less -S.\n"));
    }
    page
}

/// Groups of rows with the same columns.
struct Table<'a> {
    /// The headings of all columns but that of the names.
    headings: &'a [String],
    /// How many of them are shown in any terminal.
    important: usize,
    /// Each begins with its headings.
    groups: Vec<Vec<MetricRow>>,
}

impl Table<'_> {
    /// Adds a group, unless it has no rows.
    fn with(mut self, title: &str, rows: Vec<MetricRow>) -> Self {
        if !rows.is_empty() {
            let headings = MetricRow { name: title.to_owned(), cells: self.headings.to_vec() };
            self.groups.push(std::iter::once(headings).chain(rows).collect());
        }
        self
    }

    /// Draws the table, if it has rows. In a narrow terminal, columns are left out and names are cut.
    fn draw(&self, width: Option<usize>) -> Option<String> {
        let mut columns = self.columns();
        let (&name, cells) = columns.split_first()?;
        let needs = |cells: &[usize]| cells.iter().map(|cell| GAP.len() + cell).sum::<usize>();
        let is_narrow = width.is_some_and(|width| name.min(NAME_WIDTH) + needs(cells) > width);
        let shown = if is_narrow { self.important } else { cells.len() };
        columns.truncate(1 + shown);
        let room = width.map(|width| width.saturating_sub(needs(&columns[1..])));
        columns[0] = room.map_or(name, |room| name.min(room.max(MIN_NAME_WIDTH)));
        let groups = self.groups.iter();
        let groups = groups.map(|rows| rows.iter().map(|row| row.line(&columns)).collect());
        Some(groups.collect::<Vec<String>>().join("\n"))
    }

    /// The width of the whole table.
    fn width(&self) -> usize {
        let columns = self.columns();
        columns.iter().sum::<usize>() + GAP.len() * columns.len().saturating_sub(1)
    }

    /// The widths of all columns; none without rows.
    fn columns(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = Vec::new();
        for row in self.groups.iter().flatten() {
            let texts = std::iter::once(&row.name).chain(&row.cells);
            for (column, text) in texts.enumerate() {
                let needed = text.chars().count();
                match widths.get_mut(column) {
                    Some(width) => *width = needed.max(*width),
                    None => widths.push(needed),
                }
            }
        }
        widths
    }
}

/// The name, the total, and one cell per slot, which is empty without a value.
struct MetricRow {
    name: String,
    cells: Vec<String>,
}

impl MetricRow {
    fn line(&self, columns: &[usize]) -> String {
        let (name, cells) = columns.split_first().unwrap_or((&0, &[]));
        let mut line = format!("{:<name$}", cut(&self.name, Some(*name)));
        for (cell, width) in self.cells.iter().zip(cells) {
            line.push_str(GAP);
            line.push_str(&format!("{cell:>width$}"));
        }
        line.truncate(line.trim_end().len());
        line.push('\n');
        line
    }
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
