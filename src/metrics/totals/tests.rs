use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use arctos_worker::shared::identity::Generation;
use proptest::prelude::*;

use super::*;

const SLOTS: u16 = 3;

fn entry(scoreboard: &Scoreboard, slot: u16, side: Side) -> &'static WorkerEntry {
    scoreboard.entry(SlotId(slot), side).unwrap()
}

fn totals(ledger: &Totals, slot: u16) -> &SlotTotals {
    let found = ledger.slots().find(|(id, _)| *id == SlotId(slot));
    found.map(|(_, totals)| totals).expect("the slot had a worker")
}

/// Writes into the scoreboard as a worker would that has lost its way.
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

/// `Histogram` is its count, its sum, its buckets.
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
    let mut ledger = Totals::open(&scoreboard);
    entry(&scoreboard, 1, Side::A).counters.add(Counter::ReqDone, 3);
    entry(&scoreboard, 1, Side::B).counters.add(Counter::ReqDone, 4);
    entry(&scoreboard, 1, Side::A).queue_wait.record(ms(5));
    entry(&scoreboard, 1, Side::B).queue_wait.record(ms(7));
    ledger.read(&scoreboard);
    ledger.read(&scoreboard);
    assert_eq!(totals(&ledger, 1).count(Counter::ReqDone), 7);
    let spread = totals(&ledger, 1).spread(Distribution::QueueWait);
    assert_eq!((spread.count, spread.sum), (2, ms(12)));
    assert_eq!(
        totals(&ledger, 1).spread(Distribution::RequestDuration),
        &DistributionTotals::new()
    );
}

#[test]
fn the_supervisors_own_counts_belong_to_no_slot() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut ledger = Totals::open(&scoreboard);
    scoreboard.header().counters.add(Counter::StatsdDropped, 2);
    ledger.read(&scoreboard);
    assert_eq!(ledger.supervisor().count(Counter::StatsdDropped), 2);
    assert_eq!(ledger.slots().count(), 0);
}

#[test]
fn a_slot_is_told_of_from_its_first_occupant_on() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut ledger = Totals::open(&scoreboard);
    ledger.read(&scoreboard);
    assert_eq!(ledger.slots().count(), 0);
    entry(&scoreboard, 2, Side::B).occupy(71);
    ledger.read(&scoreboard);
    entry(&scoreboard, 2, Side::B).assign(Generation(2));
    ledger.read(&scoreboard);
    assert_eq!(ledger.slots().map(|(slot, _)| slot).collect::<Vec<_>>(), [SlotId(2)]);
}

#[test]
fn a_worker_that_died_before_anybody_looked_is_told_of() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut ledger = Totals::open(&scoreboard);
    entry(&scoreboard, 0, Side::A).counters.inc(Counter::WorkerRestartsBoot);
    ledger.read(&scoreboard);
    assert_eq!(totals(&ledger, 0).count(Counter::WorkerRestartsBoot), 1);
}

#[test]
fn what_an_inherited_board_says_is_not_counted_again() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let old = entry(&scoreboard, 0, Side::A);
    old.counters.add(Counter::ReqDone, 1000);
    old.request_duration.record(ms(9));
    scoreboard.header().counters.inc(Counter::ReloadOk);
    let mut ledger = Totals::open(&scoreboard);
    assert_eq!(totals(&ledger, 0), &SlotTotals::new());
    ledger.read(&scoreboard);
    assert_eq!(totals(&ledger, 0), &SlotTotals::new());
    assert_eq!(ledger.supervisor(), &SlotTotals::new());
    old.counters.inc(Counter::ReqDone);
    old.request_duration.record(ms(9));
    ledger.read(&scoreboard);
    assert_eq!(totals(&ledger, 0).count(Counter::ReqDone), 1);
    assert_eq!(totals(&ledger, 0).spread(Distribution::RequestDuration).count, 1);
}

