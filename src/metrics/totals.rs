//! What the scoreboard has said so far, slot by slot: totals that only rise.
//!
//! A slot's two entries add up to one total. A worker may have scribbled over its entry: a value that
//! fell, or rose by more than anybody can count, moves nothing, and counting goes on from it.
//!
//! A histogram is not read at one moment: its worker goes on recording, and the buckets, the count and
//! the sum of one record are three stores. What is told as the count is therefore the sum of what the
//! buckets gave, so that these two always agree; the sum may be a few records behind. Whatever one read
//! does not see, the next one does.

use std::time::Duration;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{
    Counter, Counters, Histogram, Scoreboard, Side, WorkerEntry,
};

use super::Distribution;

/// More than this between two reads was not counted: it is garbage. Nobody may have looked for long,
/// and `bytes.out` rises fastest: this is over nine hours of a gigabyte a second. Pointers, which are what
/// a program writes where it should not, are larger on 64-bit Linux (0x55.. and 0x7f.., 6 bytes).
const LARGEST_RISE: u64 = 1 << 45;
/// The longest that one duration can be, which the last bucket does not tell: over a year.
const LONGEST: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// A bucket may rise by so much more than its histogram's count did: records that are between their
/// stores, and workers that died there.
const BETWEEN_STORES: u64 = 16;
const SIDES: [Side; 2] = [Side::A, Side::B];

/// The sums of one slot, or of the supervisor itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotTotals {
    counts: [u64; Counter::ALL.len()],
    spreads: [DistributionTotals; Distribution::ALL.len()],
}

/// A histogram's sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistributionTotals {
    /// How many were recorded.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
    /// As [`Histogram::buckets`], in 64 bits: always [`Histogram::BUCKETS`] of them.
    pub buckets: Box<[u64]>,
}

impl DistributionTotals {
    fn new() -> Self {
        let buckets = vec![0; Histogram::BUCKETS].into_boxed_slice();
        Self { count: 0, sum: Duration::ZERO, buckets }
    }
}

impl SlotTotals {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self {
            counts: [0; Counter::ALL.len()],
            spreads: std::array::from_fn(|_| DistributionTotals::new()),
        }
    }

    /// A counter's sum.
    pub fn count(&self, counter: Counter) -> u64 {
        self.counts[counter as usize]
    }

    /// A distribution's sums.
    pub fn spread(&self, distribution: Distribution) -> &DistributionTotals {
        &self.spreads[distribution as usize]
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: &Self) {
        for counter in Counter::ALL {
            self.add_count(counter, other.count(counter));
        }
        for distribution in Distribution::ALL {
            let spread = other.spread(distribution);
            let buckets = spread.buckets.iter().copied().enumerate();
            self.add_spread(distribution, spread.sum, buckets);
        }
    }

    /// Adds to a counter.
    pub fn add_count(&mut self, counter: Counter, n: u64) {
        gain(&mut self.counts[counter as usize], n);
    }

    /// Adds to a distribution. Buckets by their index; those that there are not are left out.
    pub fn add_spread(
        &mut self,
        distribution: Distribution,
        sum: Duration,
        buckets: impl Iterator<Item = (usize, u64)>,
    ) {
        let spread = &mut self.spreads[distribution as usize];
        spread.sum = spread.sum.saturating_add(sum);
        for (index, n) in buckets {
            if let Some(bucket) = spread.buckets.get_mut(index) {
                gain(bucket, n);
                gain(&mut spread.count, n);
            }
        }
    }
}

impl SlotTotals {
    /// Takes off what another one has; sums stay.
    pub(super) fn subtract(&mut self, other: &Self) {
        for counter in Counter::ALL {
            let count = &mut self.counts[counter as usize];
            *count = count.saturating_sub(other.count(counter));
        }
        for distribution in Distribution::ALL {
            let spread = &mut self.spreads[distribution as usize];
            for (bucket, n) in spread.buckets.iter_mut().zip(&other.spread(distribution).buckets) {
                let n = (*bucket).min(*n);
                *bucket -= n;
                spread.count = spread.count.saturating_sub(n);
            }
        }
    }
}

impl Default for SlotTotals {
    fn default() -> Self {
        Self::new()
    }
}

/// All totals.
pub struct Totals {
    supervisor: SlotTotals,
    slots: Vec<Option<SlotTotals>>,
    seen: Seen,
}

impl Totals {
    /// Starts at what the scoreboard says now: of a scoreboard that was inherited, only what comes is news.
    pub fn open(scoreboard: &Scoreboard) -> Self {
        let slots =
            numbered(scoreboard).map(|slot| had_occupant(scoreboard, slot).then(SlotTotals::new));
        Self { supervisor: SlotTotals::new(), slots: slots.collect(), seen: Seen::of(scoreboard) }
    }

    /// Reads the scoreboard.
    pub fn read(&mut self, scoreboard: &Scoreboard) {
        let Seen { header, entries } = &mut self.seen;
        header.read(&scoreboard.header().counters, &mut self.supervisor);
        for ((slot, totals), seen) in numbered(scoreboard).zip(&mut self.slots).zip(entries) {
            if totals.is_none() && !had_occupant(scoreboard, slot) {
                continue;
            }
            let totals = totals.get_or_insert_with(SlotTotals::new);
            for (side, seen) in SIDES.into_iter().zip(seen) {
                if let Some(entry) = scoreboard.entry(slot, side) {
                    seen.read(entry, totals);
                }
            }
        }
    }

