//! The totals of each slot, read from the scoreboard. They only rise.
//!
//! The two entries of a slot add up to one total. A worker may have overwritten its entry with garbage. A value that
//! fell, or rose by an impossible amount, changes no total, and counting continues from it.
//!
//! A histogram is not read atomically: its worker keeps recording, and stores the bucket, the count and the sum of a
//! record separately. The reported count is therefore the sum of the buckets, so that the two always agree; the
//! reported sum may be a few records behind. The next read sees what this one missed.

use std::time::Duration;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{
    Counter, Counters, Histogram, Scoreboard, Side, WorkerEntry,
};
use arctos_worker::shared::series::{Capacity, attachment};

use super::Distribution;
use super::series::{DEFAULT_LIMIT, SeriesReader, SeriesTotals};

/// Maximum plausible rise between two reads; anything more is garbage. Reads may be far apart, and `bytes.out` rises
/// fastest: this is over nine hours of 1 GB/s. Pointers, the most likely garbage, are larger on 64-bit Linux (6 bytes
/// that start with 0x55 or 0x7f).
const MAX_RISE: u64 = 1 << 45;
/// Maximum plausible duration, because the last bucket has no upper bound: over a year.
const MAX_DURATION: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// How much more a bucket may rise than the count of its histogram, because of records that are half stored and workers
/// that died meanwhile.
const BETWEEN_STORES: u64 = 16;
const SIDES: [Side; 2] = [Side::A, Side::B];

/// The totals of a slot, or of the supervisor itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotTotals {
    counts: [u64; Counter::ALL.len()],
    distributions: [DistributionTotals; Distribution::ALL.len()],
}

/// The totals of a histogram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistributionTotals {
    /// The number of recorded durations.
    pub count: u64,
    /// The sum of the durations.
    pub sum: Duration,
    /// The buckets like [`Histogram::buckets`], in 64 bits; always [`Histogram::BUCKETS`] of them.
    pub buckets: Box<[u64]>,
}

impl DistributionTotals {
    fn new() -> Self {
        let buckets = vec![0; Histogram::BUCKETS].into_boxed_slice();
        Self { count: 0, sum: Duration::ZERO, buckets }
    }
}

impl SlotTotals {
    /// Totals of 0.
    pub fn new() -> Self {
        Self {
            counts: [0; Counter::ALL.len()],
            distributions: std::array::from_fn(|_| DistributionTotals::new()),
        }
    }

    /// The total of a counter.
    pub fn count(&self, counter: Counter) -> u64 {
        self.counts[counter as usize]
    }

    /// The totals of a distribution.
    pub fn distribution(&self, distribution: Distribution) -> &DistributionTotals {
        &self.distributions[distribution as usize]
    }

    /// Adds other totals.
    pub fn add(&mut self, other: &Self) {
        for counter in Counter::ALL {
            self.add_count(counter, other.count(counter));
        }
        for distribution in Distribution::ALL {
            let added = other.distribution(distribution);
            let buckets = added.buckets.iter().copied().enumerate();
            self.add_distribution(distribution, added.sum, buckets);
        }
    }

    /// Adds to a counter.
    pub fn add_count(&mut self, counter: Counter, n: u64) {
        gain(&mut self.counts[counter as usize], n);
    }

    /// Adds to a distribution. Buckets with an unknown index are left out.
    pub fn add_distribution(
        &mut self,
        distribution: Distribution,
        sum: Duration,
        buckets: impl Iterator<Item = (usize, u64)>,
    ) {
        let totals = &mut self.distributions[distribution as usize];
        totals.sum = totals.sum.saturating_add(sum);
        for (index, n) in buckets {
            if let Some(bucket) = totals.buckets.get_mut(index) {
                gain(bucket, n);
                gain(&mut totals.count, n);
            }
        }
    }
}

impl SlotTotals {
    /// Subtracts other totals, except for the sums of distributions.
    pub(super) fn subtract(&mut self, other: &Self) {
        for counter in Counter::ALL {
            let count = &mut self.counts[counter as usize];
            *count = count.saturating_sub(other.count(counter));
        }
        for distribution in Distribution::ALL {
            let totals = &mut self.distributions[distribution as usize];
            for (bucket, n) in
                totals.buckets.iter_mut().zip(&other.distribution(distribution).buckets)
            {
                let n = (*bucket).min(*n);
                *bucket -= n;
                totals.count = totals.count.saturating_sub(n);
            }
        }
    }
}

impl Default for SlotTotals {
    fn default() -> Self {
        Self::new()
    }
}

/// The totals of all slots and of the supervisor.
pub struct Totals {
    supervisor: SlotTotals,
    slots: Vec<Option<SlotTotals>>,
    seen: Seen,
    series: SeriesTotals,
    /// `None` if the scoreboard has no memory for series.
    series_reader: Option<SeriesReader>,
    /// What this process has counted before it became a server.
    own_series: Option<SeriesReader>,
}

