//! SlotTotals of a whole server and those before it, as they are handed from one to the next in an upgrade.
//!
//! By name, and not as the scoreboard has them: a new version may have counters that the old one has not, and
//! lay its scoreboard out otherwise. That is when upgrades are made, and no reason to begin at 0.
//!
//! | line | meaning |
//! |---|---|
//! | `count SLOT NAME REASON N` | a counter; `-` for no reason, and for the supervisor's own |
//! | `spread SLOT NAME SUM_NS START_NS:N ..` | a distribution: only buckets that are not 0, by the shortest duration that they count |

use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::SplitAsciiWhitespace;
use std::time::Duration;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Counter, Histogram};

use super::{Distribution, SlotTotals, Totals};

/// The first line, with the version of the notation.
const TITLE: &str = "arctos carried 2";

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarriedTotals {
    supervisor: SlotTotals,
    slots: BTreeMap<u16, SlotTotals>,
}

impl CarriedTotals {
    /// What this server has counted, over what those before it have.
    pub fn of(ledger: &Totals, before: Option<&Self>) -> Self {
        let mut carried = before.cloned().unwrap_or_default();
        carried.supervisor.add(ledger.supervisor());
        for (slot, totals) in ledger.slots() {
            carried.slots.entry(slot.0).or_default().add(totals);
        }
        carried
    }

    /// Adds these to the totals of the server that has taken over.
    pub fn add_to(&self, totals: &mut Totals) {
        totals.add(&self.supervisor, self.slots());
    }

    /// What supervisors count of themselves.
    pub fn supervisor(&self) -> &SlotTotals {
        &self.supervisor
    }

    /// The slots that ever had a worker, in order.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &SlotTotals)> {
        self.slots.iter().map(|(slot, totals)| (SlotId(*slot), totals))
    }

    /// Those of a slot, or of the supervisor.
    pub fn totals_mut(&mut self, slot: Option<SlotId>) -> &mut SlotTotals {
        match slot {
            None => &mut self.supervisor,
            Some(slot) => self.slots.entry(slot.0).or_default(),
        }
    }

    /// Adds what others have counted.
    pub fn add(&mut self, other: &Self) {
        self.supervisor.add(&other.supervisor);
        for (slot, totals) in &other.slots {
            self.slots.entry(*slot).or_default().add(totals);
        }
    }

    /// Takes off what others have; the sums of distributions stay.
    pub fn subtract(&mut self, other: &Self) {
        self.supervisor.subtract(&other.supervisor);
        for (slot, totals) in &other.slots {
            if let Some(own) = self.slots.get_mut(slot) {
                own.subtract(totals);
            }
        }
    }

    /// For the next server.
    pub fn encode(&self) -> String {
        let mut text = format!("{TITLE}\n");
        encode(&mut text, "-", &self.supervisor);
        for (slot, totals) in &self.slots {
            encode(&mut text, &slot.to_string(), totals);
        }
        text
    }

    /// From the server before. What it counted and this version does not know is left out. `None`: that
    /// is no such text.
    pub fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return None;
        }
        let mut carried = Self::default();
        for line in lines {
            let mut words = line.split_ascii_whitespace();
            let (kind, slot) = (words.next()?, words.next()?);
            let totals = match slot {
                "-" => &mut carried.supervisor,
                slot => carried.slots.entry(slot.parse().ok()?).or_default(),
            };
            match kind {
                "count" => decode_count(words, totals)?,
                "spread" => decode_spread(words, totals)?,
                _ => return None,
            }
        }
        Some(carried)
    }
}

fn encode(text: &mut String, slot: &str, totals: &SlotTotals) {
    // A String takes all that is written to it. Zeros, too: a slot without a count is a slot.
    for counter in Counter::ALL {
        let (name, reason) = (counter.statsd_name(), counter.reason().unwrap_or("-"));
        let _ = writeln!(text, "count {slot} {name} {reason} {}", totals.count(counter));
    }
    for distribution in Distribution::ALL {
        let spread = totals.spread(distribution);
        let _ = write!(text, "spread {slot} {} {}", distribution.statsd_name(), ns(spread.sum));
        for (index, n) in spread.buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
            let _ = write!(text, " {}:{n}", ns(Histogram::bounds(index).start));
        }
        text.push('\n');
    }
}

/// As much as a word can say: 584 years.
fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn decode_count(mut words: SplitAsciiWhitespace<'_>, totals: &mut SlotTotals) -> Option<()> {
    let (name, reason) = (words.next()?, words.next()?);
    let n = words.next()?.parse().ok()?;
    let is_meant = |counter: &&Counter| {
        counter.statsd_name() == name && counter.reason().unwrap_or("-") == reason
    };
    if let Some(counter) = Counter::ALL.iter().find(is_meant) {
        totals.add_count(*counter, n);
    }
    Some(())
}

