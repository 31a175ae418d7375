use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::scoreboard::StatusClass;
use proptest::prelude::*;

use super::*;

const SLOTS: u16 = 3;

fn entry(scoreboard: &Scoreboard, slot: u16, side: Side) -> &'static WorkerEntry {
    scoreboard.entry(SlotId(slot), side).unwrap()
}

fn totals(all: &Totals, slot: u16) -> &SlotTotals {
    let found = all.slots().find(|(id, _)| *id == SlotId(slot));
    found.map(|(_, totals)| totals).expect("the slot had a worker")
}

/// Writes garbage into the scoreboard, as a broken worker would.
fn scribble<T>(scoreboard: &Scoreboard, place: &T, offset: usize, bytes: &[u8]) {
    let start = std::ptr::from_ref(scoreboard.header()).addr();
    let offset = std::ptr::from_ref(place).addr() - start + offset;
    let file = File::from(scoreboard.as_fd().try_clone_to_owned().unwrap());
    file.write_all_at(bytes, offset as u64).unwrap();
}

fn scribble_count(scoreboard: &Scoreboard, slot: u16, side: Side, counter: Counter, value: u64) {
    let counters = &entry(scoreboard, slot, side).counters;
    scribble(scoreboard, counters, counter as usize * size_of::<u64>(), &value.to_ne_bytes());
    assert_eq!(counters.get(counter), value);
}

/// A `Histogram` consists of its count, its sum and its buckets.
fn scribble_bucket(scoreboard: &Scoreboard, histogram: &Histogram, bucket: usize, value: u32) {
    let offset = 2 * size_of::<u64>() + bucket * size_of::<u32>();
    scribble(scoreboard, histogram, offset, &value.to_ne_bytes());
    assert_eq!(histogram.buckets().nth(bucket), Some(value));
}

fn scribble_histogram_count(scoreboard: &Scoreboard, histogram: &Histogram, value: u64) {
    scribble(scoreboard, histogram, 0, &value.to_ne_bytes());
    assert_eq!(histogram.count(), value);
}

fn scribble_histogram_sum(scoreboard: &Scoreboard, histogram: &Histogram, value_ns: u64) {
    scribble(scoreboard, histogram, size_of::<u64>(), &value_ns.to_ne_bytes());
    assert_eq!(histogram.sum(), Duration::from_nanos(value_ns));
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn both_sides_of_a_slot_add_up() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut all = Totals::open(&scoreboard);
    entry(&scoreboard, 1, Side::A).counters.add(Counter::ReqDone, 3);
    entry(&scoreboard, 1, Side::B).counters.add(Counter::ReqDone, 4);
    entry(&scoreboard, 1, Side::A).queue_wait.record(ms(5));
    entry(&scoreboard, 1, Side::B).queue_wait.record(ms(7));
    all.read(&scoreboard);
    all.read(&scoreboard);
    assert_eq!(totals(&all, 1).count(Counter::ReqDone), 7);
    let sums = totals(&all, 1).distribution(Distribution::QueueWait);
    assert_eq!((sums.count, sums.sum), (2, ms(12)));
    assert_eq!(
        totals(&all, 1).distribution(Distribution::RequestDuration2xx),
        &DistributionTotals::new()
    );
}

#[test]
fn the_supervisors_own_counts_belong_to_no_slot() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut all = Totals::open(&scoreboard);
    scoreboard.header().counters.add(Counter::StatsdDropped, 2);
    all.read(&scoreboard);
    assert_eq!(all.supervisor().count(Counter::StatsdDropped), 2);
    assert_eq!(all.slots().count(), 0);
}

#[test]
fn a_slot_is_reported_from_its_first_worker_on() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut all = Totals::open(&scoreboard);
    all.read(&scoreboard);
    assert_eq!(all.slots().count(), 0);
    entry(&scoreboard, 2, Side::B).occupy(71);
    all.read(&scoreboard);
    entry(&scoreboard, 2, Side::B).assign(Generation(2));
    all.read(&scoreboard);
    assert_eq!(all.slots().map(|(slot, _)| slot).collect::<Vec<_>>(), [SlotId(2)]);
}

#[test]
fn a_worker_that_died_before_the_first_read_is_reported() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut all = Totals::open(&scoreboard);
    entry(&scoreboard, 0, Side::A).counters.inc(Counter::WorkerRestartsBoot);
    all.read(&scoreboard);
    assert_eq!(totals(&all, 0).count(Counter::WorkerRestartsBoot), 1);
}

