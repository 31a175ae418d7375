//! Samples as a table: a row a metric, its total, and a column a worker where they fit.
//!
//! Metrics have the names that the README's table has. Of a distribution, five numbers are shown; its
//! percentiles come from buckets of an octave, in which values are taken to lie evenly, so they can be
//! wrong by up to a factor of two.

use std::collections::BTreeSet;

use arctos_worker::metrics::Counter;

use super::page::Sample;
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
    let mut blocks: Vec<Vec<Row>> = Vec::new();
    for (group, rows) in groups {
        if !rows.is_empty() {
            blocks.push(std::iter::once(heads(group)).chain(rows).collect());
        }
    }
    let columns = column_widths(&blocks);
    let full: usize = columns.iter().sum::<usize>() + GAP.len() * columns.len().saturating_sub(1);
    let shown = match width {
        Some(width) if full > width => 2,
        Some(_) | None => columns.len(),
    };
    let blocks = blocks.iter().map(|rows| {
        let lines = rows.iter().map(|row| row.line(&columns[..shown.min(columns.len())]));
        lines.collect::<String>()
    });
    let mut page = blocks.collect::<Vec<_>>().join("\n");
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

fn column_widths(blocks: &[Vec<Row>]) -> Vec<usize> {
    let mut widths: Vec<usize> = Vec::new();
    for row in blocks.iter().flatten() {
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
        if total.buckets.is_empty() {
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

/// A histogram: its buckets are cumulative, in the order of their bounds.
struct Spread {
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
    fn of(samples: &[Sample], distribution: Distribution, slot: Option<u16>) -> Self {
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

    fn count(&self) -> f64 {
        self.buckets.last().map_or(0.0, |bucket| bucket.count)
    }

    fn mean(&self) -> String {
        if self.count() > 0.0 { duration(self.sum / self.count()) } else { String::new() }
    }

    /// As `histogram_quantile` of Prometheus: values lie evenly in their bucket.
    fn percentile(&self, part: f64) -> String {
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

/// A count, or a part of a whole.
fn number(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// Bytes, in the units of the options.
fn size(bytes: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(1_073_741_824.0, "G"), (1_048_576.0, "M"), (1024.0, "K")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, letter)) => format!("{:.1}{letter}", bytes / unit),
        None => format!("{bytes:.0}"),
    }
}

/// Three digits and a unit.
fn duration(seconds: f64) -> String {
    let (value, unit) = match seconds {
        seconds if seconds < 0.001 => (seconds * 1e6, "us"),
        seconds if seconds < 1.0 => (seconds * 1e3, "ms"),
        seconds => (seconds, "s"),
    };
    match value {
        value if value < 10.0 => format!("{value:.2}{unit}"),
        value if value < 100.0 => format!("{value:.1}{unit}"),
        value => format!("{value:.0}{unit}"),
    }
}

#[cfg(test)]
mod tests;