#[test]
fn a_count_that_fell_or_leapt_moves_nothing_and_counting_goes_on_from_it() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut ledger = Totals::open(&scoreboard);
    let counters = &entry(&scoreboard, 0, Side::A).counters;
    counters.add(Counter::ReqDone, 10);
    ledger.read(&scoreboard);
    for garbage in [3, 5 + LARGEST_RISE, 0x7fff_1234_5678, u64::MAX - 1, 0] {
        let before = totals(&ledger, 0).count(Counter::ReqDone);
        scribble_count(&scoreboard, 0, Side::A, Counter::ReqDone, garbage);
        ledger.read(&scoreboard);
        assert_eq!(totals(&ledger, 0).count(Counter::ReqDone), before, "{garbage}");
        counters.inc(Counter::ReqDone);
        ledger.read(&scoreboard);
        assert_eq!(totals(&ledger, 0).count(Counter::ReqDone), before + 1, "{garbage}");
    }
    assert_eq!(totals(&ledger, 0).count(Counter::RespDone), 0);
}

#[test]
fn much_that_was_counted_while_nobody_looked_is_not_lost() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut ledger = Totals::open(&scoreboard);
    let nine_hours_of_a_gigabyte_a_second = 9 * 3600 * 1_000_000_000;
    entry(&scoreboard, 0, Side::A)
        .counters
        .add(Counter::BytesOut, nine_hours_of_a_gigabyte_a_second);
    ledger.read(&scoreboard);
    let counted = totals(&ledger, 0).count(Counter::BytesOut);
    assert_eq!(counted, nine_hours_of_a_gigabyte_a_second);
}

#[test]
fn a_bucket_goes_on_when_it_wraps() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let histogram = &entry(&scoreboard, 0, Side::A).queue_wait;
    entry(&scoreboard, 0, Side::A).occupy(71);
    let bucket = Histogram::index_of(Duration::from_micros(3));
    scribble_bucket(&scoreboard, histogram, bucket, u32::MAX - 1);
    let mut ledger = Totals::open(&scoreboard);
    for _ in 0..5 {
        histogram.record(Duration::from_micros(3));
    }
    assert_eq!(histogram.buckets().nth(bucket), Some(3));
    ledger.read(&scoreboard);
    let spread = totals(&ledger, 0).spread(Distribution::QueueWait);
    assert_eq!((spread.count, spread.buckets[bucket]), (5, 5));
}

#[test]
fn a_bucket_that_fell_or_rose_by_more_than_was_recorded_moves_nothing() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut ledger = Totals::open(&scoreboard);
    let histogram = &entry(&scoreboard, 0, Side::A).queue_wait;
    entry(&scoreboard, 0, Side::A).occupy(71);
    histogram.record(Duration::from_micros(3));
    ledger.read(&scoreboard);
    let [spoiled, other] = [3, 7].map(|us| Histogram::index_of(Duration::from_micros(us)));
    for garbage in [0, 1000, u32::MAX] {
        let before = totals(&ledger, 0).spread(Distribution::QueueWait).clone();
        scribble_bucket(&scoreboard, histogram, spoiled, garbage);
        histogram.record(Duration::from_micros(7));
        ledger.read(&scoreboard);
        let after = totals(&ledger, 0).spread(Distribution::QueueWait);
        assert_eq!(after.buckets[spoiled], before.buckets[spoiled], "{garbage}");
        assert_eq!(after.buckets[other], before.buckets[other] + 1, "{garbage}");
        assert_eq!(after.count, before.count + 1, "{garbage}");
    }
}

#[test]
fn a_histogram_whose_count_is_garbage_moves_nothing_and_goes_on_from_there() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut ledger = Totals::open(&scoreboard);
    let histogram = &entry(&scoreboard, 0, Side::A).queue_wait;
    entry(&scoreboard, 0, Side::A).occupy(71);
    histogram.record(ms(1));
    ledger.read(&scoreboard);
    scribble_histogram_count(&scoreboard, histogram, u64::MAX / 2);
    ledger.read(&scoreboard);
    histogram.record(ms(1));
    ledger.read(&scoreboard);
    assert_eq!(totals(&ledger, 0).spread(Distribution::QueueWait).count, 2);
}

