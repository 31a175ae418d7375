//! What the board has said so far, slot by slot: totals that only rise.
//!
//! A slot's two blocks add up to one total. A worker may have scribbled over its block: a value that
//! fell, or rose by more than anybody can count, moves nothing, and counting goes on from it.

use std::time::Duration;

use arctos_worker::identity::SlotId;
use arctos_worker::metrics::{Board, Counter, Histogram, Side};

use super::Distribution;

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
}

impl Ledger {
    /// Starts at what the board says now: of a board that was inherited, only what comes is news.
    pub fn open(board: &Board) -> Self {
        let slots = (0..board.slot_count()).map(|_| None).collect();
        Self { supervisor: Totals::new(), slots }
    }

    /// Reads the board.
    pub fn read(&mut self, board: &Board) {
        for counter in Counter::ALL {
            self.supervisor.counts[counter as usize] = board.header().row.get(counter);
        }
        for (slot, totals) in (0..).map(SlotId).zip(&mut self.slots) {
            let blocks = [Side::A, Side::B].map(|side| board.block(slot, side));
            if blocks.iter().flatten().all(|block| block.generation().0 == 0) {
                continue;
            }
            let totals = totals.get_or_insert_with(Totals::new);
            totals.counts = [0; Counter::ALL.len()];
            for block in blocks.into_iter().flatten() {
                for counter in Counter::ALL {
                    totals.counts[counter as usize] += block.row.get(counter);
                }
            }
            for distribution in Distribution::ALL {
                let spread = &mut totals.spreads[distribution as usize];
                spread.buckets.fill(0);
                for block in blocks.into_iter().flatten() {
                    let buckets = distribution.of(block).buckets();
                    for (sum, bucket) in spread.buckets.iter_mut().zip(buckets) {
                        *sum += u64::from(bucket);
                    }
                }
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
