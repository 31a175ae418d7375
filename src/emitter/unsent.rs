//! The totals that were not sent, for the successor of this server.

use arctos_worker::shared::scoreboard::Counter;

use super::baseline::{Baselines, Sent, Sums};
use super::series::SeriesLines;
use super::source::CountSource;
use crate::metrics::series::SeriesTotals;
use crate::metrics::{CarriedTotals, Distribution, SlotTotals, Totals};

/// The totals that a flush would send, per slot. `is_per_worker` says whether the sources were sent one by one.
pub(super) fn unsent(
    totals: &Totals,
    baselines: &mut Baselines,
    is_per_worker: bool,
) -> CarriedTotals {
    let mut carried = CarriedTotals::default();
    let slots = totals.slots().map(|(slot, totals)| (Some(slot), totals));
    let sources = std::iter::once((None, totals.supervisor())).chain(slots);
    let mut summed = (!is_per_worker)
        .then(|| Unsent::beyond(baselines.of(CountSource::All), &Sums::all(totals)));
    for (slot, totals) in sources {
        let source = slot.map_or(CountSource::Supervisor, CountSource::Slot);
        match &mut summed {
            // The agent does not know the slots, so any slot that has these counts will do.
            Some(rest) => rest.allot(totals, carried.totals_mut(slot)),
            None => {
                let mut rest = Unsent::beyond(baselines.of(source), &Sums::of(totals));
                rest.allot(totals, carried.totals_mut(slot));
            }
        }
    }
    unsent_series(totals, baselines, is_per_worker, carried.series_mut());
    carried
}

/// The same for application metrics.
fn unsent_series(
    totals: &Totals,
    baselines: &Baselines,
    is_per_worker: bool,
    carried: &mut SeriesTotals,
) {
    for (id, series) in totals.series().series().filter(|(_, it)| SeriesLines::is_sent(it)) {
        if is_per_worker {
            for (counted_in, total) in &series.totals {
                let source = counted_in.map_or(CountSource::Supervisor, CountSource::Slot);
                if let Some(rest) = baselines.series.beyond(source, id, total) {
                    carried.add_total(&series.description, *counted_in, &rest);
                }
            }
        } else if let Some(mut rest) = baselines.series.beyond(CountSource::All, id, &series.sum())
        {
            // The agent does not know the slots, so any slot that has these counts will do.
            for (counted_in, total) in &series.totals {
                carried.add_total(&series.description, *counted_in, &rest.take(total));
            }
        }
    }
}

/// The part of a source's sums that was not sent.
struct Unsent {
    counts: Vec<(Counter, u64)>,
    buckets: Vec<(Distribution, usize, u64)>,
}

impl Unsent {
    fn beyond(sent: &Sent, sums: &Sums<'_>) -> Self {
        let mut gained = Vec::new();
        let mut buckets = Vec::new();
        for distribution in Distribution::ALL {
            gained.clear();
            sent.gains(distribution, sums, &mut gained);
            buckets.extend(gained.iter().map(|(index, n)| (distribution, *index, *n)));
        }
        Self { counts: sent.rises(sums).collect(), buckets }
    }

    /// Moves as much to `to` as these totals contain. The sums of distributions are left out, because they are never
    /// sent.
    fn allot(&mut self, of: &SlotTotals, to: &mut SlotTotals) {
        for (counter, left) in &mut self.counts {
            let n = of.count(*counter).min(*left);
            *left -= n;
            to.add_count(*counter, n);
        }
        for (distribution, index, left) in &mut self.buckets {
            let has = of.distribution(*distribution).buckets.get(*index).copied().unwrap_or(0);
            let n = has.min(*left);
            *left -= n;
            to.add_distribution(
                *distribution,
                std::time::Duration::ZERO,
                [(*index, n)].into_iter(),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use arctos_worker::shared::identity::{Generation, SlotId};
    use arctos_worker::shared::scoreboard::{Scoreboard, Side, StatusClass};

    use super::super::baseline::{Delta, SumKey};
    use super::*;

    /// Two slots with 5 and 7 requests and their durations, and a supervisor with a reload.
    fn totals() -> Totals {
        let scoreboard = Scoreboard::create(2).unwrap();
        let mut totals = Totals::open(&scoreboard);
        scoreboard.header().counters.inc(Counter::ReloadOk);
        for (slot, n) in [(0, 5), (1, 7)] {
            let entry = scoreboard.entry(SlotId(slot), Side::A).unwrap();
            entry.assign(Generation(1));
            entry.counters.add(Counter::ReqDone, n);
            for _ in 0..n {
                entry
                    .requests
                    .duration(StatusClass::Success)
                    .record(std::time::Duration::from_micros(300));
            }
        }
        totals.read(&scoreboard);
        totals
    }

    fn count(carried: &CarriedTotals) -> (u64, u64) {
        let totals = || carried.slots().map(|(_, totals)| totals).chain([carried.supervisor()]);
        let durations =
            totals().map(|totals| totals.distribution(Distribution::RequestDuration2xx).count);
        (totals().map(|totals| totals.count(Counter::ReqDone)).sum(), durations.sum())
    }

    #[test]
    fn totals_that_were_sent_are_left_out_for_one_slot_or_for_all() {
        for is_per_worker in [true, false] {
            let totals = totals();
            let mut baselines = Baselines::new();
            assert_eq!(count(&unsent(&totals, &mut baselines, is_per_worker)), (12, 12));
            let source =
                if is_per_worker { CountSource::Slot(SlotId(1)) } else { CountSource::All };
            baselines.commit(Delta { source, key: SumKey::Count(Counter::ReqDone), n: 4 });
            let left = unsent(&totals, &mut baselines, is_per_worker);
            assert_eq!(count(&left), (8, 12));
            assert_eq!(left.supervisor().count(Counter::ReloadOk), 1);
            // All totals without the unsent ones are those that were sent.
            let mut sent = CarriedTotals::of(&totals, None);
            sent.subtract(&left);
            assert_eq!(count(&sent), (4, 0));
        }
    }

    #[test]
    fn a_successor_counts_sends_and_shows_inherited_totals_once() {
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