    /// Adds totals as if they had been counted on the scoreboard. Those of slots that do not exist are added to
    /// the supervisor's.
    pub(super) fn add<'a>(
        &mut self,
        supervisor: &SlotTotals,
        slots: impl Iterator<Item = (SlotId, &'a SlotTotals)>,
    ) {
        self.supervisor.add(supervisor);
        for (slot, counted) in slots {
            match self.slots.get_mut(usize::from(slot.0)) {
                Some(totals) => totals.get_or_insert_with(SlotTotals::new).add(counted),
                None => self.supervisor.add(counted),
            }
        }
    }

    /// What the supervisor counts of itself; it has no distributions.
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

/// Whether a slot's entries are more than zeros.
fn had_occupant(scoreboard: &Scoreboard, slot: SlotId) -> bool {
    let is_used = |entry: &WorkerEntry| {
        entry.pid() != 0 || Counter::ALL.into_iter().any(|counter| entry.counters.get(counter) != 0)
    };
    SIDES.into_iter().filter_map(|side| scoreboard.entry(slot, side)).any(is_used)
}

/// The scoreboard as it was read last.
struct Seen {
    header: SeenRow,
    entries: Vec<[SeenBlock; 2]>,
}

impl Seen {
    /// Takes whatever the scoreboard says for true.
    fn of(scoreboard: &Scoreboard) -> Self {
        let mut header = SeenRow::new();
        header.take(&scoreboard.header().counters);
        let of_block = |slot, side| {
            let mut seen = SeenBlock::new();
            if let Some(entry) = scoreboard.entry(slot, side) {
                seen.take(entry);
            }
            seen
        };
        let entries = numbered(scoreboard).map(|slot| SIDES.map(|side| of_block(slot, side)));
        Self { header, entries: entries.collect() }
    }
}

/// A counters as it was read last.
struct SeenRow([u64; Counter::ALL.len()]);

impl SeenRow {
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

/// A entry as it was read last.
struct SeenBlock {
    counters: SeenRow,
    histograms: [SeenHistogram; Distribution::ALL.len()],
}

impl SeenBlock {
    fn new() -> Self {
        let histograms = std::array::from_fn(|_| SeenHistogram::new());
        Self { counters: SeenRow::new(), histograms }
    }

    fn take(&mut self, entry: &WorkerEntry) {
        self.counters.take(&entry.counters);
        for (seen, distribution) in self.histograms.iter_mut().zip(Distribution::ALL) {
            seen.take(distribution.of(entry));
        }
    }

    fn read(&mut self, entry: &WorkerEntry, totals: &mut SlotTotals) {
        self.counters.read(&entry.counters, totals);
        let both = self.histograms.iter_mut().zip(&mut totals.spreads);
        for ((seen, spread), distribution) in both.zip(Distribution::ALL) {
            seen.read(distribution.of(entry), spread);
        }
    }
}

/// A histogram as it was read last.
struct SeenHistogram {
    count: u64,
    sum: Duration,
    /// How far the sum can still rise: what the buckets have gained at their upper bounds, without what
    /// the sum has risen. A sum that rises further is garbage; in nanoseconds a pointer looks like a day.
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
        // A record whose bucket is taken here may add to the sum only later.
        self.sum_room = Histogram::bounds(Histogram::BUCKETS - 1).end;
        for (seen, now) in self.buckets.iter_mut().zip(histogram.buckets()) {
            *seen = now;
        }
    }

    fn read(&mut self, histogram: &Histogram, spread: &mut DistributionTotals) {
        let count = histogram.count();
        if count == self.count {
            return;
        }
        // Before the buckets: they then have everything that is in this sum.
        let sum = histogram.sum();
        let before = std::mem::replace(&mut self.count, count);
        let both = self.buckets.iter_mut().zip(&mut spread.buckets);
        for (index, ((seen, total), now)) in both.zip(histogram.buckets()).enumerate() {
            if *seen == now {
                continue;
            }
            let risen = u64::from(now.wrapping_sub(*seen));
            *seen = now;
            // Asked anew each time: this process may have slept since it read the last bucket.
            let counted = rise(before, histogram.count());
            if counted.is_some_and(|counted| risen <= counted + BETWEEN_STORES) {
                gain(total, risen);
                gain(&mut spread.count, risen);
                let room = longest(index).saturating_mul(u32::try_from(risen).unwrap_or(u32::MAX));
                self.sum_room = self.sum_room.saturating_add(room);
            }
        }
        let before = std::mem::replace(&mut self.sum, sum);
        let risen = sum.checked_sub(before).filter(|&risen| risen <= self.sum_room);
        let risen = risen.unwrap_or_default();
        self.sum_room -= risen;
        spread.sum = spread.sum.saturating_add(risen);
    }
}

/// The longest duration that a bucket counts.
fn longest(index: usize) -> Duration {
    if index + 1 < Histogram::BUCKETS { Histogram::bounds(index).end } else { LONGEST }
}

/// How far a value has risen, if it has and somebody can have counted that much.
fn rise(before: u64, now: u64) -> Option<u64> {
    now.checked_sub(before).filter(|&rise| rise <= LARGEST_RISE)
}

/// SlotTotals never fall, not even by wrapping after a lot of garbage that looked plausible.
fn gain(total: &mut u64, risen: u64) {
    *total = total.saturating_add(risen);
}

#[cfg(test)]
mod tests;