impl Totals {
    /// Starts at the current values of the scoreboard, so that only later counts of an inherited scoreboard are added.
    pub fn open(scoreboard: &Scoreboard) -> Self {
        let slots =
            numbered(scoreboard).map(|slot| was_used(scoreboard, slot).then(SlotTotals::new));
        let series = scoreboard.series();
        let capacity = series.as_ref().map(|(memory, _)| memory.capacity());
        let capacity = capacity.unwrap_or_else(|| Capacity::for_series(DEFAULT_LIMIT));
        Self {
            supervisor: SlotTotals::new(),
            slots: slots.collect(),
            seen: Seen::of(scoreboard),
            series: SeriesTotals::new(capacity),
            series_reader: series.map(|(memory, owners)| SeriesReader::new(memory, owners)),
            own_series: attachment::take_local().map(|memory| SeriesReader::new(memory, [None])),
        }
    }

    /// Reads the scoreboard.
    pub fn read(&mut self, scoreboard: &Scoreboard) {
        let Seen { header, entries } = &mut self.seen;
        header.read(&scoreboard.header().counters, &mut self.supervisor);
        for ((slot, totals), seen) in numbered(scoreboard).zip(&mut self.slots).zip(entries) {
            if totals.is_none() && !was_used(scoreboard, slot) {
                continue;
            }
            let totals = totals.get_or_insert_with(SlotTotals::new);
            for (side, seen) in SIDES.into_iter().zip(seen) {
                if let Some(entry) = scoreboard.entry(slot, side) {
                    seen.read(entry, totals);
                }
            }
        }
        self.series.clear_gauges();
        for reader in self.series_reader.iter_mut().chain(&mut self.own_series) {
            reader.read(&mut self.series);
        }
    }

    /// Reads the series of a process that has ended for the last time, and clears its area.
    ///
    /// Errors: see [`SeriesReader::retire`].
    pub fn retire_area(&mut self, index: u32) -> std::io::Result<()> {
        let Some(reader) = &mut self.series_reader else { return Ok(()) };
        reader.retire(index, &mut self.series)
    }

    /// The number of updates of application metrics in series that do not count alone, since this was last called.
    pub fn take_dropped_updates(&mut self) -> u64 {
        let readers = self.series_reader.iter_mut().chain(&mut self.own_series);
        readers.map(SeriesReader::take_dropped).sum()
    }

    /// The application metrics.
    pub fn series(&self) -> &SeriesTotals {
        &self.series
    }

    /// Adds totals as if they had been counted on the scoreboard. Totals of slots that do not exist are added to the
    /// supervisor's.
    pub(super) fn add<'a>(
        &mut self,
        supervisor: &SlotTotals,
        slots: impl Iterator<Item = (SlotId, &'a SlotTotals)>,
        series: &SeriesTotals,
    ) {
        let slot_count = self.slots.len();
        self.series.add(series, |slot| slot.filter(|slot| usize::from(slot.0) < slot_count));
        self.supervisor.add(supervisor);
        for (slot, counted) in slots {
            match self.slots.get_mut(usize::from(slot.0)) {
                Some(totals) => totals.get_or_insert_with(SlotTotals::new).add(counted),
                None => self.supervisor.add(counted),
            }
        }
    }

    /// The totals that the supervisor counts for itself; it has no distributions.
    pub fn supervisor(&self) -> &SlotTotals {
        &self.supervisor
    }

    /// The slots that ever had a worker, in order.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &SlotTotals)> {
        let numbered = (0..).map(SlotId).zip(&self.slots);
        numbered.filter_map(|(slot, totals)| Some((slot, totals.as_ref()?)))
    }
}

fn numbered(scoreboard: &Scoreboard) -> impl Iterator<Item = SlotId> {
    (0..scoreboard.slot_count()).map(SlotId)
}

/// Whether a slot ever had a worker.
fn was_used(scoreboard: &Scoreboard, slot: SlotId) -> bool {
    let is_used = |entry: &WorkerEntry| {
        entry.pid() != 0 || Counter::ALL.into_iter().any(|counter| entry.counters.get(counter) != 0)
    };
    SIDES.into_iter().filter_map(|side| scoreboard.entry(slot, side)).any(is_used)
}

/// The scoreboard as of the last read.
struct Seen {
    header: SeenCounters,
    entries: Vec<[SeenEntry; 2]>,
}

impl Seen {
    /// Accepts all current values of the scoreboard.
    fn of(scoreboard: &Scoreboard) -> Self {
        let mut header = SeenCounters::new();
        header.take(&scoreboard.header().counters);
        let of_entry = |slot, side| {
            let mut seen = SeenEntry::new();
            if let Some(entry) = scoreboard.entry(slot, side) {
                seen.take(entry);
            }
            seen
        };
        let entries = numbered(scoreboard).map(|slot| SIDES.map(|side| of_entry(slot, side)));
        Self { header, entries: entries.collect() }
    }
}