#[test]
fn the_values_of_an_inherited_scoreboard_are_not_counted_again() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let old = entry(&scoreboard, 0, Side::A);
    old.counters.add(Counter::ReqDone, 1000);
    old.requests.duration(StatusClass::Success).record(ms(9));
    scoreboard.header().counters.inc(Counter::ReloadOk);
    let mut all = Totals::open(&scoreboard);
    assert_eq!(totals(&all, 0), &SlotTotals::new());
    all.read(&scoreboard);
    assert_eq!(totals(&all, 0), &SlotTotals::new());
    assert_eq!(all.supervisor(), &SlotTotals::new());
    old.counters.inc(Counter::ReqDone);
    old.requests.duration(StatusClass::Success).record(ms(9));
    all.read(&scoreboard);
    assert_eq!(totals(&all, 0).count(Counter::ReqDone), 1);
    assert_eq!(totals(&all, 0).distribution(Distribution::RequestDuration2xx).count, 1);
}

#[test]
fn an_implausible_count_changes_no_total_and_counting_continues() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut all = Totals::open(&scoreboard);
    let counters = &entry(&scoreboard, 0, Side::A).counters;
    counters.add(Counter::ReqDone, 10);
    all.read(&scoreboard);
    for garbage in [3, 5 + MAX_RISE, 0x7fff_1234_5678, u64::MAX - 1, 0] {
        let before = totals(&all, 0).count(Counter::ReqDone);
        scribble_count(&scoreboard, 0, Side::A, Counter::ReqDone, garbage);
        all.read(&scoreboard);
        assert_eq!(totals(&all, 0).count(Counter::ReqDone), before, "{garbage}");
        counters.inc(Counter::ReqDone);
        all.read(&scoreboard);
        assert_eq!(totals(&all, 0).count(Counter::ReqDone), before + 1, "{garbage}");
    }
    assert_eq!(totals(&all, 0).count(Counter::RespDone), 0);
}

#[test]
fn many_counts_between_two_reads_are_not_lost() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut all = Totals::open(&scoreboard);
    let nine_hours_of_a_gigabyte_a_second = 9 * 3600 * 1_000_000_000;
    entry(&scoreboard, 0, Side::A)
        .counters
        .add(Counter::BytesOut, nine_hours_of_a_gigabyte_a_second);
    all.read(&scoreboard);
    let counted = totals(&all, 0).count(Counter::BytesOut);
    assert_eq!(counted, nine_hours_of_a_gigabyte_a_second);
}

#[test]
fn a_bucket_that_wraps_keeps_counting() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let histogram = &entry(&scoreboard, 0, Side::A).queue_wait;
    entry(&scoreboard, 0, Side::A).occupy(71);
    let bucket = Histogram::index_of(Duration::from_micros(3));
    scribble_bucket(&scoreboard, histogram, bucket, u32::MAX - 1);
    let mut all = Totals::open(&scoreboard);
    for _ in 0..5 {
        histogram.record(Duration::from_micros(3));
    }
    assert_eq!(histogram.buckets().nth(bucket), Some(3));
    all.read(&scoreboard);
    let sums = totals(&all, 0).distribution(Distribution::QueueWait);
    assert_eq!((sums.count, sums.buckets[bucket]), (5, 5));
}

#[test]
fn an_implausible_bucket_changes_no_total() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut all = Totals::open(&scoreboard);
    let histogram = &entry(&scoreboard, 0, Side::A).queue_wait;
    entry(&scoreboard, 0, Side::A).occupy(71);
    histogram.record(Duration::from_micros(3));
    all.read(&scoreboard);
    let [spoiled, other] = [3, 7].map(|us| Histogram::index_of(Duration::from_micros(us)));
    for garbage in [0, 1000, u32::MAX] {
        let before = totals(&all, 0).distribution(Distribution::QueueWait).clone();
        scribble_bucket(&scoreboard, histogram, spoiled, garbage);
        histogram.record(Duration::from_micros(7));
        all.read(&scoreboard);
        let after = totals(&all, 0).distribution(Distribution::QueueWait);
        assert_eq!(after.buckets[spoiled], before.buckets[spoiled], "{garbage}");
        assert_eq!(after.buckets[other], before.buckets[other] + 1, "{garbage}");
        assert_eq!(after.count, before.count + 1, "{garbage}");
    }
}

