//! What has been sent already, source by source: the next flush is what the totals has beyond it.
//!
//! Moved only by receipts, which a line carries: what they say is added when the kernel has accepted
//! the line's datagram, and taken off again when it turns out that the datagram arrived nowhere.

use std::borrow::Cow;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Counter, Histogram};

use crate::metrics::{Distribution, SlotTotals, Totals};

/// Whose sums a line tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Everybody's together.
    Whole,
    /// What the supervisor counts of itself.
    Supervisor,
    /// The workers of one slot.
    Slot(SlotId),
}

/// One sum of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// A counter.
    Count(Counter),
    /// A bucket of a distribution.
    Bucket {
        /// Which.
        distribution: Distribution,
        /// Below [`Histogram::BUCKETS`].
        index: usize,
    },
}

/// That a line says: this sum has risen by so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    /// Whose sum.
    pub source: Source,
    /// Which.
    pub cell: Cell,
    /// By how much.
    pub n: u64,
}

/// The sums of a source as the totals has them.
pub(super) struct Sums<'a> {
    counts: [u64; Counter::ALL.len()],
    buckets: [Cow<'a, [u64]>; Distribution::ALL.len()],
}

impl<'a> Sums<'a> {
    /// Those of one slot, or of the supervisor.
    pub(super) fn of(totals: &'a SlotTotals) -> Self {
        let buckets = |distribution| Cow::Borrowed(&*totals.spread(distribution).buckets);
        Self {
            counts: Counter::ALL.map(|counter| totals.count(counter)),
            buckets: Distribution::ALL.map(buckets),
        }
    }

    /// Those of everybody together.
    pub(super) fn whole(totals: &'a Totals) -> Self {
        let mut whole = Self::of(totals.supervisor());
        for (_, totals) in totals.slots() {
            let one = Self::of(totals);
            add(&mut whole.counts, &one.counts);
            for (sum, buckets) in whole.buckets.iter_mut().zip(&one.buckets) {
                add(sum.to_mut(), buckets);
            }
        }
        whole
    }

    /// The buckets of a distribution.
    pub(super) fn buckets(&self, distribution: Distribution) -> &[u64] {
        &self.buckets[distribution as usize]
    }
}

fn add(sums: &mut [u64], others: &[u64]) {
    for (sum, other) in sums.iter_mut().zip(others) {
        *sum = sum.saturating_add(*other);
    }
}

/// What has been sent of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    counts: [u64; Counter::ALL.len()],
    buckets: [Box<[u64]>; Distribution::ALL.len()],
}

impl Sent {
    fn nothing() -> Self {
        let buckets = || vec![0; Histogram::BUCKETS].into_boxed_slice();
        Self { counts: [0; Counter::ALL.len()], buckets: Distribution::ALL.map(|_| buckets()) }
    }

    /// The counters that have risen, and by how much.
    pub(super) fn rises(&self, sums: &Sums<'_>) -> impl Iterator<Item = (Counter, u64)> {
        let sent = Counter::ALL.into_iter().zip(self.counts).zip(sums.counts);
        sent.filter_map(|((counter, sent), sum)| match sum.saturating_sub(sent) {
            0 => None,
            n => Some((counter, n)),
        })
    }

    /// The buckets that have risen, and by how much. `gained` is emptied first.
    pub(super) fn gains(
        &self,
        distribution: Distribution,
        sums: &Sums<'_>,
        gained: &mut Vec<(usize, u64)>,
    ) {
        gained.clear();
        rises(&self.buckets[distribution as usize], sums.buckets(distribution), gained);
    }

    /// Counts these buckets as sent.
    pub(super) fn forget(&mut self, distribution: Distribution, gained: &[(usize, u64)]) {
        for (index, n) in gained {
            let bucket = &mut self.buckets[distribution as usize][*index];
            *bucket = bucket.saturating_add(*n);
        }
    }

    fn cell(&mut self, cell: Cell) -> &mut u64 {
        match cell {
            Cell::Count(counter) => &mut self.counts[counter as usize],
            Cell::Bucket { distribution, index } => &mut self.buckets[distribution as usize][index],
        }
    }
}

/// The places where `now` is more than `before`. Of 448 buckets a handful move between two flushes, so
/// whole stretches are compared at once.
fn rises(before: &[u64], now: &[u64], gained: &mut Vec<(usize, u64)>) {
    const STRETCH: usize = 16;
    if before == now {
        return;
    }
    let stretches = before.chunks(STRETCH).zip(now.chunks(STRETCH)).enumerate();
    for (stretch, (before, now)) in stretches.filter(|(_, (before, now))| before != now) {
        for (step, (before, now)) in before.iter().zip(now).enumerate() {
            match now.saturating_sub(*before) {
                0 => {}
                n => gained.push((stretch * STRETCH + step, n)),
            }
        }
    }
}

/// What has been sent of all sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Baselines {
    whole: Sent,
    supervisor: Sent,
    /// By slot. One that appears has sent nothing.
    slots: Vec<Sent>,
}

impl Baselines {
    /// Nothing has been sent.
    pub(super) fn new() -> Self {
        Self { whole: Sent::nothing(), supervisor: Sent::nothing(), slots: Vec::new() }
    }

    /// Of one source.
    pub(super) fn of(&mut self, source: Source) -> &mut Sent {
        match source {
            Source::Whole => &mut self.whole,
            Source::Supervisor => &mut self.supervisor,
            Source::Slot(slot) => {
                let index = usize::from(slot.0);
                if self.slots.len() <= index {
                    self.slots.resize_with(index + 1, Sent::nothing);
                }
                &mut self.slots[index]
            }
        }
    }

    /// The line with this receipt has been accepted.
    pub(super) fn commit(&mut self, receipt: Receipt) {
        let sum = self.of(receipt.source).cell(receipt.cell);
        *sum = sum.saturating_add(receipt.n);
    }

    /// It arrived nowhere after all.
    pub(super) fn take_back(&mut self, receipt: Receipt) {
        let sum = self.of(receipt.source).cell(receipt.cell);
        *sum = sum.saturating_sub(receipt.n);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stretches_find_what_a_look_at_each_bucket_finds(
            rise in prop::collection::vec((0..Histogram::BUCKETS, 0..9u64), 0..40),
            fall in 0..Histogram::BUCKETS,
        ) {
            let mut before = vec![5; Histogram::BUCKETS];
            let mut now = before.clone();
            before[fall] += 1;
            for (index, n) in rise {
                now[index] += n;
            }
            let each = before.iter().zip(&now).map(|(before, now)| now.saturating_sub(*before));
            let expected: Vec<_> = each.enumerate().filter(|(_, n)| *n > 0).collect();
            let mut gained = Vec::new();
            rises(&before, &now, &mut gained);
            prop_assert_eq!(gained, expected);
        }
    }

    #[test]
    fn what_is_taken_back_is_as_if_it_had_not_been_sent() {
        let mut baselines = Baselines::new();
        let source = Source::Slot(SlotId(3));
        let bucket = Cell::Bucket { distribution: Distribution::QueueWait, index: 7 };
        let _ = baselines.of(source); // There from now on.
        let before = baselines.clone();
        for cell in [Cell::Count(Counter::ReqDone), bucket] {
            let receipt = Receipt { source, cell, n: 12 };
            baselines.commit(receipt);
            assert_ne!(baselines, before);
            baselines.take_back(receipt);
            assert_eq!(baselines, before);
        }
    }
}
