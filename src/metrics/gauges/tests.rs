use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::scoreboard::Counter;

use super::*;
use crate::metrics::Scope;

fn occupant(slot: u16, pid: i32, entry: &'static WorkerEntry) -> WorkerSample {
    WorkerSample { slot: SlotId(slot), pid: Pid(pid), entry }
}

fn ready_block() -> &'static WorkerEntry {
    let entry = WorkerEntry::detached();
    entry.set_ready();
    entry
}

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn scene(at: Duration, occupants: &[WorkerSample]) -> Snapshot {
    Snapshot { target: 4, occupants: occupants.to_vec(), queue: None, monotonic: at }
}

/// A process has as many bytes as its number says; 0 is nobody.
fn sampler() -> Sampler {
    let read = |pid: Pid| u64::try_from(pid.0).ok().filter(|&bytes| bytes > 0);
    Sampler::since(Duration::ZERO, std::iter::empty(), ResidentSet::new(read))
}

fn value(gauges: &Gauges, gauge: Gauge) -> f64 {
    let found = gauges.server.iter().find(|(found, _)| *found == gauge);
    found.expect("it is always there").1
}

fn of_slot(gauges: &Gauges, slot: u16, gauge: Gauge) -> Option<f64> {
    let mut found = gauges.workers.iter();
    found.find(|(id, of, _)| (*id, *of) == (SlotId(slot), gauge)).map(|(_, _, value)| *value)
}

#[test]
fn every_gauge_is_there_each_in_its_scope() {
    let gauges = sampler().sample(&scene(s(1), &[occupant(0, 71, ready_block())]));
    for gauge in Gauge::ALL {
        let in_server = gauges.server.iter().filter(|(found, _)| *found == gauge).count();
        let in_workers = gauges.workers.iter().filter(|(_, found, _)| *found == gauge).count();
        let expected = match gauge.scope() {
            Scope::Server => (1, 0),
            Scope::Worker => (0, 1),
        };
        assert_eq!((in_server, in_workers), expected, "{gauge:?}");
    }
}

#[test]
fn a_server_without_workers_has_the_gauges_of_the_server() {
    let gauges = sampler().sample(&scene(s(1), &[]));
    let zeros = [Gauge::WorkersReady, Gauge::WorkersBusy, Gauge::WorkersUtilization];
    for gauge in zeros.into_iter().chain([Gauge::BacklogLen, Gauge::BacklogMax]) {
        assert_eq!(value(&gauges, gauge), 0.0, "{gauge:?}");
    }
    assert_eq!(value(&gauges, Gauge::WorkersTarget), 4.0);
    assert!(gauges.workers.is_empty());
}

#[test]
fn the_queue_of_tcp_listeners_is_told() {
    let queue = Some(AcceptQueue { len: 3, max: 2048 });
    let gauges = sampler().sample(&Snapshot { queue, ..scene(s(1), &[]) });
    assert_eq!(value(&gauges, Gauge::BacklogLen), 3.0);
    assert_eq!(value(&gauges, Gauge::BacklogMax), 2048.0);
}

#[test]
fn a_worker_that_is_not_ready_is_neither_ready_nor_busy() {
    let (booting, idle, busy) = (WorkerEntry::detached(), ready_block(), ready_block());
    booting.begin_request(s(1), b"GET", b"/");
    busy.begin_request(s(1), b"GET", b"/");
    let occupants = [occupant(0, 1, booting), occupant(1, 2, idle), occupant(2, 3, busy)];
    let gauges = sampler().sample(&scene(s(2), &occupants));
    assert_eq!(value(&gauges, Gauge::WorkersReady), 2.0);
    assert_eq!(value(&gauges, Gauge::WorkersBusy), 1.0);
}

#[test]
fn utilization_is_the_part_of_the_time_spent_in_requests_running_ones_included() {
    let (one, two) = (ready_block(), ready_block());
    let occupants = [occupant(0, 1, one), occupant(1, 2, two)];
    let mut sampler = sampler();
    one.begin_request(s(50), b"GET", b"/");
    let first = sampler.sample(&scene(s(100), &occupants));
    assert_eq!(value(&first, Gauge::WorkersUtilization), 0.0);
    one.end_call(s(102));
    two.begin_request(s(107), b"GET", b"/");
    let second = sampler.sample(&scene(s(110), &occupants));
    assert_eq!(value(&second, Gauge::WorkersUtilization), 0.25);
    let third = sampler.sample(&scene(s(120), &occupants));
    assert_eq!(value(&third, Gauge::WorkersUtilization), 0.5);
}

#[test]
fn a_worker_that_was_not_there_at_the_last_look_adds_nothing_yet() {
    let (old, new) = (ready_block(), ready_block());
    let mut sampler = sampler();
    sampler.sample(&scene(s(100), &[occupant(0, 1, old)]));
    new.begin_request(s(0), b"GET", b"/");
    new.end_call(s(90));
    let occupants = [occupant(0, 1, old), occupant(1, 2, new)];
    let gauges = sampler.sample(&scene(s(110), &occupants));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.0);
    new.begin_request(s(110), b"GET", b"/");
    let gauges = sampler.sample(&scene(s(120), &occupants));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.5);
}