#[test]
fn a_sum_that_rose_by_more_than_its_buckets_hold_moves_nothing_and_goes_on_from_there() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut ledger = Totals::open(&scoreboard);
    let histogram = &entry(&scoreboard, 0, Side::A).queue_wait;
    entry(&scoreboard, 0, Side::A).occupy(71);
    histogram.record(ms(1));
    ledger.read(&scoreboard);
    for garbage_ns in [0x5555_5555_0000, 0x7fff_1234_5678, u64::MAX - 10_000_000, 0] {
        scribble_histogram_sum(&scoreboard, histogram, garbage_ns);
        histogram.record(ms(1));
        ledger.read(&scoreboard);
        let before = totals(&ledger, 0).spread(Distribution::QueueWait).sum;
        assert!(before <= ms(4), "{garbage_ns}: {before:?}");
        histogram.record(ms(1));
        ledger.read(&scoreboard);
        let after = totals(&ledger, 0).spread(Distribution::QueueWait).sum;
        assert_eq!(after, before + ms(1), "{garbage_ns}");
    }
}

#[test]
fn a_response_that_was_sent_for_days_is_in_the_sum() {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    let mut ledger = Totals::open(&scoreboard);
    let days = Duration::from_secs(30 * 24 * 60 * 60);
    entry(&scoreboard, 0, Side::A).occupy(71);
    entry(&scoreboard, 0, Side::A).request_duration.record(days);
    ledger.read(&scoreboard);
    assert_eq!(totals(&ledger, 0).spread(Distribution::RequestDuration).sum, days);
}

#[test]
fn count_and_buckets_agree_while_a_worker_records_and_in_the_end_nothing_is_missing() {
    const RECORDS: u64 = 200_000;
    let scoreboard = Scoreboard::create(1).unwrap();
    let mut ledger = Totals::open(&scoreboard);
    let entry = entry(&scoreboard, 0, Side::A);
    entry.occupy(71);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for us in 0..RECORDS {
                entry.request_duration.record(Duration::from_micros(us));
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            ledger.read(&scoreboard);
            let spread = totals(&ledger, 0).spread(Distribution::RequestDuration);
            assert_eq!(spread.count, spread.buckets.iter().sum::<u64>());
        }
    });
    ledger.read(&scoreboard);
    let spread = totals(&ledger, 0).spread(Distribution::RequestDuration);
    assert_eq!(spread.count, RECORDS);
    assert_eq!(spread.sum, Duration::from_micros((0..RECORDS).sum()));
}

/// Something that happens to a scoreboard.
#[derive(Clone, Debug)]
enum Event {
    Add { slot: u16, side: Side, counter: usize, n: u64 },
    Record { slot: u16, side: Side, distribution: Distribution, us: u64 },
    Assign { slot: u16, side: Side },
    Read,
    Garbage { slot: u16, side: Side, counter: usize, value: u64 },
    GarbageBucket { slot: u16, side: Side, bucket: usize, value: u32 },
}

fn place() -> impl Strategy<Value = (u16, Side)> {
    (0..SLOTS, prop_oneof![Just(Side::A), Just(Side::B)])
}

fn distribution() -> impl Strategy<Value = Distribution> {
    prop_oneof![Just(Distribution::RequestDuration), Just(Distribution::QueueWait)]
}

fn honest() -> impl Strategy<Value = Event> {
    let counter = 0..Counter::ALL.len();
    prop_oneof![
        4 => (place(), counter, 0..1u64 << 32)
            .prop_map(|((slot, side), counter, n)| Event::Add { slot, side, counter, n }),
        4 => (place(), distribution(), 0..1u64 << 32).prop_map(|((slot, side), distribution, us)| {
            Event::Record { slot, side, distribution, us }
        }),
        1 => place().prop_map(|(slot, side)| Event::Assign { slot, side }),
        2 => Just(Event::Read),
    ]
}

/// Garbage that can be told: below everything that was counted, or above everything that can be.
fn garbage() -> impl Strategy<Value = Event> {
    let value = prop_oneof![Just(0), 2 * LARGEST_RISE..=u64::MAX];
    let count = (place(), 0..Counter::ALL.len(), value)
        .prop_map(|((slot, side), counter, value)| Event::Garbage { slot, side, counter, value });
    let bucket =
        (place(), 0..Histogram::BUCKETS, any::<u32>()).prop_map(|((slot, side), bucket, value)| {
            Event::GarbageBucket { slot, side, bucket, value }
        });
    prop_oneof![count, bucket]
}