#[test]
fn an_implausible_histogram_count_changes_no_total() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut all = Totals::open(&scoreboard);
    let histogram = &entry(&scoreboard, 0, Side::A).queue_wait;
    entry(&scoreboard, 0, Side::A).occupy(71);
    histogram.record(ms(1));
    all.read(&scoreboard);
    scribble_histogram_count(&scoreboard, histogram, u64::MAX / 2);
    all.read(&scoreboard);
    histogram.record(ms(1));
    all.read(&scoreboard);
    assert_eq!(totals(&all, 0).distribution(Distribution::QueueWait).count, 2);
}

#[test]
fn a_sum_that_exceeds_its_buckets_changes_no_total() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut all = Totals::open(&scoreboard);
    let histogram = &entry(&scoreboard, 0, Side::A).queue_wait;
    entry(&scoreboard, 0, Side::A).occupy(71);
    histogram.record(ms(1));
    all.read(&scoreboard);
    for garbage_ns in [0x5555_5555_0000, 0x7fff_1234_5678, u64::MAX - 10_000_000, 0] {
        scribble_histogram_sum(&scoreboard, histogram, garbage_ns);
        histogram.record(ms(1));
        all.read(&scoreboard);
        let before = totals(&all, 0).distribution(Distribution::QueueWait).sum;
        assert!(before <= ms(4), "{garbage_ns}: {before:?}");
        histogram.record(ms(1));
        all.read(&scoreboard);
        let after = totals(&all, 0).distribution(Distribution::QueueWait).sum;
        assert_eq!(after, before + ms(1), "{garbage_ns}");
    }
}

#[test]
fn a_response_that_took_days_is_part_of_the_sum() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut all = Totals::open(&scoreboard);
    let days = Duration::from_secs(30 * 24 * 60 * 60);
    entry(&scoreboard, 0, Side::A).occupy(71);
    entry(&scoreboard, 0, Side::A).requests.duration(StatusClass::Success).record(days);
    all.read(&scoreboard);
    assert_eq!(totals(&all, 0).distribution(Distribution::RequestDuration2xx).sum, days);
}

#[test]
fn count_and_buckets_agree_while_a_worker_records() {
    const RECORDS: u64 = 200_000;
    let scoreboard = Scoreboard::create(1).unwrap();
    let mut all = Totals::open(&scoreboard);
    let entry = entry(&scoreboard, 0, Side::A);
    entry.occupy(71);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for us in 0..RECORDS {
                entry.requests.duration(StatusClass::Success).record(Duration::from_micros(us));
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            all.read(&scoreboard);
            let sums = totals(&all, 0).distribution(Distribution::RequestDuration2xx);
            assert_eq!(sums.count, sums.buckets.iter().sum::<u64>());
        }
    });
    all.read(&scoreboard);
    let sums = totals(&all, 0).distribution(Distribution::RequestDuration2xx);
    assert_eq!(sums.count, RECORDS);
    assert_eq!(sums.sum, Duration::from_micros((0..RECORDS).sum()));
}

/// An event on a scoreboard.
#[derive(Clone, Debug)]
enum Event {
    Add { slot: u16, side: Side, counter: usize, n: u64 },
    Record { slot: u16, side: Side, distribution: Distribution, us: u64 },
    Assign { slot: u16, side: Side },
    Read,
    Garbage { slot: u16, side: Side, counter: usize, value: u64 },
    GarbageBucket { slot: u16, side: Side, bucket: usize, value: u32 },
}

fn slot_and_side() -> impl Strategy<Value = (u16, Side)> {
    (0..SLOTS, prop_oneof![Just(Side::A), Just(Side::B)])
}

fn distribution() -> impl Strategy<Value = Distribution> {
    prop_oneof![Just(Distribution::RequestDuration2xx), Just(Distribution::QueueWait)]
}

fn honest() -> impl Strategy<Value = Event> {
    let counter = 0..Counter::ALL.len();
    prop_oneof![
        4 => (slot_and_side(), counter, 0..1u64 << 32)
            .prop_map(|((slot, side), counter, n)| Event::Add { slot, side, counter, n }),
        4 => (slot_and_side(), distribution(), 0..1u64 << 32).prop_map(|((slot, side), distribution, us)| {
            Event::Record { slot, side, distribution, us }
        }),
        1 => slot_and_side().prop_map(|(slot, side)| Event::Assign { slot, side }),
        2 => Just(Event::Read),
    ]
}

