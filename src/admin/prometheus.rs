//! All metrics in Prometheus' text format, or in that of OpenMetrics.
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
//! - OpenMetrics names a counter without `_total`, escapes quotes in help texts and has an end. Only this format has
//!   exemplars: the buckets of `request.duration` have one for each octave, see [`Exemplar`].
//! - No two families share a name or the name of a sample.
//! - The application's own metrics follow ([`series`]). They exist from their first update on.
//! - A gauge without a value at present (no TCP listener, no worker) is left out.

mod format;
mod series;

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::time::Duration;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Counter, Exemplar, Exemplars, Histogram, StatusClass};

use crate::metrics::names::counter_prometheus_name;
use crate::metrics::table;
use crate::metrics::{
    CarriedTotals, Distribution, DistributionTotals, Gauge, Gauges, Scope, SlotTotals,
};

pub use format::Format;

/// The bounds as powers of two in microseconds, from 2 us to 18 min (2^30 us). The last bucket of the histogram also
/// counts everything longer, so its end is not a bound.
const OCTAVES: std::ops::RangeInclusive<u32> = 1..=30;
// Each bucket of the page is an octave of the exemplars, and the last one has no bound.
const _: () = assert!(*OCTAVES.end() as usize + 1 == Exemplars::OCTAVES);
/// Size of the samples of one worker, so that most pages need a single allocation.
const BYTES_PER_WORKER: usize = 10 * 1024;

/// Returns the exemplar of a slot, for a class and an octave of durations.
pub type FindExemplar<'a> = &'a dyn Fn(SlotId, StatusClass, usize) -> Option<Exemplar>;

/// The page of all metrics, with `# HELP` and `# TYPE`.
pub fn page(
    format: Format,
    carried: &CarriedTotals,
    gauges: &Gauges,
    zone: Option<&str>,
    exemplar: FindExemplar<'_>,
) -> String {
    let workers = carried.slots().map(|(slot, totals)| SampleSource::worker(slot, totals, zone));
    let workers: Vec<_> = workers.collect();
    let (labels, totals) = (labels(None, zone), carried.supervisor());
    let supervisor = SampleSource { slot: None, labels, totals };
    let mut page = MetricsPage {
        format,
        text: String::with_capacity((workers.len() + 2) * BYTES_PER_WORKER),
        names: HashSet::new(),
    };
    // Counters with the same name are adjacent.
    let families = Counter::ALL.as_slice();
    for family in families.chunk_by(|one, next| one.statsd_name() == next.statsd_name()) {
        page.counters(family, &supervisor, &workers);
    }
    for gauge in Gauge::ALL {
        page.gauge(gauge, gauges, zone);
    }
    for family in Distribution::families() {
        page.histograms(family, &workers, exemplar);
    }
    series::write(&mut page, carried.series(), zone);
    page.end()
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
    /// `None` for the supervisor.
    slot: Option<SlotId>,
    labels: String,
    totals: &'a SlotTotals,
}

impl<'a> SampleSource<'a> {
    fn worker(slot: SlotId, totals: &'a SlotTotals, zone: Option<&str>) -> Self {
        Self { slot: Some(slot), labels: labels(Some(slot), zone), totals }
    }
}

/// The page so far. Writing to its `String` cannot fail.
struct MetricsPage {
    format: Format,
    text: String,
    /// The names of the families and of their samples.
    names: HashSet<String>,
}

/// The type of a family.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Counter,
    Gauge,
    Histogram,
    Summary,
}