/// Counters as of the last read.
struct SeenCounters([u64; Counter::ALL.len()]);

impl SeenCounters {
    fn new() -> Self {
        Self([0; Counter::ALL.len()])
    }

    fn take(&mut self, counters: &Counters) {
        for (seen, counter) in self.0.iter_mut().zip(Counter::ALL) {
            *seen = counters.get(counter);
        }
    }

    fn read(&mut self, counters: &Counters, totals: &mut SlotTotals) {
        for ((seen, counter), total) in self.0.iter_mut().zip(Counter::ALL).zip(&mut totals.counts)
        {
            let before = std::mem::replace(seen, counters.get(counter));
            gain(total, rise(before, *seen).unwrap_or(0));
        }
    }
}

/// An entry as of the last read.
struct SeenEntry {
    counters: SeenCounters,
    histograms: [SeenHistogram; Distribution::ALL.len()],
}

impl SeenEntry {
    fn new() -> Self {
        let histograms = std::array::from_fn(|_| SeenHistogram::new());
        Self { counters: SeenCounters::new(), histograms }
    }

    fn take(&mut self, entry: &WorkerEntry) {
        self.counters.take(&entry.counters);
        for (seen, distribution) in self.histograms.iter_mut().zip(Distribution::ALL) {
            seen.take(distribution.of(entry));
        }
    }

    fn read(&mut self, entry: &WorkerEntry, totals: &mut SlotTotals) {
        self.counters.read(&entry.counters, totals);
        let both = self.histograms.iter_mut().zip(&mut totals.distributions);
        for ((seen, sums), distribution) in both.zip(Distribution::ALL) {
            seen.read(distribution.of(entry), sums);
        }
    }
}

/// A histogram as of the last read.
struct SeenHistogram {
    count: u64,
    sum: Duration,
    /// How far the sum can still rise: the rise of the buckets at their upper bounds, minus the rise of the sum. A
    /// sum that rises further is garbage; in nanoseconds, a pointer looks like a day.
    sum_room: Duration,
    buckets: [u32; Histogram::BUCKETS],
}

impl SeenHistogram {
    fn new() -> Self {
        let [sum, sum_room] = [Duration::ZERO; 2];
        Self { count: 0, sum, sum_room, buckets: [0; Histogram::BUCKETS] }
    }

    fn take(&mut self, histogram: &Histogram) {
        self.count = histogram.count();
        self.sum = histogram.sum();
        // A record whose bucket is read here may add to the sum later.
        self.sum_room = Histogram::bounds(Histogram::BUCKETS - 1).end;
        for (seen, now) in self.buckets.iter_mut().zip(histogram.buckets()) {
            *seen = now;
        }
    }

    fn read(&mut self, histogram: &Histogram, totals: &mut DistributionTotals) {
        let count = histogram.count();
        if count == self.count {
            return;
        }
        // The sum is read before the buckets, which then include all records of this sum.
        let sum = histogram.sum();
        let before = std::mem::replace(&mut self.count, count);
        let both = self.buckets.iter_mut().zip(&mut totals.buckets);
        for (index, ((seen, total), now)) in both.zip(histogram.buckets()).enumerate() {
            if *seen == now {
                continue;
            }
            let risen = u64::from(now.wrapping_sub(*seen));
            *seen = now;
            // The count is read again each time, because this process may have slept since the last bucket.
            let counted = rise(before, histogram.count());
            if counted.is_some_and(|counted| risen <= counted + BETWEEN_STORES) {
                gain(total, risen);
                gain(&mut totals.count, risen);
                let room = longest(index).saturating_mul(u32::try_from(risen).unwrap_or(u32::MAX));
                self.sum_room = self.sum_room.saturating_add(room);
            }
        }
        let before = std::mem::replace(&mut self.sum, sum);
        let risen = sum.checked_sub(before).filter(|&risen| risen <= self.sum_room);
        let risen = risen.unwrap_or_default();
        self.sum_room -= risen;
        totals.sum = totals.sum.saturating_add(risen);
    }
}

/// The longest duration that a bucket counts.
fn longest(index: usize) -> Duration {
    if index + 1 < Histogram::BUCKETS { Histogram::bounds(index).end } else { MAX_DURATION }
}

/// The rise of a value, if it is plausible.
fn rise(before: u64, now: u64) -> Option<u64> {
    now.checked_sub(before).filter(|&rise| rise <= MAX_RISE)
}

/// Adds to a total, which never falls, not even by wrapping after much plausible garbage.
fn gain(total: &mut u64, risen: u64) {
    *total = total.saturating_add(risen);
}

#[cfg(test)]
mod tests;