fn decode_spread(mut words: SplitAsciiWhitespace<'_>, totals: &mut SlotTotals) -> Option<()> {
    let name = words.next()?;
    let sum = Duration::from_nanos(words.next()?.parse().ok()?);
    let bucket = |word: &str| {
        let (start_ns, n) = word.split_once(':')?;
        let start = Duration::from_nanos(start_ns.parse().ok()?);
        Some((Histogram::index_of(start), n.parse().ok()?))
    };
    let buckets = words.map(bucket).collect::<Option<Vec<_>>>()?;
    let mut all = Distribution::ALL.into_iter();
    if let Some(distribution) = all.find(|distribution| distribution.statsd_name() == name) {
        totals.add_spread(distribution, sum, buckets.into_iter());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use arctos_worker::shared::scoreboard::{Scoreboard, Side};

    use super::*;

    /// A server whose second slot has done something.
    fn ledger() -> Totals {
        let scoreboard = Scoreboard::create(3).unwrap();
        let mut ledger = Totals::open(&scoreboard);
        scoreboard.header().counters.add(Counter::ReloadOk, 2);
        let entry = scoreboard.entry(SlotId(1), Side::B).unwrap();
        entry.counters.add(Counter::ReqDone, 7);
        entry.counters.inc(Counter::WorkerRestartsOom);
        for us in [3, 300, 300, u64::from(u32::MAX)] {
            entry.request_duration.record(Duration::from_micros(us));
        }
        ledger.read(&scoreboard);
        ledger
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        let carried = CarriedTotals::of(&ledger(), None);
        let read = CarriedTotals::decode(&carried.encode()).unwrap();
        assert_eq!(read, carried);
        assert_eq!(read.supervisor().count(Counter::ReloadOk), 2);
        let (slot, totals) = read.slots().next().unwrap();
        assert_eq!((slot, totals.count(Counter::ReqDone)), (SlotId(1), 7));
        assert_eq!(totals.spread(Distribution::RequestDuration).count, 4);
    }

    #[test]
    fn a_server_adds_to_what_those_before_it_have_counted() {
        let first = CarriedTotals::of(&ledger(), None);
        let second = CarriedTotals::of(&ledger(), Some(&first));
        let third = CarriedTotals::of(&ledger(), Some(&second));
        let (_, totals) = third.slots().next().unwrap();
        assert_eq!(totals.count(Counter::ReqDone), 21);
        let (one, three) = (first.slots().next().unwrap().1, totals);
        let spread = |of: &SlotTotals| of.spread(Distribution::RequestDuration).clone();
        assert_eq!(spread(three).count, 3 * spread(one).count);
        assert_eq!(spread(three).sum, 3 * spread(one).sum);
    }

    #[test]
    fn what_this_version_does_not_know_is_left_out() {
        let text = format!(
            "{TITLE}\ncount 0 req.done - 4\ncount 0 req.new - 9\nspread 0 new.time 5 1:1\n"
        );
        let carried = CarriedTotals::decode(&text).unwrap();
        let (_, totals) = carried.slots().next().unwrap();
        let expected = SlotTotals::new();
        assert_eq!(totals.count(Counter::ReqDone), 4);
        assert_eq!(
            totals.spread(Distribution::QueueWait),
            expected.spread(Distribution::QueueWait)
        );
    }

    #[test]
    fn a_bucket_is_told_by_its_duration_and_not_by_its_place() {
        let text = format!("{TITLE}\nspread 0 queue.wait 5 8100:2 {}:1\n", u64::MAX);
        let carried = CarriedTotals::decode(&text).unwrap();
        let buckets = &carried.slots().next().unwrap().1.spread(Distribution::QueueWait).buckets;
        assert_eq!(buckets[Histogram::index_of(Duration::from_nanos(8100))], 2);
        assert_eq!(buckets[Histogram::BUCKETS - 1], 1);
    }

    #[test]
    fn what_is_no_such_text_is_refused() {
        for text in ["", "arctos carried 3\n", "x"] {
            assert_eq!(CarriedTotals::decode(text), None);
        }
        for line in
            ["count", "count x req.done - 1", "count 0 req.done - x", "spread 0 x 1 1", "?  1"]
        {
            assert_eq!(CarriedTotals::decode(&format!("{TITLE}\n{line}\n")), None, "{line}");
        }
    }
}