impl Type {
    /// The suffixes of its samples.
    fn suffixes(self) -> &'static [&'static str] {
        match self {
            Self::Counter => &["_total"],
            Self::Gauge => &[],
            Self::Histogram => &["_bucket", "_sum", "_count"],
            Self::Summary => &["_sum", "_count"],
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::Summary => "summary",
        })
    }
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
        self.begin(&name, Type::Counter, first.meaning());
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
        self.begin(&name, Type::Gauge, gauge.meaning());
        for (labels, value) in values {
            self.sample(&name, &labels, None, format_args!("{}", Float(value)));
        }
    }

    fn histograms(
        &mut self,
        family: &[Distribution],
        workers: &[SampleSource<'_>],
        find_exemplar: FindExemplar<'_>,
    ) {
        let Some(first) = family.first() else { return };
        let name = first.prometheus_name();
        self.begin(&name, Type::Histogram, first.meaning());
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
                    // A bound of the page ends an octave.
                    let exemplar =
                        |octave| find_exemplar(worker.slot?, distribution.class()?, octave);
                    let values =
                        HistogramValues { up_to, exemplar, sum: Seconds(totals.sum), count };
                    self.histogram(&names, labels, values);
                }
            }
        }
    }

    /// Writes a histogram.
    fn histogram<B>(
        &mut self,
        names: &HistogramNames<B>,
        mut labels: String,
        values: HistogramValues<
            impl FnMut(&B) -> u64,
            impl Fn(usize) -> Option<Exemplar>,
            impl fmt::Display,
        >,
    ) {
        let HistogramValues { mut up_to, exemplar, sum, count } = values;
        let own_bytes = labels.len();
        labels.push_str(if labels.is_empty() { "le=\"" } else { ",le=\"" });
        let shared_bytes = labels.len();
        let has_exemplars = self.format == Format::OpenMetrics;
        let mut bucket = |index: usize, le: &str, count: u64| {
            labels.truncate(shared_bytes);
            labels.push_str(le);
            labels.push('"');
            match has_exemplars.then(|| exemplar(index)).flatten() {
                None => self.sample(&names.bucket, &labels, None, format_args!("{count}")),
                Some(exemplar) => {
                    let value = format_args!("{count} # {}", Shown(exemplar));
                    self.sample(&names.bucket, &labels, None, value);
                }
            }
        };
        for (index, (bound, le)) in names.bounds.iter().enumerate() {
            bucket(index, le, up_to(bound));
        }
        bucket(names.bounds.len(), "+Inf", count);
        labels.truncate(own_bytes);
        self.sample(&names.sum, &labels, None, format_args!("{sum}"));
        self.sample(&names.count, &labels, None, format_args!("{count}"));
    }

    /// Begins a family of the server.
    fn begin(&mut self, name: &str, kind: Type, meaning: &str) {
        let _is_new = self.claim(name, kind);
        self.describe(name, kind, meaning);
    }

    /// Takes the names of a family and of its samples, unless one of them is taken.
    fn claim(&mut self, name: &str, kind: Type) -> bool {
        let base = if kind == Type::Counter { without_total(name) } else { name };
        let suffixed = kind.suffixes().iter().map(|suffix| format!("{base}{suffix}"));
        // The text format knows nothing of the name of a counter without its suffix.
        let has_base = kind != Type::Counter || self.format == Format::OpenMetrics;
        let names: Vec<_> = suffixed.chain(has_base.then(|| base.to_owned())).collect();
        let is_free = names.iter().all(|name| !self.names.contains(name));
        if is_free {
            self.names.extend(names);
        }
        is_free
    }

    fn describe(&mut self, name: &str, kind: Type, meaning: &str) {
        let (name, quotes) = match self.format {
            Format::Text => (name, false),
            Format::OpenMetrics if kind == Type::Counter => (without_total(name), true),
            Format::OpenMetrics => (name, true),
        };
        let help = Escaped { text: meaning, quotes };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
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

/// The values of a histogram.
struct HistogramValues<U, E, S> {
    /// Asked once for each bound, in order: how many values lie below it.
    up_to: U,
    /// The exemplar of the bucket that ends at the bound with this index, or behind the last one.
    exemplar: E,
    sum: S,
    count: u64,
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

/// The name of a counter in OpenMetrics, to which its sample appends `_total`.
fn without_total(name: &str) -> &str {
    name.strip_suffix("_total").unwrap_or(name)
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

/// An exemplar in the syntax of OpenMetrics: its trace, the duration and the time in seconds.
struct Shown(Exemplar);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Exemplar { trace, duration, time } = self.0;
        let ms = Duration::from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        write!(f, "{{trace_id=\"{trace:032x}\"}} {} {}", Seconds(duration), Seconds(ms))
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
