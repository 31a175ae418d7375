//! What was counted and has not been sent: for whoever takes this server's place.

use arctos_worker::shared::scoreboard::Counter;

use super::baseline::{Baselines, Sent, Source, Sums};
use crate::metrics::{CarriedTotals, Distribution, SlotTotals, Totals};

/// What a flush would say, slot by slot. `is_per_worker` is whether sources were sent one by one.
pub(super) fn unsent(
    totals: &Totals,
    baselines: &mut Baselines,
    is_per_worker: bool,
) -> CarriedTotals {
    let mut carried = CarriedTotals::default();
    let slots = totals.slots().map(|(slot, totals)| (Some(slot), totals));
    let sources = std::iter::once((None, totals.supervisor())).chain(slots);
    let mut whole =
        (!is_per_worker).then(|| Rest::beyond(baselines.of(Source::Whole), &Sums::whole(totals)));
    for (slot, totals) in sources {
        let source = slot.map_or(Source::Supervisor, Source::Slot);
        match &mut whole {
            // Nobody knows whose was sent, and it does not matter: nobody was told.
            Some(rest) => rest.allot(totals, carried.totals_mut(slot)),
            None => {
                let mut rest = Rest::beyond(baselines.of(source), &Sums::of(totals));
                rest.allot(totals, carried.totals_mut(slot));
            }
        }
    }
    carried
}

/// What a source has beyond what was sent of it.
struct Rest {
    counts: Vec<(Counter, u64)>,
    buckets: Vec<(Distribution, usize, u64)>,
}

impl Rest {
    fn beyond(sent: &Sent, sums: &Sums<'_>) -> Self {
        let mut gained = Vec::new();
        let mut buckets = Vec::new();
        for distribution in Distribution::ALL {
            sent.gains(distribution, sums, &mut gained);
            buckets.extend(gained.iter().map(|(index, n)| (distribution, *index, *n)));
        }
        Self { counts: sent.rises(sums).collect(), buckets }
    }

    /// Gives `to` as much of it as these totals have. The sum of a distribution stays where it is: nobody is
    /// sent it.
    fn allot(&mut self, of: &SlotTotals, to: &mut SlotTotals) {
        for (counter, left) in &mut self.counts {
            let n = of.count(*counter).min(*left);
            *left -= n;
            to.add_count(*counter, n);
        }
        for (distribution, index, left) in &mut self.buckets {
            let has = of.spread(*distribution).buckets.get(*index).copied().unwrap_or(0);
            let n = has.min(*left);
            *left -= n;
            to.add_spread(*distribution, std::time::Duration::ZERO, [(*index, n)].into_iter());
        }
    }
}

#[cfg(test)]
mod tests {
    use arctos_worker::shared::identity::{Generation, SlotId};
    use arctos_worker::shared::scoreboard::{Scoreboard, Side};

    use super::super::baseline::{Cell, Receipt};
    use super::*;

    /// Two slots with 5 and 7 requests, and as many durations; the supervisor with a reload.
    fn totals() -> Totals {
        let scoreboard = Scoreboard::create(2).unwrap();
        let mut totals = Totals::open(&scoreboard);
        scoreboard.header().counters.inc(Counter::ReloadOk);
        for (slot, n) in [(0, 5), (1, 7)] {
            let entry = scoreboard.entry(SlotId(slot), Side::A).unwrap();
            entry.assign(Generation(1));
            entry.counters.add(Counter::ReqDone, n);
            for _ in 0..n {
                entry.request_duration.record(std::time::Duration::from_micros(300));
            }
        }
        totals.read(&scoreboard);
        totals
    }

    fn count(carried: &CarriedTotals) -> (u64, u64) {
        let totals = || carried.slots().map(|(_, totals)| totals).chain([carried.supervisor()]);
        let durations = totals().map(|totals| totals.spread(Distribution::RequestDuration).count);
        (totals().map(|totals| totals.count(Counter::ReqDone)).sum(), durations.sum())
    }

    #[test]
    fn what_was_sent_of_a_slot_or_of_all_is_left_out_and_the_rest_stays_below_what_each_has() {
        for is_per_worker in [true, false] {
            let totals = totals();
            let mut baselines = Baselines::new();
            assert_eq!(count(&unsent(&totals, &mut baselines, is_per_worker)), (12, 12));
            let source = if is_per_worker { Source::Slot(SlotId(1)) } else { Source::Whole };
            baselines.commit(Receipt { source, cell: Cell::Count(Counter::ReqDone), n: 4 });
            let left = unsent(&totals, &mut baselines, is_per_worker);
            assert_eq!(count(&left), (8, 12));
            assert_eq!(left.supervisor().count(Counter::ReloadOk), 1);
            // Whoever has it all and takes this off has what was sent.
            let mut sent = CarriedTotals::of(&totals, None);
            sent.subtract(&left);
            assert_eq!(count(&sent), (4, 0));
        }
    }

    #[test]
    fn who_inherits_it_counts_and_sends_it_and_shows_it_once() {
        let mut own = totals();
        let left = unsent(&totals(), &mut Baselines::new(), true);
        left.add_to(&mut own);
        assert_eq!(count(&CarriedTotals::of(&own, None)), (24, 24));
        let mut before = CarriedTotals::of(&totals(), None);
        before.subtract(&left);
        assert_eq!(count(&CarriedTotals::of(&own, Some(&before))), (24, 24));
        assert_eq!(count(&unsent(&own, &mut Baselines::new(), true)), (24, 24));
    }
}
