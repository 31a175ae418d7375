//! The totals of a server and its predecessors, which it hands over to its successor in an upgrade.
//!
//! They are encoded by name and not in the layout of the scoreboard, because the new version may have other counters
//! and another layout. A new version is the usual reason for an upgrade, and must not reset the totals to 0.
//!
//! | line | meaning |
//! |---|---|
//! | `count SLOT NAME VALUE N` | a counter and the value of its own tag; `-` stands for no tag, and for the slot of the supervisor |
//! | `distribution SLOT NAME[;VALUE] SUM_NS START_NS:N ..` | a distribution: its buckets that are not 0, by their start |
//! | `help ..`, `sum ..`, `values ..` | application metrics ([`super::series`]) |

use std::collections::BTreeMap;
use std::fmt::Write;
use std::str::SplitAsciiWhitespace;
use std::time::Duration;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Counter, Histogram, StatusClass};

use super::series::SeriesTotals;
use super::{Distribution, SlotTotals, Totals};

/// The first line, with the version of the format.
const TITLE: &str = "arctos carried 2";

/// The totals of a server and its predecessors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CarriedTotals {
    supervisor: SlotTotals,
    slots: BTreeMap<u16, SlotTotals>,
    series: SeriesTotals,
}

impl CarriedTotals {
    /// The totals of this server, added to those of its predecessors.
    pub fn of(totals: &Totals, before: Option<&Self>) -> Self {
        let mut carried = before.cloned().unwrap_or_default();
        carried.supervisor.add(totals.supervisor());
        for (slot, counted) in totals.slots() {
            carried.slots.entry(slot.0).or_default().add(counted);
        }
        carried.series.add(totals.series(), |slot| slot);
        carried
    }

    /// Adds these totals to those of the server that has taken over.
    pub fn add_to(&self, totals: &mut Totals) {
        totals.add(&self.supervisor, self.slots(), &self.series);
    }

    /// The totals that supervisors count for themselves.
    pub fn supervisor(&self) -> &SlotTotals {
        &self.supervisor
    }

    /// The slots that ever had a worker, in order.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &SlotTotals)> {
        self.slots.iter().map(|(slot, totals)| (SlotId(*slot), totals))
    }

    /// The application metrics.
    pub fn series(&self) -> &SeriesTotals {
        &self.series
    }

    /// The application metrics.
    pub fn series_mut(&mut self) -> &mut SeriesTotals {
        &mut self.series
    }

    /// The totals of a slot, or of the supervisor.
    pub fn totals_mut(&mut self, slot: Option<SlotId>) -> &mut SlotTotals {
        match slot {
            None => &mut self.supervisor,
            Some(slot) => self.slots.entry(slot.0).or_default(),
        }
    }

    /// Adds the totals of another server.
    pub fn add(&mut self, other: &Self) {
        self.supervisor.add(&other.supervisor);
        for (slot, totals) in &other.slots {
            self.slots.entry(*slot).or_default().add(totals);
        }
        self.series.add(&other.series, |slot| slot);
    }

    /// Leaves out the series of the application that have no room beside those of this server, and returns their number.
    /// Only earlier servers have counted them. Without this limit, upgrades that change the definitions of metrics would
    /// collect the series of all versions.
    pub fn limit_series(&mut self, totals: &Totals) -> usize {
        self.series.make_room_for(totals.series())
    }

    /// Subtracts the totals of another server, except for the sums of distributions.
    pub fn subtract(&mut self, other: &Self) {
        self.supervisor.subtract(&other.supervisor);
        for (slot, totals) in &other.slots {
            if let Some(own) = self.slots.get_mut(slot) {
                own.subtract(totals);
            }
        }
        self.series.subtract(&other.series);
    }

    /// Encodes the totals for the successor.
    pub fn encode(&self) -> String {
        let mut text = format!("{TITLE}\n");
        encode(&mut text, "-", &self.supervisor);
        for (slot, totals) in &self.slots {
            encode(&mut text, &slot.to_string(), totals);
        }
        self.series.encode(&mut text);
        text
    }

    /// Decodes the totals of the predecessor. Metrics that this version does not know are left out. `None` if the
    /// text has another format.
    pub fn decode(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next() != Some(TITLE) {
            return None;
        }
        let mut carried = Self::default();
        for line in lines {
            let mut fields = line.split_ascii_whitespace();
            let kind = fields.next()?;
            if matches!(kind, "help" | "sum" | "values") {
                carried.series.decode_line(kind, fields)?;
                continue;
            }
            let totals = match fields.next()? {
                "-" => &mut carried.supervisor,
                slot => carried.slots.entry(slot.parse().ok()?).or_default(),
            };
            match kind {
                "count" => decode_count(fields, totals)?,
                "distribution" => decode_distribution(fields, totals)?,
                _ => return None,
            }
        }
        Some(carried)
    }
}

