//! Composes a flush: the totals beyond the baselines, and the gauges, as datagrams. It sends nothing, and changes no
//! baseline except those of quantiles.

use std::collections::VecDeque;
use std::fmt::Write;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::Histogram;

use super::baseline::{Baselines, Delta, Sent, SumKey, Sums};
use super::distribution::{Quantile, bits, has_bit, value_ms};
use super::format::{LineFormat, LineSuffixes};
use super::packer::{Datagram, Packer};
use super::series::{Destination, SeriesLines};
use super::source::CountSource;
use crate::metrics::series::SeriesTotal;
use crate::metrics::statsd::{Format, Statsd};
use crate::metrics::{Distribution, Gauge, Gauges, Totals};

/// Length of the longest bucket value with its colon: `:2113929.216`.
const PACKED_VALUE_BYTES: usize = 12;

/// How the sources are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// One by one: each slot with its tag, and the supervisor.
    PerWorker,
    /// Summed up.
    Summed,
}

/// Composes flushes.
pub(super) struct Composer {
    format: Format,
    layout: Layout,
    limit_bytes: usize,
    line_format: LineFormat,
    /// Suffixes of lines without a worker.
    common: LineSuffixes,
    /// Suffixes of lines of a worker, by slot.
    slots: Vec<Option<LineSuffixes>>,
    /// The value of each bucket as text.
    values: Vec<String>,
    /// A buffer for the current line.
    line: String,
    /// The buckets of the current distribution that have risen.
    gained: Vec<(usize, u64)>,
    /// Those buckets whose rise has the current bit.
    indices: Vec<usize>,
    series: SeriesLines,
}

impl Composer {
    /// Composes datagrams of at most `limit_bytes`.
    pub(super) fn new(statsd: &Statsd, limit_bytes: usize) -> Self {
        let line_format = LineFormat::new(statsd);
        let common = line_format.suffixes(None);
        let layout = match (statsd.format, statsd.worker_tag) {
            (Format::Dogstatsd, true) => Layout::PerWorker,
            (Format::Dogstatsd, false) | (Format::Plain, _) => Layout::Summed,
        };
        Self {
            format: statsd.format,
            layout,
            limit_bytes,
            line_format,
            common,
            slots: Vec::new(),
            values: (0..Histogram::BUCKETS).map(|index| value_ms(index).to_string()).collect(),
            line: String::new(),
            gained: Vec::new(),
            indices: Vec::new(),
            series: SeriesLines::default(),
        }
    }

    /// Whether the slots are sent one by one.
    pub(super) fn is_per_worker(&self) -> bool {
        self.layout == Layout::PerWorker
    }

    /// Composes a flush. Gauges come first, because they describe this moment; counters can be sent later.
    pub(super) fn compose(
        &mut self,
        totals: &Totals,
        gauges: &Gauges,
        baselines: &mut Baselines,
    ) -> VecDeque<Datagram> {
        let mut packer = Packer::new(self.limit_bytes);
        for (gauge, value) in &gauges.server {
            self.gauge(&mut packer, *gauge, *value, None);
        }
        match self.layout {
            Layout::PerWorker => {
                for (slot, gauge, value) in &gauges.workers {
                    self.gauge(&mut packer, *gauge, *value, Some(*slot));
                }
                let sums = Sums::of(totals.supervisor());
                self.source(&mut packer, CountSource::Supervisor, None, &sums, baselines);
                for (slot, totals) in totals.slots() {
                    let source = CountSource::Slot(slot);
                    self.source(&mut packer, source, Some(slot), &Sums::of(totals), baselines);
                }
            }
            Layout::Summed => {
                for gauge in Gauge::ALL {
                    let of_it = gauges.workers.iter().filter(|(_, of, _)| *of == gauge);
                    let sum = of_it.map(|(_, _, value)| value).copied().reduce(|a, b| a + b);
                    if let Some(sum) = sum {
                        self.gauge(&mut packer, gauge, sum, None);
                    }
                }
                let sums = Sums::all(totals);
                self.source(&mut packer, CountSource::All, None, &sums, baselines);
            }
        }
        self.series(&mut packer, totals, gauges, baselines);
        packer.finish()
    }

