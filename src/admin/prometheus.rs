//! All metrics in Prometheus' text format (version 0.0.4).
//!
//! Which samples there are follows from the rules below and not from what has happened, so that a
//! series is there from its first scrape on: `rate()` needs a value from before.
//!
//! - A counter has a sample with `worker="SLOT"` for each slot that ever had a worker, and one without
//!   `worker` for the supervisor itself. [`Home`] says whose it is; where a counter is not at home it
//!   is written only when it is not zero. All samples of a counter add up to its total.
//! - A histogram has the samples of each slot. Its bounds are octaves, 2 us to 18 min, which are
//!   bounds of the buckets that were counted in: nothing is guessed. `_count` is the sum of the
//!   buckets, so that it is always the bucket `+Inf`, though a worker counted while they were read.
//! - `le` means "less or equal", and a bucket of ours ends just below its bound: only a duration of
//!   exactly the bound, to the nanosecond, is counted one bucket higher.
//! - A gauge that has no value at present (no TCP listener, no worker) is left out.

use std::fmt::{self, Write};
use std::time::Duration;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Counter, Histogram};

use crate::metrics::names::counter_prometheus_name;
use crate::metrics::{
    CarriedTotals, Distribution, DistributionTotals, Gauge, Gauges, Scope, SlotTotals,
};

/// The Content-Type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// 2^1 us, below which no request is, to 2^30 us, 18 min. The last bucket of the histogram also counts
/// everything longer, so its end is no bound.
const OCTAVES: std::ops::RangeInclusive<u32> = 1..=30;
/// Of one worker; there is one allocation for most pages.
const BYTES_PER_WORKER: usize = 10 * 1024;

/// Everything, with `# HELP` and `# TYPE`.
pub fn text(carried: &CarriedTotals, gauges: &Gauges, zone: Option<&str>) -> String {
    let workers = carried.slots().map(|(slot, totals)| Source::worker(slot, totals, zone));
    let workers: Vec<_> = workers.collect();
    let supervisor = Source { labels: labels(None, zone), totals: carried.supervisor() };
    let mut page = Page { text: String::with_capacity((workers.len() + 2) * BYTES_PER_WORKER) };
    // Counters of one name stand together.
    let families = Counter::ALL.as_slice();
    for family in families.chunk_by(|one, next| one.statsd_name() == next.statsd_name()) {
        page.counters(family, &supervisor, &workers);
    }
    for gauge in Gauge::ALL {
        page.gauge(gauge, gauges, zone);
    }
    for distribution in Distribution::ALL {
        page.histograms(distribution, &workers);
    }
    page.text
}

/// Who counts something.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Home {
    /// Workers, or the supervisor on behalf of one.
    Workers,
    /// The supervisor.
    Supervisor,
    /// Each for itself.
    Both,
}

impl Home {
    fn of(counter: Counter) -> Self {
        const SUPERVISOR: [Counter; 3] =
            [Counter::ReloadOk, Counter::ReloadFailed, Counter::StatsdDropped];
        if SUPERVISOR.contains(&counter) {
            Self::Supervisor
        } else if counter == Counter::LogDropped {
            Self::Both
        } else {
            Self::Workers
        }
    }
}

/// SlotTotals, and the labels that say whose they are: `worker="0",zone="a"`.
struct Source<'a> {
    labels: String,
    totals: &'a SlotTotals,
}

impl<'a> Source<'a> {
    fn worker(slot: SlotId, totals: &'a SlotTotals, zone: Option<&str>) -> Self {
        Self { labels: labels(Some(slot), zone), totals }
    }
}

/// The page so far. A String takes all that is written to it.
struct Page {
    text: String,
}

impl Page {
    fn counters(&mut self, family: &[Counter], supervisor: &Source<'_>, workers: &[Source<'_>]) {
        let Some(first) = family.first() else { return };
        let name = counter_prometheus_name(*first);
        let home = Home::of(*first);
        self.describe(&name, "counter", first.meaning());
        let mut sample = |source: &Source<'_>, is_at_home: bool| {
            for counter in family {
                let count = source.totals.count(*counter);
                if is_at_home || count > 0 {
                    self.sample(&name, &source.labels, counter.reason(), format_args!("{count}"));
                }
            }
        };
        sample(supervisor, home != Home::Workers);
        for worker in workers {
            sample(worker, home != Home::Supervisor);
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

    fn histograms(&mut self, distribution: Distribution, workers: &[Source<'_>]) {
        let name = distribution.prometheus_name();
        self.describe(&name, "histogram", distribution.meaning());
        let bucket_name = format!("{name}_bucket");
        let bounds: Vec<_> = OCTAVES
            .map(|octave| Duration::from_micros(1 << octave))
            .map(|bound| (buckets_below(bound), format!("{}", Seconds(bound))))
            .collect();
        for worker in workers {
            let spread = worker.totals.spread(distribution);
            let mut labels = worker.labels.clone();
            labels.push_str(if labels.is_empty() { "le=\"" } else { ",le=\"" });
            let shared_bytes = labels.len();
            let mut bucket = |le: &str, count: u64| {
                labels.truncate(shared_bytes);
                labels.push_str(le);
                labels.push('"');
                self.sample(&bucket_name, &labels, None, format_args!("{count}"));
            };
            let (mut count, mut from) = (0, 0);
            for (to, le) in &bounds {
                count += sum(spread, from..*to);
                bucket(le, count);
                from = *to;
            }
            count += sum(spread, from..Histogram::BUCKETS);
            bucket("+Inf", count);
            let (name_of_sum, name_of_count) = (format!("{name}_sum"), format!("{name}_count"));
            let seconds = Seconds(spread.sum);
            self.sample(&name_of_sum, &worker.labels, None, format_args!("{seconds}"));
            self.sample(&name_of_count, &worker.labels, None, format_args!("{count}"));
        }
    }

    fn describe(&mut self, name: &str, kind: &str, meaning: &str) {
        let help = Escaped { text: meaning, quotes: false };
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(
        &mut self,
        name: &str,
        labels: &str,
        reason: Option<&str>,
        value: fmt::Arguments<'_>,
    ) {
        self.text.push_str(name);
        if !labels.is_empty() || reason.is_some() {
            self.text.push('{');
            self.text.push_str(labels);
            if let Some(reason) = reason {
                let comma = if labels.is_empty() { "" } else { "," };
                let reason = Escaped { text: reason, quotes: true };
                let _ = write!(self.text, "{comma}reason=\"{reason}\"");
            }
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

/// How many of the first buckets count what is shorter than `bound`.
fn buckets_below(bound: Duration) -> usize {
    (0..Histogram::BUCKETS).take_while(|index| Histogram::bounds(*index).start < bound).count()
}

fn sum(spread: &DistributionTotals, buckets: std::ops::Range<usize>) -> u64 {
    spread.buckets[buckets].iter().sum()
}

fn labels(slot: Option<SlotId>, zone: Option<&str>) -> String {
    let slot = slot.map(|slot| format!("worker=\"{}\"", slot.0));
    let zone = zone.map(|zone| format!("zone=\"{}\"", Escaped { text: zone, quotes: true }));
    slot.into_iter().chain(zone).collect::<Vec<_>>().join(",")
}

/// A text that cannot end its line, nor its quotes where it stands in some.
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

/// A duration in seconds, to the nanosecond, without an exponent: `0.000064`, `1.5`, `3`.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.0.as_secs(), self.0.subsec_nanos());
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A number as Prometheus reads it.
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