/// Garbage that can be recognized: below everything that was counted, or above everything possible.
fn garbage() -> impl Strategy<Value = Event> {
    let value = prop_oneof![Just(0), 2 * MAX_RISE..=u64::MAX];
    let count = (slot_and_side(), 0..Counter::ALL.len(), value)
        .prop_map(|((slot, side), counter, value)| Event::Garbage { slot, side, counter, value });
    let bucket = (slot_and_side(), 0..Histogram::BUCKETS, any::<u32>()).prop_map(
        |((slot, side), bucket, value)| Event::GarbageBucket { slot, side, bucket, value },
    );
    prop_oneof![count, bucket]
}

fn happen(event: &Event, scoreboard: &Scoreboard, all: &mut Totals, expected: &mut [SlotTotals]) {
    match *event {
        Event::Add { slot, side, counter, n } => {
            entry(scoreboard, slot, side).counters.add(Counter::ALL[counter], n);
            expected[usize::from(slot)].counts[counter] += n;
        }
        Event::Record { slot, side, distribution, us } => {
            distribution.of(entry(scoreboard, slot, side)).record(Duration::from_micros(us));
            let sums = &mut expected[usize::from(slot)].distributions[distribution as usize];
            sums.count += 1;
            sums.sum += Duration::from_micros(us);
            sums.buckets[Histogram::index_of(Duration::from_micros(us))] += 1;
        }
        Event::Assign { slot, side } => {
            entry(scoreboard, slot, side).assign(Generation(2));
            entry(scoreboard, slot, side).occupy(72);
        }
        Event::Read => all.read(scoreboard),
        Event::Garbage { slot, side, counter, value } => {
            scribble_count(scoreboard, slot, side, Counter::ALL[counter], value);
        }
        Event::GarbageBucket { slot, side, bucket, value } => {
            scribble_bucket(scoreboard, &entry(scoreboard, slot, side).queue_wait, bucket, value);
        }
    }
}

fn occupied_scoreboard() -> Scoreboard {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    for slot in 0..SLOTS {
        entry(&scoreboard, slot, Side::A).occupy(71);
    }
    scoreboard
}

fn snapshot(all: &Totals) -> Vec<SlotTotals> {
    all.slots().map(|(_, totals)| totals.clone()).collect()
}

proptest! {
    #[test]
    fn totals_equal_the_counts_whenever_they_are_read(
        events in prop::collection::vec(honest(), 0..60),
    ) {
        let scoreboard = occupied_scoreboard();
        let mut all = Totals::open(&scoreboard);
        all.read(&scoreboard);
        let mut expected = vec![SlotTotals::new(); usize::from(SLOTS)];
        for event in &events {
            happen(event, &scoreboard, &mut all, &mut expected);
            if matches!(event, Event::Read) {
                prop_assert_eq!(&snapshot(&all), &expected);
            }
        }
        all.read(&scoreboard);
        prop_assert_eq!(&snapshot(&all), &expected);
    }

    #[test]
    fn garbage_never_makes_a_total_fall_or_exceed_the_counts(
        events in prop::collection::vec(prop_oneof![3 => honest(), 1 => garbage()], 0..80),
    ) {
        let scoreboard = occupied_scoreboard();
        let mut all = Totals::open(&scoreboard);
        all.read(&scoreboard);
        let mut counted = vec![SlotTotals::new(); usize::from(SLOTS)];
        let mut garbage_buckets = 0;
        for event in events.iter().chain([&Event::Read]) {
            let before = snapshot(&all);
            happen(event, &scoreboard, &mut all, &mut counted);
            garbage_buckets += u64::from(matches!(event, Event::GarbageBucket { .. }));
            for ((after, before), counted) in snapshot(&all).iter().zip(&before).zip(&counted) {
                for counter in Counter::ALL {
                    prop_assert!(after.count(counter) >= before.count(counter));
                    prop_assert!(after.count(counter) <= counted.count(counter));
                }
                for distribution in Distribution::ALL {
                    let (after, before) = (after.distribution(distribution), before.distribution(distribution));
                    let most = counted.distribution(distribution).count;
                    let most = most + garbage_buckets * (most + BETWEEN_STORES);
                    prop_assert!(before.count <= after.count && after.count <= most);
                    prop_assert_eq!(after.count, after.buckets.iter().sum::<u64>());
                }
            }
        }
    }
}