fn encode(text: &mut String, slot: &str, totals: &SlotTotals) {
    // Writing to a `String` cannot fail. Zeros are written, too, so that a slot without counts remains a slot.
    for counter in Counter::ALL {
        let (name, value) = (counter.statsd_name(), value_of(counter));
        let _ = writeln!(text, "count {slot} {name} {value} {}", totals.count(counter));
    }
    for distribution in Distribution::ALL {
        let sums = totals.distribution(distribution);
        let _ = write!(text, "distribution {slot} {} {}", name_of(distribution), ns(sums.sum));
        for (index, n) in sums.buckets.iter().enumerate().filter(|(_, n)| **n > 0) {
            let _ = write!(text, " {}:{n}", ns(Histogram::bounds(index).start));
        }
        text.push('\n');
    }
}

/// The value of a counter's own tag.
fn value_of(counter: Counter) -> &'static str {
    counter.tag().map_or("-", |(_, value)| value)
}

/// The name of a distribution, with the value of its own tag.
fn name_of(distribution: Distribution) -> String {
    let name = distribution.statsd_name();
    distribution.tag().map_or(name.to_owned(), |(_, value)| format!("{name};{value}"))
}

/// The name that servers used which did not distinguish statuses: nobody knows any more which ones they were.
fn former_name_of(distribution: Distribution) -> &'static str {
    match distribution.class() {
        Some(StatusClass::None) => distribution.statsd_name(),
        Some(_) | None => "",
    }
}

/// A duration in nanoseconds, at most 584 years.
fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn decode_count(mut fields: SplitAsciiWhitespace<'_>, totals: &mut SlotTotals) -> Option<()> {
    let (name, value) = (fields.next()?, fields.next()?);
    let n = fields.next()?.parse().ok()?;
    let matches =
        |counter: &&Counter| counter.statsd_name() == name && value_of(**counter) == value;
    if let Some(counter) = Counter::ALL.iter().find(matches) {
        totals.add_count(*counter, n);
    }
    Some(())
}

