//! All metrics in Prometheus' text format (version 0.0.4).
//!
//! The set of samples follows from the rules below and not from past events, so that a series exists from the first
//! scrape on: `rate()` needs an earlier value.
//!
//! - A counter has a sample with `worker="SLOT"` for each slot that ever had a worker, and one without `worker` for the
//!   supervisor itself. [`CountedBy`] says which of them are always written; others are written only if they are
//!   not zero. All samples of a counter add up to its total.
//! - A histogram has samples for each slot; one that counts a class of statuses other than 2xx only once it has a value,
//!   because the counters of these classes exist from the start. Its bounds are octaves from 2 us to 18 min, which are also bounds of the
//!   recorded buckets, so nothing is estimated. `_count` is the sum of the buckets, so that it always equals the bucket
//!   `+Inf`, even if a worker recorded while they were read.
//! - `le` means "less or equal", while our buckets end just below their bound. Only a duration of exactly the bound, to
//!   the nanosecond, is counted one bucket higher.
//! - The application's own metrics follow ([`series`]). They exist from their first update on.
//! - A gauge without a value at present (no TCP listener, no worker) is left out.

mod series;

use std::fmt::{self, Write};
use std::time::Duration;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Counter, Histogram, StatusClass};

use crate::metrics::names::counter_prometheus_name;
use crate::metrics::table;
use crate::metrics::{
    CarriedTotals, Distribution, DistributionTotals, Gauge, Gauges, Scope, SlotTotals,
};

/// The Content-Type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The bounds as powers of two in microseconds, from 2 us to 18 min (2^30 us). The last bucket of the histogram also
/// counts everything longer, so its end is not a bound.
const OCTAVES: std::ops::RangeInclusive<u32> = 1..=30;
/// Size of the samples of one worker, so that most pages need a single allocation.
const BYTES_PER_WORKER: usize = 10 * 1024;

/// The page of all metrics, with `# HELP` and `# TYPE`.
pub fn text(carried: &CarriedTotals, gauges: &Gauges, zone: Option<&str>) -> String {
    let workers = carried.slots().map(|(slot, totals)| SampleSource::worker(slot, totals, zone));
    let workers: Vec<_> = workers.collect();
    let supervisor = SampleSource { labels: labels(None, zone), totals: carried.supervisor() };
    let mut page =
        MetricsPage { text: String::with_capacity((workers.len() + 2) * BYTES_PER_WORKER) };
    // Counters with the same name are adjacent.
    let families = Counter::ALL.as_slice();
    for family in families.chunk_by(|one, next| one.statsd_name() == next.statsd_name()) {
        page.counters(family, &supervisor, &workers);
    }
    for gauge in Gauge::ALL {
        page.gauge(gauge, gauges, zone);
    }
    for family in Distribution::families() {
        page.histograms(family, &workers);
    }
    series::write(&mut page, carried.series(), zone);
    page.text
}

/// The process that counts a counter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CountedBy {
    /// Workers, or the supervisor on behalf of one.
    Workers,
    Supervisor,
    /// Both, each for itself.
    Both,
}

impl CountedBy {
    fn of(counter: Counter) -> Self {
        if table::is_of_supervisor(counter) {
            Self::Supervisor
        } else if counter == Counter::LogDropped {
            Self::Both
        } else {
            Self::Workers
        }
    }
}

/// Totals with the labels of their source: `worker="0",zone="a"`.
struct SampleSource<'a> {
    labels: String,
    totals: &'a SlotTotals,
}

impl<'a> SampleSource<'a> {
    fn worker(slot: SlotId, totals: &'a SlotTotals, zone: Option<&str>) -> Self {
        Self { labels: labels(Some(slot), zone), totals }
    }
}

/// The page so far. Writing to its `String` cannot fail.
struct MetricsPage {
    text: String,
}

impl MetricsPage {
    fn counters(
        &mut self,
        family: &[Counter],
        supervisor: &SampleSource<'_>,
        workers: &[SampleSource<'_>],
    ) {
        let Some(first) = family.first() else { return };
        let name = counter_prometheus_name(*first);
        let counted_by = CountedBy::of(*first);
        self.describe(&name, "counter", first.meaning());
        let mut sample = |source: &SampleSource<'_>, is_always_written: bool| {
            for counter in family {
                let count = source.totals.count(*counter);
                if is_always_written || count > 0 {
                    self.sample(&name, &source.labels, counter.tag(), format_args!("{count}"));
                }
            }
        };
        sample(supervisor, counted_by != CountedBy::Workers);
        for worker in workers {
            sample(worker, counted_by != CountedBy::Supervisor);
        }
    }

    fn gauge(&mut self, gauge: Gauge, gauges: &Gauges, zone: Option<&str>) {
        let name = gauge.prometheus_name();
        let mut values: Vec<(String, f64)> = Vec::new();
        match gauge.scope() {
            Scope::Server => {
                let of_it = gauges.server.iter().filter(|(of, _)| *of == gauge);
                values.extend(of_it.map(|(_, value)| (labels(None, zone), *value)));
            }
            Scope::Worker => {
                let of_it = gauges.workers.iter().filter(|(_, of, _)| *of == gauge);
                values.extend(of_it.map(|(slot, _, value)| (labels(Some(*slot), zone), *value)));
            }
        }
        if values.is_empty() {
            return;
        }
        self.describe(&name, "gauge", gauge.meaning());
        for (labels, value) in values {
            self.sample(&name, &labels, None, format_args!("{}", Float(value)));
        }
    }