#[test]
fn the_first_value_is_that_of_the_time_since_the_start() {
    let scoreboard = Scoreboard::create(1).unwrap();
    let entry = scoreboard.entry(SlotId(0), Side::B).unwrap();
    entry.set_ready();
    entry.begin_request(s(50), b"GET", b"/");
    entry.end_call(s(60));
    let mut sampler = Sampler::open(&scoreboard, s(100));
    entry.begin_request(s(107), b"GET", b"/");
    let gauges = sampler.sample(&scene(s(110), &[occupant(0, 1, entry)]));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.3);
}

#[test]
fn a_worker_in_the_place_of_one_that_left_counts_from_its_first_request_on() {
    let entry = ready_block();
    let mut sampler = sampler();
    sampler.sample(&scene(s(100), &[occupant(0, 1, entry)]));
    sampler.sample(&scene(s(110), &[]));
    entry.begin_request(s(115), b"GET", b"/");
    let gauges = sampler.sample(&scene(s(120), &[occupant(0, 2, entry)]));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.5);
}

#[test]
fn looks_in_quick_succession_say_the_same_and_take_no_time_from_each_other() {
    let ms = Duration::from_millis;
    let entry = ready_block();
    let occupants = [occupant(0, 1, entry)];
    let mut sampler = sampler();
    sampler.sample(&scene(s(100), &occupants));
    entry.begin_request(s(105), b"GET", b"/");
    let half = sampler.sample(&scene(s(110), &occupants));
    assert_eq!(value(&half, Gauge::WorkersUtilization), 0.5);
    entry.end_call(s(110));
    for later in [1, 499] {
        let gauges = sampler.sample(&scene(s(110) + ms(later), &occupants));
        assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.5, "after {later} ms");
    }
    entry.begin_request(s(111), b"GET", b"/");
    let gauges = sampler.sample(&scene(s(112), &occupants));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.5, "of all the time since");
}

#[test]
fn a_worker_that_died_in_a_request_leaves_its_successor_no_debt_and_no_credit() {
    let entry = ready_block();
    let mut sampler = sampler();
    entry.begin_request(s(0), b"GET", b"/hangs");
    sampler.sample(&scene(s(100), &[occupant(0, 1, entry)]));
    entry.assign(Generation(1));
    entry.set_ready();
    let gauges = sampler.sample(&scene(s(110), &[occupant(0, 2, entry)]));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.0);
    entry.begin_request(s(110), b"GET", b"/");
    let gauges = sampler.sample(&scene(s(120), &[occupant(0, 2, entry)]));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 1.0);
}

#[test]
fn nobody_is_busy_for_longer_than_time_has_passed() {
    let (garbage, idle) = (ready_block(), ready_block());
    let occupants = [occupant(0, 1, garbage), occupant(1, 2, idle)];
    let mut sampler = sampler();
    sampler.sample(&scene(s(100), &occupants));
    garbage.begin_request(Duration::ZERO, b"GET", b"/");
    garbage.end_call(Duration::MAX);
    let gauges = sampler.sample(&scene(s(110), &occupants));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.5);
}

#[test]
fn two_looks_at_one_moment_are_no_division_by_zero() {
    let occupants = [occupant(0, 1, ready_block())];
    let mut sampler = sampler();
    sampler.sample(&scene(s(100), &occupants));
    let gauges = sampler.sample(&scene(s(100), &occupants));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.0);
    let gauges = sampler.sample(&scene(s(99), &occupants));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.0);
}

#[test]
fn a_slot_with_two_occupants_has_the_sum_of_both() {
    let (old, new) = (ready_block(), WorkerEntry::detached());
    old.counters.add(Counter::ConnAcceptSuccess, 5);
    new.counters.add(Counter::ConnAcceptSuccess, 2);
    let occupants = [occupant(3, 1000, old), occupant(1, 30, ready_block()), occupant(3, 500, new)];
    let gauges = sampler().sample(&scene(s(1), &occupants));
    assert_eq!(of_slot(&gauges, 3, Gauge::ConnOpen), Some(7.0));
    assert_eq!(of_slot(&gauges, 3, Gauge::WorkerRss), Some(1500.0));
    let slots: Vec<_> = gauges.workers.iter().map(|(slot, _, _)| slot.0).collect();
    assert_eq!(slots, [1, 1, 3, 3]);
}

#[test]
fn connections_that_nobody_can_have_are_left_out() {
    let (garbage, sane) = (ready_block(), ready_block());
    garbage.counters.add(Counter::ConnAcceptSuccess, 1 << 60);
    sane.counters.add(Counter::ConnAcceptSuccess, 9);
    let occupants = [occupant(0, 1, garbage), occupant(0, 2, sane), occupant(1, 3, garbage)];
    let gauges = sampler().sample(&scene(s(1), &occupants));
    assert_eq!(of_slot(&gauges, 0, Gauge::ConnOpen), Some(9.0));
    assert_eq!(of_slot(&gauges, 1, Gauge::ConnOpen), Some(0.0));
}

#[test]
fn a_process_that_is_gone_has_no_memory_but_its_fellow_has() {
    let occupants = [occupant(0, 0, ready_block()), occupant(1, 0, ready_block())];
    let fellow = occupant(1, 70, ready_block());
    let gauges = sampler().sample(&scene(s(1), &[&occupants[..], &[fellow]].concat()));
    assert_eq!(of_slot(&gauges, 0, Gauge::WorkerRss), None);
    assert_eq!(of_slot(&gauges, 1, Gauge::WorkerRss), Some(70.0));
    assert_eq!(of_slot(&gauges, 0, Gauge::ConnOpen), Some(0.0));
}