fn decode_distribution(
    mut fields: SplitAsciiWhitespace<'_>,
    totals: &mut SlotTotals,
) -> Option<()> {
    let name = fields.next()?;
    let sum = Duration::from_nanos(fields.next()?.parse().ok()?);
    let bucket = |field: &str| {
        let (start_ns, n) = field.split_once(':')?;
        let start = Duration::from_nanos(start_ns.parse().ok()?);
        Some((Histogram::index_of(start), n.parse().ok()?))
    };
    let buckets = fields.map(bucket).collect::<Option<Vec<_>>>()?;
    let mut all = Distribution::ALL.into_iter();
    if let Some(distribution) = all.find(|of| name_of(*of) == name || former_name_of(*of) == name) {
        totals.add_distribution(distribution, sum, buckets.into_iter());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use arctos_worker::shared::scoreboard::{Scoreboard, Side};

    use super::*;

    /// The totals of a server whose second slot has counted something.
    fn totals() -> Totals {
        let scoreboard = Scoreboard::create(3).unwrap();
        let mut totals = Totals::open(&scoreboard);
        scoreboard.header().counters.add(Counter::ReloadOk, 2);
        let entry = scoreboard.entry(SlotId(1), Side::B).unwrap();
        entry.counters.add(Counter::ReqDone, 7);
        entry.counters.inc(Counter::WorkerRestartsOom);
        for us in [3, 300, 300, u64::from(u32::MAX)] {
            entry.requests.duration(StatusClass::Success).record(Duration::from_micros(us));
        }
        totals.read(&scoreboard);
        totals
    }

    #[test]
    fn totals_survive_the_encoding() {
        let carried = CarriedTotals::of(&totals(), None);
        let read = CarriedTotals::decode(&carried.encode()).unwrap();
        assert_eq!(read, carried);
        assert_eq!(read.supervisor().count(Counter::ReloadOk), 2);
        let (slot, totals) = read.slots().next().unwrap();
        assert_eq!((slot, totals.count(Counter::ReqDone)), (SlotId(1), 7));
        assert_eq!(totals.distribution(Distribution::RequestDuration2xx).count, 4);
    }

    #[test]
    fn a_server_adds_to_the_totals_of_its_predecessors() {
        let first = CarriedTotals::of(&totals(), None);
        let second = CarriedTotals::of(&totals(), Some(&first));
        let third = CarriedTotals::of(&totals(), Some(&second));
        let (_, totals) = third.slots().next().unwrap();
        assert_eq!(totals.count(Counter::ReqDone), 21);
        let (one, three) = (first.slots().next().unwrap().1, totals);
        let distribution =
            |of: &SlotTotals| of.distribution(Distribution::RequestDuration2xx).clone();
        assert_eq!(distribution(three).count, 3 * distribution(one).count);
        assert_eq!(distribution(three).sum, 3 * distribution(one).sum);
    }

    #[test]
    fn unknown_metrics_are_left_out() {
        let text = format!(
            "{TITLE}\ncount 0 req.done - 4\ncount 0 req.new - 9\ndistribution 0 new.time 5 1:1\n"
        );
        let carried = CarriedTotals::decode(&text).unwrap();
        let (_, totals) = carried.slots().next().unwrap();
        let expected = SlotTotals::new();
        assert_eq!(totals.count(Counter::ReqDone), 4);
        assert_eq!(
            totals.distribution(Distribution::QueueWait),
            expected.distribution(Distribution::QueueWait)
        );
    }

    #[test]
    fn durations_of_a_version_that_knew_no_statuses_are_kept() {
        let text = format!("{TITLE}\ndistribution 0 request.duration 5 8100:2\n");
        let carried = CarriedTotals::decode(&text).unwrap();
        let totals = carried.slots().next().unwrap().1;
        let counts = Distribution::ALL.map(|of| totals.distribution(of).count);
        assert_eq!(counts.iter().sum::<u64>(), 2);
        assert_eq!(totals.distribution(Distribution::RequestDurationNone).count, 2);
    }

    #[test]
    fn a_bucket_is_identified_by_its_duration_and_not_by_its_index() {
        let text = format!("{TITLE}\ndistribution 0 queue.wait 5 8100:2 {}:1\n", u64::MAX);
        let carried = CarriedTotals::decode(&text).unwrap();
        let buckets =
            &carried.slots().next().unwrap().1.distribution(Distribution::QueueWait).buckets;
        assert_eq!(buckets[Histogram::index_of(Duration::from_nanos(8100))], 2);
        assert_eq!(buckets[Histogram::BUCKETS - 1], 1);
    }

    #[test]
    fn text_in_another_format_is_rejected() {
        for text in ["", "arctos carried 3\n", "x"] {
            assert_eq!(CarriedTotals::decode(text), None);
        }
        for line in [
            "count",
            "count x req.done - 1",
            "count 0 req.done - x",
            "distribution 0 x 1 1",
            "?  1",
        ] {
            assert_eq!(CarriedTotals::decode(&format!("{TITLE}\n{line}\n")), None, "{line}");
        }
    }
}
