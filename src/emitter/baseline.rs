//! The totals that were sent already, per source: the next flush contains what the current totals have beyond them.
//!
//! Each line has the deltas that it reports. They are added to the baselines when the kernel has accepted the line's
//! datagram, and subtracted again when the datagram turns out to be lost.

use std::borrow::Cow;

use arctos_worker::shared::scoreboard::{Counter, Histogram};

use super::series::SentSeries;
use super::source::CountSource;
use crate::metrics::{Distribution, SlotTotals, Totals};

/// A sum of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SumKey {
    Count(Counter),
    /// A bucket of a distribution.
    Bucket {
        /// The distribution of the bucket.
        distribution: Distribution,
        /// The index, below [`Histogram::BUCKETS`].
        index: usize,
    },
}

/// The rise of one sum, as a line reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Delta {
    pub source: CountSource,
    pub key: SumKey,
    pub n: u64,
}

/// The current sums of a source.
pub(super) struct Sums<'a> {
    counts: [u64; Counter::ALL.len()],
    buckets: [Cow<'a, [u64]>; Distribution::ALL.len()],
}

impl<'a> Sums<'a> {
    /// The sums of one slot, or of the supervisor.
    pub(super) fn of(totals: &'a SlotTotals) -> Self {
        let buckets = |distribution| Cow::Borrowed(&*totals.distribution(distribution).buckets);
        Self {
            counts: Counter::ALL.map(|counter| totals.count(counter)),
            buckets: Distribution::ALL.map(buckets),
        }
    }

    /// The sums of all sources together.
    pub(super) fn all(totals: &'a Totals) -> Self {
        let mut all = Self::of(totals.supervisor());
        for (_, totals) in totals.slots() {
            let one = Self::of(totals);
            add(&mut all.counts, &one.counts);
            for (sum, buckets) in all.buckets.iter_mut().zip(&one.buckets) {
                add(sum.to_mut(), buckets);
            }
        }
        all
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

/// The sums of one source that were sent.
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

    /// The counters that have risen, and their rise.
    pub(super) fn rises(&self, sums: &Sums<'_>) -> impl Iterator<Item = (Counter, u64)> {
        let sent = Counter::ALL.into_iter().zip(self.counts).zip(sums.counts);
        sent.filter_map(|((counter, sent), sum)| match sum.saturating_sub(sent) {
            0 => None,
            n => Some((counter, n)),
        })
    }

    /// Adds the buckets that have risen, with their rise, to `gained`.
    pub(super) fn gains(
        &self,
        distribution: Distribution,
        sums: &Sums<'_>,
        gained: &mut Vec<(usize, u64)>,
    ) {
        rises(&self.buckets[distribution as usize], sums.buckets(distribution), gained);
    }

    /// Counts these buckets as sent.
    pub(super) fn skip(&mut self, distribution: Distribution, gained: &[(usize, u64)]) {
        for (index, n) in gained {
            let bucket = &mut self.buckets[distribution as usize][*index];
            *bucket = bucket.saturating_add(*n);
        }
    }

    fn sum_mut(&mut self, key: SumKey) -> &mut u64 {
        match key {
            SumKey::Count(counter) => &mut self.counts[counter as usize],
            SumKey::Bucket { distribution, index } => {
                &mut self.buckets[distribution as usize][index]
            }
        }
    }
}

/// Finds the indices at which `now` is greater than `before`. Of 448 buckets only a handful rise between two flushes,
/// so whole chunks are compared first.
fn rises(before: &[u64], now: &[u64], gained: &mut Vec<(usize, u64)>) {
    const CHUNK: usize = 16;
    if before == now {
        return;
    }
    let chunks = before.chunks(CHUNK).zip(now.chunks(CHUNK)).enumerate();
    for (chunk, (before, now)) in chunks.filter(|(_, (before, now))| before != now) {
        for (step, (before, now)) in before.iter().zip(now).enumerate() {
            match now.saturating_sub(*before) {
                0 => {}
                n => gained.push((chunk * CHUNK + step, n)),
            }
        }
    }
}

/// The sums of all sources that were sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Baselines {
    all: Sent,
    supervisor: Sent,
    /// By slot. Nothing was sent of a slot that appears later.
    slots: Vec<Sent>,
    /// The same for application metrics.
    pub(super) series: SentSeries,
}

impl Baselines {
    /// The state before the first flush.
    pub(super) fn new() -> Self {
        let series = SentSeries::default();
        Self { all: Sent::nothing(), supervisor: Sent::nothing(), slots: Vec::new(), series }
    }

    pub(super) fn of(&mut self, source: CountSource) -> &mut Sent {
        match source {
            CountSource::All => &mut self.all,
            CountSource::Supervisor => &mut self.supervisor,
            CountSource::Slot(slot) => {
                let index = usize::from(slot.0);
                if self.slots.len() <= index {
                    self.slots.resize_with(index + 1, Sent::nothing);
                }
                &mut self.slots[index]
            }
        }
    }

    /// Takes note that a delta was sent.
    pub(super) fn commit(&mut self, delta: Delta) {
        let sum = self.of(delta.source).sum_mut(delta.key);
        *sum = sum.saturating_add(delta.n);
    }

    /// Takes note that a delta was lost after all.
    pub(super) fn roll_back(&mut self, delta: Delta) {
        let sum = self.of(delta.source).sum_mut(delta.key);
        *sum = sum.saturating_sub(delta.n);
    }
}

#[cfg(test)]
mod tests {
    use arctos_worker::shared::identity::SlotId;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn comparing_chunks_finds_the_same_buckets(
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
    fn a_delta_that_is_rolled_back_leaves_no_trace() {
        let mut baselines = Baselines::new();
        let source = CountSource::Slot(SlotId(3));
        let bucket = SumKey::Bucket { distribution: Distribution::QueueWait, index: 7 };
        let _ = baselines.of(source); // The slot exists from now on.
        let before = baselines.clone();
        for key in [SumKey::Count(Counter::ReqDone), bucket] {
            let delta = Delta { source, key, n: 12 };
            baselines.commit(delta);
            assert_ne!(baselines, before);
            baselines.roll_back(delta);
            assert_eq!(baselines, before);
        }
    }
}
