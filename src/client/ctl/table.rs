//! Samples as a table: a row a metric, its total, and a column a worker where they fit.
//!
//! Metrics have the names that the guide's table has. Of a distribution, five numbers are shown; its
//! percentiles come from buckets of an octave, in which values are taken to lie evenly, so they can be
//! wrong by up to a factor of two.

use std::collections::BTreeSet;

use arctos_worker::shared::scoreboard::Counter;

use super::distribution::Spread;
use super::page::Sample;
use super::units::size;
use crate::metrics::names::counter_prometheus_name;
use crate::metrics::{Distribution, Gauge};

/// Between two columns.
const GAP: &str = "  ";

/// Draws all that is known. `width` is that of the terminal, if it is one.
pub(super) fn draw(samples: &[Sample], width: Option<usize>) -> String {
    let slots: BTreeSet<u16> = samples.iter().filter_map(Sample::slot).collect();
    let slots: Vec<u16> = slots.into_iter().collect();
    let groups = [
        ("counters", counters(samples, &slots)),
        ("gauges", gauges(samples, &slots)),
        ("distributions", distributions(samples, &slots)),
    ];
    let heads = |group: &str| {
        let slots = slots.iter().map(|slot| format!("w{slot}"));
        let cells = std::iter::once("total".to_owned()).chain(slots).collect();
        Row { name: group.to_owned(), cells }
    };
    let mut entries: Vec<Vec<Row>> = Vec::new();
    for (group, rows) in groups {
        if !rows.is_empty() {
            entries.push(std::iter::once(heads(group)).chain(rows).collect());
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
            "\nWorker by worker it is {full} columns wide: pipe it to less -S.\n"
        ));
    }
    page
}

/// The name, the total, and a cell a slot; empty where there is nothing to say.
struct Row {
    name: String,
    cells: Vec<String>,
}

impl Row {
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

fn column_widths(entries: &[Vec<Row>]) -> Vec<usize> {
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

/// A row of sums: of all samples, and of those of each slot.
fn sums(name: String, samples: &[&Sample], slots: &[u16], show: fn(f64) -> String) -> Option<Row> {
    if samples.is_empty() {
        return None;
    }
    let total = samples.iter().map(|sample| sample.value).sum();
    let of = |slot: &u16| {
        let own = samples.iter().filter(|sample| sample.slot() == Some(*slot));
        let own: Vec<f64> = own.map(|sample| sample.value).collect();
        if own.is_empty() { String::new() } else { show(own.iter().sum()) }
    };
    Some(Row { name, cells: std::iter::once(show(total)).chain(slots.iter().map(of)).collect() })
}

fn counters(samples: &[Sample], slots: &[u16]) -> Vec<Row> {
    let row = |counter: Counter| {
        let name = counter_prometheus_name(counter);
        let is_of_it =
            |sample: &&Sample| sample.name == name && sample.label("reason") == counter.reason();
        let own: Vec<_> = samples.iter().filter(is_of_it).collect();
        let name = match counter.reason() {
            Some(reason) => format!("{} {reason}", counter.statsd_name()),
            None => counter.statsd_name().to_owned(),
        };
        sums(name, &own, slots, number)
    };
    Counter::ALL.into_iter().filter_map(row).collect()
}

fn gauges(samples: &[Sample], slots: &[u16]) -> Vec<Row> {
    let row = |gauge: Gauge| {
        let name = gauge.prometheus_name();
        let own: Vec<_> = samples.iter().filter(|sample| sample.name == name).collect();
        let show = match gauge {
            Gauge::WorkerRss => size,
            Gauge::WorkersTarget
            | Gauge::WorkersReady
            | Gauge::WorkersBusy
            | Gauge::WorkersUtilization
            | Gauge::BacklogLen
            | Gauge::BacklogMax
            | Gauge::ConnOpen => number,
        };
        sums(gauge.statsd_name().to_owned(), &own, slots, show)
    };
    Gauge::ALL.into_iter().filter_map(row).collect()
}

fn distributions(samples: &[Sample], slots: &[u16]) -> Vec<Row> {
    let mut rows = Vec::new();
    for distribution in Distribution::ALL {
        let total = Spread::of(samples, distribution, None);
        if total.is_empty() {
            continue;
        }
        let of = |slot: &u16| Spread::of(samples, distribution, Some(*slot));
        let spreads: Vec<_> = std::iter::once(total).chain(slots.iter().map(of)).collect();
        let mut add = |word: &str, show: &dyn Fn(&Spread) -> String| {
            let name = format!("{} {word}", distribution.statsd_name());
            rows.push(Row { name, cells: spreads.iter().map(show).collect() });
        };
        add("count", &|spread| number(spread.count()));
        add("mean", &Spread::mean);
        add("p50", &|spread| spread.percentile(0.5));
        add("p90", &|spread| spread.percentile(0.9));
        add("p99", &|spread| spread.percentile(0.99));
    }
    rows
}

/// A count, or a part of a whole.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests;