    fn histograms(&mut self, family: &[Distribution], workers: &[SampleSource<'_>]) {
        let Some(first) = family.first() else { return };
        let name = first.prometheus_name();
        self.describe(&name, "histogram", first.meaning());
        // Each bound is the number of recorded buckets below it.
        let bounds = OCTAVES.map(|octave| Duration::from_micros(1 << octave));
        let bounds = bounds.map(|bound| (buckets_below(bound), Seconds(bound).to_string()));
        let names = HistogramNames::of(&name, bounds);
        for worker in workers {
            for distribution in family {
                let totals = worker.totals.distribution(*distribution);
                let is_always_written =
                    distribution.class().is_none_or(|class| class == StatusClass::Success);
                if is_always_written || totals.count > 0 {
                    let labels = with_tag(&worker.labels, distribution.tag());
                    let (mut below, mut from) = (0, 0);
                    let up_to = |to: &usize| {
                        below += sum(totals, from..*to);
                        from = *to;
                        below
                    };
                    let count = sum(totals, 0..Histogram::BUCKETS);
                    self.histogram(&names, labels, up_to, Seconds(totals.sum), count);
                }
            }
        }
    }

    /// Writes a histogram. `up_to` is asked once for each bound, in order, and returns how many values lie below it.
    fn histogram<B>(
        &mut self,
        names: &HistogramNames<B>,
        mut labels: String,
        mut up_to: impl FnMut(&B) -> u64,
        sum: impl fmt::Display,
        count: u64,
    ) {
        let own_bytes = labels.len();
        labels.push_str(if labels.is_empty() { "le=\"" } else { ",le=\"" });
        let shared_bytes = labels.len();
        let mut bucket = |le: &str, count: u64| {
            labels.truncate(shared_bytes);
            labels.push_str(le);
            labels.push('"');
            self.sample(&names.bucket, &labels, None, format_args!("{count}"));
        };
        for (bound, le) in &names.bounds {
            bucket(le, up_to(bound));
        }
        bucket("+Inf", count);
        labels.truncate(own_bytes);
        self.sample(&names.sum, &labels, None, format_args!("{sum}"));
        self.sample(&names.count, &labels, None, format_args!("{count}"));
    }

    fn describe(&mut self, name: &str, kind: &str, meaning: &str) {
        let help = Escaped { text: meaning, quotes: false };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Whether the page has a family with this name.
    fn describes(&self, name: &str) -> bool {
        // The server's own names have this prefix, and few others.
        name.starts_with("arctos_") && self.text.contains(&format!("\n# TYPE {name} "))
    }

    fn sample(
        &mut self,
        name: &str,
        labels: &str,
        tag: Option<(&str, &str)>,
        value: fmt::Arguments<'_>,
    ) {
        self.text.push_str(name);
        if !labels.is_empty() || tag.is_some() {
            self.text.push('{');
            self.text.push_str(labels);
            if let Some((name, value)) = tag {
                let comma = if labels.is_empty() { "" } else { "," };
                let value = Escaped { text: value, quotes: true };
                let _ = write!(self.text, "{comma}{name}=\"{value}\"");
            }
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// The names of the samples of a histogram, and its bounds, also as text.
struct HistogramNames<B> {
    bucket: String,
    sum: String,
    count: String,
    bounds: Vec<(B, String)>,
}

impl<B> HistogramNames<B> {
    fn of(name: &str, bounds: impl Iterator<Item = (B, String)>) -> Self {
        Self {
            bucket: format!("{name}_bucket"),
            sum: format!("{name}_sum"),
            count: format!("{name}_count"),
            bounds: bounds.collect(),
        }
    }
}

/// Labels with one more.
fn with_tag(labels: &str, tag: Option<(&str, &str)>) -> String {
    let Some((name, value)) = tag else { return labels.to_owned() };
    let comma = if labels.is_empty() { "" } else { "," };
    format!("{labels}{comma}{name}=\"{}\"", Escaped { text: value, quotes: true })
}

/// The number of buckets that contain only durations below `bound`.
fn buckets_below(bound: Duration) -> usize {
    (0..Histogram::BUCKETS).take_while(|index| Histogram::bounds(*index).start < bound).count()
}

fn sum(totals: &DistributionTotals, buckets: std::ops::Range<usize>) -> u64 {
    totals.buckets[buckets].iter().sum()
}

fn labels(slot: Option<SlotId>, zone: Option<&str>) -> String {
    let slot = slot.map(|slot| label("worker", &slot.to_string()));
    let zone = zone.map(|zone| label("zone", zone));
    slot.into_iter().chain(zone).collect::<Vec<_>>().join(",")
}

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", Escaped { text: value, quotes: true })
}

/// A text that cannot end its line, nor its quotes if it is within quotes.
struct Escaped<'a> {
    text: &'a str,
    quotes: bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.text.chars() {
            match letter {
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '"' if self.quotes => f.write_str("\\\"")?,
                letter => f.write_char(letter)?,
            }
        }
        Ok(())
    }
}

/// A duration in seconds with full precision and without an exponent: `0.000064`, `1.5`, `3`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0.as_secs(), self.0.subsec_nanos());
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A number in the syntax of Prometheus.
struct Float(f64);

impl fmt::Display for Float {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

#[cfg(test)]
mod tests;
