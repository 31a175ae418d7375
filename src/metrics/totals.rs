//! What the board has said so far, slot by slot: totals that only rise.
//!
//! A slot's two blocks add up to one total. A worker may have scribbled over its block: a value that
//! fell, or rose by more than anybody can count, moves nothing, and counting goes on from it.
//!
//! A histogram is not read at one moment: its worker goes on recording, and the buckets, the count and
//! the sum of one record are three stores. What is told as the count is therefore the sum of what the
//! buckets gave, so that these two always agree; the sum may be a few records behind. Whatever one read
//! does not see, the next one does.

use std::time::Duration;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Block, Board, Counter, Histogram, Row, Side};

use super::{Books, Distribution};

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
pub struct Totals {
    counts: [u64; Counter::ALL.len()],
    spreads: [Spread; Distribution::ALL.len()],
}

/// A histogram's sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// How many were recorded.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
    /// As [`Histogram::buckets`], in 64 bits: always [`Histogram::BUCKETS`] of them.
    pub buckets: Box<[u64]>,
}

impl Spread {
    fn new() -> Self {
        let buckets = vec![0; Histogram::BUCKETS].into_boxed_slice();
        Self { count: 0, sum: Duration::ZERO, buckets }
    }
}

impl Totals {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self { counts: [0; Counter::ALL.len()], spreads: std::array::from_fn(|_| Spread::new()) }
    }

    /// A counter's sum.
    pub fn count(&self, counter: Counter) -> u64 {
        self.counts[counter as usize]
    }

    /// A distribution's sums.
    pub fn spread(&self, distribution: Distribution) -> &Spread {
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

impl Totals {
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

impl Default for Totals {
    fn default() -> Self {
        Self::new()
    }
}

/// All totals.
pub struct Ledger {
    supervisor: Totals,
    slots: Vec<Option<Totals>>,
    seen: Seen,
}

impl Ledger {
    /// Starts at what the board says now: of a board that was inherited, only what comes is news.
    pub fn open(board: &Board) -> Self {
        let slots = numbered(board).map(|slot| had_occupant(board, slot).then(Totals::new));
        Self { supervisor: Totals::new(), slots: slots.collect(), seen: Seen::of(board) }
    }

    /// Reads the board.
    pub fn read(&mut self, board: &Board) {
        let Seen { header, blocks } = &mut self.seen;
        header.read(&board.header().row, &mut self.supervisor);
        for ((slot, totals), seen) in numbered(board).zip(&mut self.slots).zip(blocks) {
            if totals.is_none() && !had_occupant(board, slot) {
                continue;
            }
            let totals = totals.get_or_insert_with(Totals::new);
            for (side, seen) in SIDES.into_iter().zip(seen) {
                if let Some(block) = board.block(slot, side) {
                    seen.read(block, totals);
                }
            }
        }
    }

    /// Counts this as if it had been on the board. What is of slots that there are not is the supervisor's.
    pub fn inherit(&mut self, books: &Books) {
        self.supervisor.add(books.supervisor());
        for (slot, counted) in books.slots() {
            match self.slots.get_mut(usize::from(slot.0)) {
                Some(totals) => totals.get_or_insert_with(Totals::new).add(counted),
                None => self.supervisor.add(counted),
            }
        }
    }

    /// What the supervisor counts of itself; it has no distributions.
    pub fn supervisor(&self) -> &Totals {
        &self.supervisor
    }

    /// The slots that ever had a worker, in order.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &Totals)> {
        let numbered = (0..).map(SlotId).zip(&self.slots);
        numbered.filter_map(|(slot, totals)| Some((slot, totals.as_ref()?)))
    }
}

fn numbered(board: &Board) -> impl Iterator<Item = SlotId> {
    (0..board.slot_count()).map(SlotId)
}

/// Whether a slot's blocks are more than zeros.
fn had_occupant(board: &Board, slot: SlotId) -> bool {
    let is_used = |block: &Block| {
        block.pid() != 0 || Counter::ALL.into_iter().any(|counter| block.row.get(counter) != 0)
    };
    SIDES.into_iter().filter_map(|side| board.block(slot, side)).any(is_used)
}

/// The board as it was read last.
struct Seen {
    header: SeenRow,
    blocks: Vec<[SeenBlock; 2]>,
}

impl Seen {
    /// Takes whatever the board says for true.
    fn of(board: &Board) -> Self {
        let mut header = SeenRow::new();
        header.take(&board.header().row);
        let of_block = |slot, side| {
            let mut seen = SeenBlock::new();
            if let Some(block) = board.block(slot, side) {
                seen.take(block);
            }
            seen
        };
        let blocks = numbered(board).map(|slot| SIDES.map(|side| of_block(slot, side)));
        Self { header, blocks: blocks.collect() }
    }
}

/// A row as it was read last.
struct SeenRow([u64; Counter::ALL.len()]);

impl SeenRow {
    fn new() -> Self {
        Self([0; Counter::ALL.len()])
    }

    fn take(&mut self, row: &Row) {
        for (seen, counter) in self.0.iter_mut().zip(Counter::ALL) {
            *seen = row.get(counter);
        }
    }

    fn read(&mut self, row: &Row, totals: &mut Totals) {
        for ((seen, counter), total) in self.0.iter_mut().zip(Counter::ALL).zip(&mut totals.counts)
        {
            let before = std::mem::replace(seen, row.get(counter));
            gain(total, rise(before, *seen).unwrap_or(0));
        }
    }
}

/// A block as it was read last.
struct SeenBlock {
    row: SeenRow,
    histograms: [SeenHistogram; Distribution::ALL.len()],
}

impl SeenBlock {
    fn new() -> Self {
        let histograms = std::array::from_fn(|_| SeenHistogram::new());
        Self { row: SeenRow::new(), histograms }
    }

    fn take(&mut self, block: &Block) {
        self.row.take(&block.row);
        for (seen, distribution) in self.histograms.iter_mut().zip(Distribution::ALL) {
            seen.take(distribution.of(block));
        }
    }

    fn read(&mut self, block: &Block, totals: &mut Totals) {
        self.row.read(&block.row, totals);
        let both = self.histograms.iter_mut().zip(&mut totals.spreads);
        for ((seen, spread), distribution) in both.zip(Distribution::ALL) {
            seen.read(distribution.of(block), spread);
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

    fn read(&mut self, histogram: &Histogram, spread: &mut Spread) {
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

/// Totals never fall, not even by wrapping after a lot of garbage that looked plausible.
fn gain(total: &mut u64, risen: u64) {
    *total = total.saturating_add(risen);
}

#[cfg(test)]
mod tests;
