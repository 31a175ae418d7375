//! What a flush says: the totals beyond the baselines, and the gauges, as datagrams. Sends nothing, and
//! moves no baseline but that of quantiles.

use std::collections::VecDeque;
use std::fmt::Write;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::Histogram;

use super::baseline::{Baselines, Cell, Receipt, Source, Sums};
use super::distribution::{Quantile, bits, has_bit, value_ms};
use super::format::{LineFormat, LineSuffixes};
use super::packer::{Datagram, Packer};
use crate::metrics::statsd::{Format, Statsd};
use crate::metrics::{Distribution, Gauge, Gauges, Totals};

/// The longest value of a bucket with the colon before it: `:2113929.216`.
const PACKED_VALUE_BYTES: usize = 12;

/// Which sources there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Each slot, with its tag, and the supervisor.
    PerWorker,
    /// One, that has everything.
    Summed,
}

/// Composes flushes.
pub(super) struct Composer {
    format: Format,
    layout: Layout,
    limit_bytes: usize,
    shapes: LineFormat,
    /// Ends of lines that are of no worker.
    common: LineSuffixes,
    /// Ends of lines that are, by slot.
    slots: Vec<Option<LineSuffixes>>,
    /// The value of each bucket as text.
    values: Vec<String>,
    /// The line being written.
    line: String,
    /// Buckets that have risen, of the distribution being written.
    gained: Vec<(usize, u64)>,
    /// Those of them whose number has the bit being written.
    indices: Vec<usize>,
}

impl Composer {
    /// As configured, for datagrams of at most `limit_bytes`.
    pub(super) fn new(statsd: &Statsd, limit_bytes: usize) -> Self {
        let shapes = LineFormat::new(statsd);
        let common = shapes.tails(None);
        let layout = match (statsd.format, statsd.worker_tag) {
            (Format::Dogstatsd, true) => Layout::PerWorker,
            (Format::Dogstatsd, false) | (Format::Plain, _) => Layout::Summed,
        };
        Self {
            format: statsd.format,
            layout,
            limit_bytes,
            shapes,
            common,
            slots: Vec::new(),
            values: (0..Histogram::BUCKETS).map(|index| value_ms(index).to_string()).collect(),
            line: String::new(),
            gained: Vec::new(),
            indices: Vec::new(),
        }
    }

    /// Whether slots are sent one by one.
    pub(super) fn is_per_worker(&self) -> bool {
        self.layout == Layout::PerWorker
    }

    /// One flush: gauges first, which are of this moment; then what has been counted, which can wait.
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
                self.source(&mut packer, Source::Supervisor, None, &sums, baselines);
                for (slot, totals) in totals.slots() {
                    let source = Source::Slot(slot);
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
                let sums = Sums::whole(totals);
                self.source(&mut packer, Source::Whole, None, &sums, baselines);
            }
        }
        packer.finish()
    }

    /// A value that is no number is left out: there is no way to write it.
    fn gauge(&mut self, packer: &mut Packer, gauge: Gauge, value: f64, slot: Option<SlotId>) {
        if !value.is_finite() {
            return;
        }
        let tails = tails(&self.shapes, &self.common, &mut self.slots, slot);
        write(&mut self.line, self.shapes.heads.gauge(gauge), value, tails.gauge());
        packer.line(&self.line, []);
    }

    /// All that a source has counted.
    fn source(
        &mut self,
        packer: &mut Packer,
        source: Source,
        slot: Option<SlotId>,
        sums: &Sums<'_>,
        baselines: &mut Baselines,
    ) {
        let sent = baselines.of(source);
        let tails = tails(&self.shapes, &self.common, &mut self.slots, slot);
        for (counter, n) in sent.rises(sums) {
            let head = self.shapes.heads.counter(counter);
            write(&mut self.line, head, n, tails.counter(counter));
            packer.line(&self.line, [Receipt { source, cell: Cell::Count(counter), n }]);
        }
        for distribution in Distribution::ALL {
            sent.gains(distribution, sums, &mut self.gained);
            match self.format {
                Format::Dogstatsd => self.packed(packer, source, slot, distribution),
                Format::Plain => {
                    // Gauges, which nothing can carry over: what was recorded before a flush that is
                    // lost is not in the next one's.
                    sent.forget(distribution, &self.gained);
                    self.quantiles(packer, distribution);
                }
            }
        }
    }

    /// A distribution bit by bit, as [`super::distribution`] says.
    fn packed(
        &mut self,
        packer: &mut Packer,
        source: Source,
        slot: Option<SlotId>,
        distribution: Distribution,
    ) {
        let tails = tails(&self.shapes, &self.common, &mut self.slots, slot);
        let head = self.shapes.heads.distribution(distribution);
        for bit in bits(&self.gained) {
            let tail = tails.distribution(&self.shapes, bit);
            let room = self.limit_bytes.saturating_sub(head.len() + tail.len());
            let values_a_line = (room / PACKED_VALUE_BYTES).max(1);
            let with_bit = self.gained.iter().filter(|(_, n)| has_bit(*n, bit));
            self.indices.clear();
            self.indices.extend(with_bit.map(|(index, _)| *index));
            for part in self.indices.chunks(values_a_line) {
                self.line.clear();
                // It ends with a colon, as each value but the last one does.
                self.line.push_str(head);
                for (place, index) in part.iter().enumerate() {
                    if place > 0 {
                        self.line.push(':');
                    }
                    self.line.push_str(&self.values[*index]);
                }
                self.line.push_str(tail);
                let receipts = part.iter().map(|index| Receipt {
                    source,
                    cell: Cell::Bucket { distribution, index: *index },
                    n: 1 << bit,
                });
                packer.line(&self.line, receipts);
            }
        }
    }

    /// A distribution for who knows none. Where nothing was recorded nothing is sent: 0 ms would be a
    /// claim, and statsd keeps the last value by itself.
    fn quantiles(&mut self, packer: &mut Packer, distribution: Distribution) {
        for quantile in Quantile::ALL {
            let Some(index) = quantile.bucket(&self.gained) else { return };
            let head = self.shapes.heads.quantile(distribution, quantile);
            write(&mut self.line, head, &self.values[index], self.common.gauge());
            packer.line(&self.line, []);
        }
    }
}

/// Of a slot, or of none; made when it is first seen.
fn tails<'a>(
    shapes: &LineFormat,
    common: &'a LineSuffixes,
    slots: &'a mut Vec<Option<LineSuffixes>>,
    slot: Option<SlotId>,
) -> &'a LineSuffixes {
    let Some(slot) = slot else { return common };
    let index = usize::from(slot.0);
    if slots.len() <= index {
        slots.resize_with(index + 1, || None);
    }
    slots[index].get_or_insert_with(|| shapes.tails(Some(format!("worker:{slot}"))))
}

/// One line, in place of the last one.
fn write(line: &mut String, head: &str, value: impl std::fmt::Display, tail: &str) {
    line.clear();
    line.push_str(head);
    let _ = write!(line, "{value}"); // A `String` takes everything.
    line.push_str(tail);
}
