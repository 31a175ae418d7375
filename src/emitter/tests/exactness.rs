//! Whatever is refused or lost: the lines that arrive add up to the counts.

use arctos_worker::shared::scoreboard::Histogram;
use proptest::prelude::*;

use super::super::distribution::value_ms;
use super::*;

/// The fate of a flush.
#[derive(Clone, Debug)]
enum Fate {
    /// All datagrams are accepted.
    Arrives,
    /// This number of datagrams is accepted, and the next one is refused.
    CutAfter(usize),
    /// This number of datagrams is accepted, and then turns out to be lost.
    LostAfter(usize),
}

/// The time between two flushes.
#[derive(Clone, Debug)]
struct Interval {
    /// The slot, the index of a counter, and its rise.
    counts: Vec<(u16, usize, u64)>,
    fate: Fate,
}

fn histories() -> impl Strategy<Value = Vec<Interval>> {
    let fate = prop_oneof![
        Just(Fate::Arrives),
        (0..4usize).prop_map(Fate::CutAfter),
        (0..9usize).prop_map(Fate::LostAfter),
    ];
    let count = (0..5u16, 0..Counter::ALL.len(), 1..1000u64);
    let interval = (prop::collection::vec(count, 0..60), fate);
    let interval = interval.prop_map(|(counts, fate)| Interval { counts, fate });
    prop::collection::vec(interval, 1..12)
}

fn check(statsd: &Statsd, history: Vec<Interval>) -> Result<(), TestCaseError> {
    let mut fixture = Fixture::new();
    let mut composer = Composer::new(statsd, 256);
    let mut in_flight = InFlight::new();
    let mut arrived: Vec<String> = Vec::new();
    let mut counts = BTreeMap::<&str, u64>::new();
    let mut durations = BTreeMap::new();
    let last = Interval { counts: Vec::new(), fate: Fate::Arrives };
    for Interval { counts: rises, fate } in history.into_iter().chain([last]) {
        for (slot, index, n) in rises {
            let worker = fixture.worker(slot);
            let counter = Counter::ALL[index];
            worker.counters.add(counter, n);
            *counts.entry(counter.statsd_name()).or_default() += n;
            let bucket = n as usize % Histogram::BUCKETS;
            worker.queue_wait.record(Histogram::bounds(bucket).start);
            let key = ("arctos.queue.wait".to_owned(), value_ms(bucket).to_string());
            *durations.entry(key).or_default() += 1;
        }
        let (totals, gauges) = fixture.read();
        in_flight.load(|baselines| composer.compose(totals, gauges, baselines));
        let accepted = match fate {
            Fate::Arrives => usize::MAX,
            Fate::CutAfter(count) | Fate::LostAfter(count) => count,
        };
        let mut texts = Vec::new();
        while let Some(text) = in_flight.next().filter(|_| texts.len() < accepted) {
            texts.push(text.to_owned());
            in_flight.accept();
        }
        in_flight.discard();
        match fate {
            Fate::LostAfter(_) => prop_assert_eq!(in_flight.roll_back(), texts.len() as u64),
            Fate::Arrives | Fate::CutAfter(_) => arrived.extend(texts),
        }
    }
    let mut sums = BTreeMap::<String, u64>::new();
    let lines: Vec<_> = arrived.iter().flat_map(|text| text.lines()).collect();
    for (name, n) in counted(lines.iter().copied()) {
        let name = name.split('|').next().unwrap().strip_prefix("arctos.").unwrap();
        *sums.entry(name.to_owned()).or_default() += n;
    }
    let counts: BTreeMap<_, _> = counts.into_iter().map(|(name, n)| (name.to_owned(), n)).collect();
    prop_assert_eq!(sums, counts);
    if statsd.format == Format::Dogstatsd {
        prop_assert_eq!(expanded(lines), durations);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn lines_add_up_with_a_tag_per_worker(history in histories()) {
        check(&tagged(), history)?;
    }

    #[test]
    fn lines_add_up_without_a_tag_per_worker(history in histories()) {
        check(&Statsd { worker_tag: false, ..tagged() }, history)?;
    }

    #[test]
    fn plain_lines_add_up(history in histories()) {
        check(&plain(), history)?;
    }
}