    /// Adds application metrics.
    fn series(
        &mut self,
        packer: &mut Packer,
        totals: &Totals,
        gauges: &Gauges,
        baselines: &mut Baselines,
    ) {
        let Self { series: lines, line_format, format, layout, limit_bytes, .. } = self;
        let mut to = Destination {
            format: line_format,
            kind: *format,
            source: CountSource::All,
            worker: None,
            limit_bytes: *limit_bytes,
        };
        let sent_series = totals.series().series().filter(|(_, it)| SeriesLines::is_sent(it));
        for (id, series) in sent_series {
            for (_, value) in series.gauge().into_iter().filter(|_| gauges.has_applications) {
                lines.gauge(&to, id, series, value, |line| packer.line(line, []));
            }
            let mut rises = |to: &Destination<'_>, total: &SeriesTotal| {
                let sent = &mut baselines.series;
                lines.rises(to, id, series, total, sent, |line, deltas| {
                    packer.series_line(line, deltas);
                });
            };
            match layout {
                Layout::PerWorker => {
                    for (counted_in, total) in &series.totals {
                        let worker = counted_in.map(|slot| format!("worker:{slot}"));
                        let source = counted_in.map_or(CountSource::Supervisor, CountSource::Slot);
                        let to = Destination { source, worker: worker.as_deref(), ..to };
                        rises(&to, total);
                    }
                }
                Layout::Summed if !series.totals.is_empty() => {
                    to.source = CountSource::All;
                    rises(&to, &series.sum());
                }
                Layout::Summed => {}
            }
        }
    }

    /// Leaves out a value that is not finite, because statsd cannot express it.
    fn gauge(&mut self, packer: &mut Packer, gauge: Gauge, value: f64, slot: Option<SlotId>) {
        if !value.is_finite() {
            return;
        }
        let suffixes = suffixes(&self.line_format, &self.common, &mut self.slots, slot);
        write(&mut self.line, self.line_format.prefixes.gauge(gauge), value, suffixes.gauge());
        packer.line(&self.line, []);
    }

    /// Adds the counters and distributions of a source.
    fn source(
        &mut self,
        packer: &mut Packer,
        source: CountSource,
        slot: Option<SlotId>,
        sums: &Sums<'_>,
        baselines: &mut Baselines,
    ) {
        let sent = baselines.of(source);
        let suffixes = suffixes(&self.line_format, &self.common, &mut self.slots, slot);
        for (counter, n) in sent.rises(sums) {
            let prefix = self.line_format.prefixes.counter(counter);
            write(&mut self.line, prefix, n, suffixes.counter(counter));
            packer.line(&self.line, [Delta { source, key: SumKey::Count(counter), n }]);
        }
        match self.format {
            Format::Dogstatsd => {
                for distribution in Distribution::ALL {
                    self.gained.clear();
                    sent.gains(distribution, sums, &mut self.gained);
                    self.packed(packer, source, slot, distribution);
                }
            }
            Format::Plain => {
                for family in Distribution::families() {
                    self.gain_all(sent, sums, family);
                    self.quantiles(packer, family[0]);
                }
            }
        }
    }

    /// Takes the values of all distributions of a name. Quantiles are gauges, so the values of a lost flush are not part
    /// of the next one.
    fn gain_all(&mut self, sent: &mut Sent, sums: &Sums<'_>, family: &[Distribution]) {
        self.gained.clear();
        for distribution in family {
            let first = self.gained.len();
            sent.gains(*distribution, sums, &mut self.gained);
            sent.skip(*distribution, &self.gained[first..]);
        }
        self.gained.sort_unstable_by_key(|(index, _)| *index);
    }

    /// Adds a distribution bit by bit, as [`super::distribution`] explains.
    fn packed(
        &mut self,
        packer: &mut Packer,
        source: CountSource,
        slot: Option<SlotId>,
        distribution: Distribution,
    ) {
        let suffixes = suffixes(&self.line_format, &self.common, &mut self.slots, slot);
        let prefix = self.line_format.prefixes.distribution(distribution);
        for bit in bits(&self.gained) {
            let suffix = suffixes.distribution(distribution, &self.line_format, bit);
            let room = self.limit_bytes.saturating_sub(prefix.len() + suffix.len());
            let values_per_line = (room / PACKED_VALUE_BYTES).max(1);
            let with_bit = self.gained.iter().filter(|(_, n)| has_bit(*n, bit));
            self.indices.clear();
            self.indices.extend(with_bit.map(|(index, _)| *index));
            for part in self.indices.chunks(values_per_line) {
                self.line.clear();
                // The prefix ends with a colon, which also separates the values.
                self.line.push_str(prefix);
                for (position, index) in part.iter().enumerate() {
                    if position > 0 {
                        self.line.push(':');
                    }
                    self.line.push_str(&self.values[*index]);
                }
                self.line.push_str(suffix);
                let deltas = part.iter().map(|index| Delta {
                    source,
                    key: SumKey::Bucket { distribution, index: *index },
                    n: 1 << bit,
                });
                packer.line(&self.line, deltas);
            }
        }
    }

    /// Adds the quantiles of a distribution, for an agent without distributions. Without values nothing is sent,
    /// because 0 ms would be wrong and statsd keeps the last value by itself.
    fn quantiles(&mut self, packer: &mut Packer, distribution: Distribution) {
        for quantile in Quantile::ALL {
            let Some(index) = quantile.bucket(&self.gained) else { return };
            let prefix = self.line_format.prefixes.quantile(distribution, quantile);
            write(&mut self.line, prefix, &self.values[index], self.common.gauge());
            packer.line(&self.line, []);
        }
    }
}

/// The suffixes of a slot or of the server. Those of a slot are made when it first appears.
fn suffixes<'a>(
    line_format: &LineFormat,
    common: &'a LineSuffixes,
    slots: &'a mut Vec<Option<LineSuffixes>>,
    slot: Option<SlotId>,
) -> &'a LineSuffixes {
    let Some(slot) = slot else { return common };
    let index = usize::from(slot.0);
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots[index].get_or_insert_with(|| line_format.suffixes(Some(format!("worker:{slot}"))))
}

/// Replaces the content of `line`.
fn write(line: &mut String, prefix: &str, value: impl std::fmt::Display, suffix: &str) {
    line.clear();
    line.push_str(prefix);
    let _ = write!(line, "{value}"); // Writing to a `String` cannot fail.
    line.push_str(suffix);
}
