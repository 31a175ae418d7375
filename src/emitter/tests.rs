//! Tests of the emitter as a whole: the content of flushes, the bookkeeping, and real sockets.

mod exactness;
mod flushes;
pub(super) mod refusals;
mod sockets;

use std::collections::BTreeMap;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::{Scoreboard, Side, WorkerEntry};

use super::*;
use crate::metrics::statsd::Format;

/// A configuration without tags.
pub(super) fn plain() -> Statsd {
    Statsd {
        target: Target::Udp { host: "127.0.0.1".to_owned(), port: 8125 },
        prefix: "arctos".to_owned(),
        interval: Duration::from_secs(2),
        format: Format::Plain,
        worker_tag: false,
        zone: None,
        tags: Vec::new(),
        external_env: None,
    }
}

/// A configuration with all kinds of tags.
pub(super) fn tagged() -> Statsd {
    Statsd {
        format: Format::Dogstatsd,
        worker_tag: true,
        zone: Some("x".to_owned()),
        tags: vec!["app:y".to_owned()],
        ..plain()
    }
}

/// A scoreboard with its totals and gauges.
struct Fixture {
    scoreboard: Scoreboard,
    totals: Totals,
    gauges: Gauges,
}

impl Fixture {
    fn new() -> Self {
        let scoreboard = Scoreboard::create(80).unwrap();
        let totals = Totals::open(&scoreboard);
        Self { scoreboard, totals, gauges: Gauges::default() }
    }

    /// The entry of a worker, which occupies it.
    fn worker(&self, slot: u16) -> &'static WorkerEntry {
        let entry = self.scoreboard.entry(SlotId(slot), Side::A).unwrap();
        entry.assign(Generation(1));
        entry.occupy(7);
        entry
    }

    fn read(&mut self) -> (&Totals, &Gauges) {
        self.totals.read(&self.scoreboard);
        (&self.totals, &self.gauges)
    }

    fn counters(&self) -> &'static Counters {
        &self.scoreboard.header().counters
    }

    fn dropped(&self) -> u64 {
        self.counters().get(Counter::StatsdDropped)
    }
}

/// The sums of all counters in these lines, by name and tags.
fn counted<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in lines {
        let (name, rest) = line.split_once(':').unwrap();
        let (value, rest) = rest.split_once('|').unwrap();
        if let Some(tags) = rest.strip_prefix('c') {
            *sums.entry(format!("{name}{tags}")).or_default() += value.parse::<u64>().unwrap();
        }
    }
    sums
}

/// How often each value of a distribution occurs in these lines, as the agent counts it.
fn expanded<'a>(lines: impl IntoIterator<Item = &'a str>) -> BTreeMap<(String, String), u64> {
    let mut counts = BTreeMap::new();
    for line in lines {
        let (name, rest) = line.split_once(':').unwrap();
        let mut fields = rest.split('|');
        let values = fields.next().unwrap();
        if fields.next() != Some("d") {
            continue;
        }
        let rate = fields.find_map(|field| field.strip_prefix('@'));
        let rate: f64 = rate.map_or(1.0, |rate| rate.parse().unwrap());
        for value in values.split(':') {
            *counts.entry((name.to_owned(), value.to_owned())).or_default() += (1.0 / rate) as u64;
        }
    }
    counts
}