fn happen(
    event: &Event,
    scoreboard: &Scoreboard,
    ledger: &mut Totals,
    expected: &mut [SlotTotals],
) {
    match *event {
        Event::Add { slot, side, counter, n } => {
            entry(scoreboard, slot, side).counters.add(Counter::ALL[counter], n);
            expected[usize::from(slot)].counts[counter] += n;
        }
        Event::Record { slot, side, distribution, us } => {
            distribution.of(entry(scoreboard, slot, side)).record(Duration::from_micros(us));
            let spread = &mut expected[usize::from(slot)].spreads[distribution as usize];
            spread.count += 1;
            spread.sum += Duration::from_micros(us);
            spread.buckets[Histogram::index_of(Duration::from_micros(us))] += 1;
        }
        Event::Assign { slot, side } => {
            entry(scoreboard, slot, side).assign(Generation(2));
            entry(scoreboard, slot, side).occupy(72);
        }
        Event::Read => ledger.read(scoreboard),
        Event::Garbage { slot, side, counter, value } => {
            scribble_count(scoreboard, slot, side, Counter::ALL[counter], value);
        }
        Event::GarbageBucket { slot, side, bucket, value } => {
            scribble_bucket(scoreboard, &entry(scoreboard, slot, side).queue_wait, bucket, value);
        }
    }
}

fn occupied_board() -> Scoreboard {
    let scoreboard = Scoreboard::create(SLOTS).unwrap();
    for slot in 0..SLOTS {
        entry(&scoreboard, slot, Side::A).occupy(71);
    }
    scoreboard
}

fn snapshot(ledger: &Totals) -> Vec<SlotTotals> {
    ledger.slots().map(|(_, totals)| totals.clone()).collect()
}

proptest! {
    #[test]
    fn totals_are_what_was_counted_whenever_they_are_read(
        events in prop::collection::vec(honest(), 0..60),
    ) {
        let scoreboard = occupied_board();
        let mut ledger = Totals::open(&scoreboard);
        ledger.read(&scoreboard);
        let mut expected = vec![SlotTotals::new(); usize::from(SLOTS)];
        for event in &events {
            happen(event, &scoreboard, &mut ledger, &mut expected);
            if matches!(event, Event::Read) {
                prop_assert_eq!(&snapshot(&ledger), &expected);
            }
        }
        ledger.read(&scoreboard);
        prop_assert_eq!(&snapshot(&ledger), &expected);
    }

    #[test]
    fn garbage_never_makes_a_total_fall_nor_rise_above_what_was_counted(
        events in prop::collection::vec(prop_oneof![3 => honest(), 1 => garbage()], 0..80),
    ) {
        let scoreboard = occupied_board();
        let mut ledger = Totals::open(&scoreboard);
        ledger.read(&scoreboard);
        let mut counted = vec![SlotTotals::new(); usize::from(SLOTS)];
        let mut garbage_buckets = 0;
        for event in events.iter().chain([&Event::Read]) {
            let before = snapshot(&ledger);
            happen(event, &scoreboard, &mut ledger, &mut counted);
            garbage_buckets += u64::from(matches!(event, Event::GarbageBucket { .. }));
            for ((after, before), counted) in snapshot(&ledger).iter().zip(&before).zip(&counted) {
                for counter in Counter::ALL {
                    prop_assert!(after.count(counter) >= before.count(counter));
                    prop_assert!(after.count(counter) <= counted.count(counter));
                }
                for distribution in Distribution::ALL {
                    let (after, before) = (after.spread(distribution), before.spread(distribution));
                    let most = counted.spread(distribution).count;
                    let most = most + garbage_buckets * (most + BETWEEN_STORES);
                    prop_assert!(before.count <= after.count && after.count <= most);
                    prop_assert_eq!(after.count, after.buckets.iter().sum::<u64>());
                }
            }
        }
    }
}
