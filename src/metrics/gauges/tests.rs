use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::scoreboard::Counter;

use super::*;
use crate::metrics::{ProcessMemory, Scope};
use crate::system::cgroup::{MemoryLimit, MemoryUse};
use crate::system::process_memory::MemoryParts;

/// A worker with so much resident memory, of which a tenth is private; 0 is unknown.
fn worker(slot: u16, rss_bytes: u64, entry: &'static WorkerEntry) -> WorkerSample {
    let (pss_bytes, private_bytes) = (rss_bytes / 2, rss_bytes / 10);
    let parts = MemoryParts { pss_bytes, private_bytes, shared_bytes: rss_bytes - private_bytes };
    let memory = (rss_bytes > 0).then_some(ProcessMemory { rss_bytes, parts: Some(parts) });
    WorkerSample { slot: SlotId(slot), entry, memory }
}

fn ready_entry() -> &'static WorkerEntry {
    let entry = WorkerEntry::detached();
    entry.set_ready();
    entry
}

fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn snapshot(at: Duration, workers: &[WorkerSample]) -> Snapshot {
    Snapshot {
        target: 4,
        workers: workers.to_vec(),
        queue: None,
        shared_connections: 3,
        cgroup: CgroupMemory {
            limit: Some(MemoryLimit { bytes: 512 << 20, file: "/memory.max".into() }),
            usage: Some(MemoryUse { used_bytes: 170 << 20, working_set_bytes: 130 << 20 }),
        },
        monotonic: at,
    }
}

fn sampler() -> Sampler {
    Sampler::since(Duration::ZERO, std::iter::empty())
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
fn every_gauge_is_measured_in_its_scope() {
    let gauges = sampler().sample(&snapshot(s(1), &[worker(0, 71, ready_entry())]));
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
fn a_server_without_workers_has_the_server_gauges() {
    let gauges = sampler().sample(&snapshot(s(1), &[]));
    let zeros = [Gauge::WorkersReady, Gauge::WorkersBusy, Gauge::WorkersUtilization];
    for gauge in zeros.into_iter().chain([Gauge::BacklogLen, Gauge::BacklogMax]) {
        assert_eq!(value(&gauges, gauge), 0.0, "{gauge:?}");
    }
    assert_eq!(value(&gauges, Gauge::WorkersTarget), 4.0);
    assert!(gauges.workers.is_empty());
}

#[test]
fn the_accept_queue_of_tcp_listeners_is_measured() {
    let queue = Some(AcceptQueue { len: 3, max: 2048 });
    let gauges = sampler().sample(&Snapshot { queue, ..snapshot(s(1), &[]) });
    assert_eq!(value(&gauges, Gauge::BacklogLen), 3.0);
    assert_eq!(value(&gauges, Gauge::BacklogMax), 2048.0);
}

#[test]
fn a_worker_that_is_not_ready_is_neither_ready_nor_busy() {
    let (booting, idle, busy) = (WorkerEntry::detached(), ready_entry(), ready_entry());
    booting.begin_request(s(1), b"GET", b"/");
    busy.begin_request(s(1), b"GET", b"/");
    let workers = [worker(0, 1, booting), worker(1, 2, idle), worker(2, 3, busy)];
    let gauges = sampler().sample(&snapshot(s(2), &workers));
    assert_eq!(value(&gauges, Gauge::WorkersReady), 2.0);
    assert_eq!(value(&gauges, Gauge::WorkersBusy), 1.0);
}

#[test]
fn utilization_includes_running_requests() {
    let (one, two) = (ready_entry(), ready_entry());
    let workers = [worker(0, 1, one), worker(1, 2, two)];
    let mut sampler = sampler();
    one.begin_request(s(50), b"GET", b"/");
    let first = sampler.sample(&snapshot(s(100), &workers));
    assert_eq!(value(&first, Gauge::WorkersUtilization), 0.0);
    one.end_call(s(102));
    two.begin_request(s(107), b"GET", b"/");
    let second = sampler.sample(&snapshot(s(110), &workers));
    assert_eq!(value(&second, Gauge::WorkersUtilization), 0.25);
    let third = sampler.sample(&snapshot(s(120), &workers));
    assert_eq!(value(&third, Gauge::WorkersUtilization), 0.5);
}

#[test]
fn a_new_worker_adds_nothing_to_its_first_sample() {
    let (old, new) = (ready_entry(), ready_entry());
    let mut sampler = sampler();
    sampler.sample(&snapshot(s(100), &[worker(0, 1, old)]));
    new.begin_request(s(0), b"GET", b"/");
    new.end_call(s(90));
    let workers = [worker(0, 1, old), worker(1, 2, new)];
    let gauges = sampler.sample(&snapshot(s(110), &workers));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.0);
    new.begin_request(s(110), b"GET", b"/");
    let gauges = sampler.sample(&snapshot(s(120), &workers));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.5);
}

#[test]
fn the_first_utilization_covers_the_time_since_the_start() {
    let scoreboard = Scoreboard::create(1).unwrap();
    let entry = scoreboard.entry(SlotId(0), Side::B).unwrap();
    entry.set_ready();
    entry.begin_request(s(50), b"GET", b"/");
    entry.end_call(s(60));
    let mut sampler = Sampler::open(&scoreboard, s(100));
    entry.begin_request(s(107), b"GET", b"/");
    let gauges = sampler.sample(&snapshot(s(110), &[worker(0, 1, entry)]));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.3);
}

#[test]
fn a_worker_in_a_used_slot_counts_from_its_first_request_on() {
    let entry = ready_entry();
    let mut sampler = sampler();
    sampler.sample(&snapshot(s(100), &[worker(0, 1, entry)]));
    sampler.sample(&snapshot(s(110), &[]));
    entry.begin_request(s(115), b"GET", b"/");
    let gauges = sampler.sample(&snapshot(s(120), &[worker(0, 2, entry)]));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.5);
}

#[test]
fn samples_in_quick_succession_repeat_the_utilization() {
    let ms = Duration::from_millis;
    let entry = ready_entry();
    let workers = [worker(0, 1, entry)];
    let mut sampler = sampler();
    sampler.sample(&snapshot(s(100), &workers));
    entry.begin_request(s(105), b"GET", b"/");
    let half = sampler.sample(&snapshot(s(110), &workers));
    assert_eq!(value(&half, Gauge::WorkersUtilization), 0.5);
    entry.end_call(s(110));
    for later in [1, 499] {
        let gauges = sampler.sample(&snapshot(s(110) + ms(later), &workers));
        assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.5, "after {later} ms");
    }
    entry.begin_request(s(111), b"GET", b"/");
    let gauges = sampler.sample(&snapshot(s(112), &workers));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.5, "of all the time since");
}

#[test]
fn a_worker_that_died_in_a_request_does_not_affect_its_successor() {
    let entry = ready_entry();
    let mut sampler = sampler();
    entry.begin_request(s(0), b"GET", b"/hangs");
    sampler.sample(&snapshot(s(100), &[worker(0, 1, entry)]));
    entry.assign(Generation(1));
    entry.set_ready();
    let gauges = sampler.sample(&snapshot(s(110), &[worker(0, 2, entry)]));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.0);
    entry.begin_request(s(110), b"GET", b"/");
    let gauges = sampler.sample(&snapshot(s(120), &[worker(0, 2, entry)]));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 1.0);
}

#[test]
fn no_worker_is_busy_for_longer_than_the_elapsed_time() {
    let (garbage, idle) = (ready_entry(), ready_entry());
    let workers = [worker(0, 1, garbage), worker(1, 2, idle)];
    let mut sampler = sampler();
    sampler.sample(&snapshot(s(100), &workers));
    garbage.begin_request(Duration::ZERO, b"GET", b"/");
    garbage.end_call(Duration::MAX);
    let gauges = sampler.sample(&snapshot(s(110), &workers));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.5);
}

#[test]
fn two_samples_at_one_moment_do_not_divide_by_zero() {
    let workers = [worker(0, 1, ready_entry())];
    let mut sampler = sampler();
    sampler.sample(&snapshot(s(100), &workers));
    let gauges = sampler.sample(&snapshot(s(100), &workers));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.0);
    let gauges = sampler.sample(&snapshot(s(99), &workers));
    assert_eq!(value(&gauges, Gauge::WorkersUtilization), 0.0);
}

#[test]
fn a_slot_with_two_workers_has_the_sum_of_both() {
    let (old, new) = (ready_entry(), WorkerEntry::detached());
    old.counters.add(Counter::ConnAcceptSuccess, 5);
    new.counters.add(Counter::ConnAcceptSuccess, 2);
    let workers = [worker(3, 1000, old), worker(1, 30, ready_entry()), worker(3, 500, new)];
    let gauges = sampler().sample(&snapshot(s(1), &workers));
    assert_eq!(of_slot(&gauges, 3, Gauge::ConnOpen), Some(7.0));
    assert_eq!(of_slot(&gauges, 3, Gauge::WorkerRss), Some(1500.0));
    assert_eq!(of_slot(&gauges, 3, Gauge::WorkerPss), Some(750.0));
    assert_eq!(of_slot(&gauges, 3, Gauge::WorkerPrivate), Some(150.0));
    let slots: Vec<_> = gauges.workers.iter().map(|(slot, _, _)| slot.0).collect();
    assert_eq!(slots, [1, 1, 1, 1, 3, 3, 3, 3]);
}

#[test]
fn an_impossible_number_of_connections_is_left_out() {
    let (garbage, sane) = (ready_entry(), ready_entry());
    garbage.counters.add(Counter::ConnAcceptSuccess, 1 << 60);
    sane.counters.add(Counter::ConnAcceptSuccess, 9);
    let workers = [worker(0, 1, garbage), worker(0, 2, sane), worker(1, 3, garbage)];
    let gauges = sampler().sample(&snapshot(s(1), &workers));
    assert_eq!(of_slot(&gauges, 0, Gauge::ConnOpen), Some(9.0));
    assert_eq!(of_slot(&gauges, 1, Gauge::ConnOpen), Some(0.0));
}

#[test]
fn a_process_that_is_gone_adds_no_memory_to_its_slot() {
    let workers = [worker(0, 0, ready_entry()), worker(1, 0, ready_entry())];
    let fellow = worker(1, 70, ready_entry());
    let gauges = sampler().sample(&snapshot(s(1), &[&workers[..], &[fellow]].concat()));
    assert_eq!(of_slot(&gauges, 0, Gauge::WorkerRss), None);
    assert_eq!(of_slot(&gauges, 1, Gauge::WorkerRss), Some(70.0));
    assert_eq!(of_slot(&gauges, 0, Gauge::ConnOpen), Some(0.0));
}

#[test]
fn what_is_unknown_of_the_memory_is_left_out() {
    let entry = ready_entry();
    let memory = Some(ProcessMemory { rss_bytes: 70, parts: None });
    let workers = [WorkerSample { memory, ..worker(0, 1, entry) }];
    let cgroup = CgroupMemory::default();
    let gauges = sampler().sample(&Snapshot { cgroup, ..snapshot(s(1), &workers) });
    assert_eq!(of_slot(&gauges, 0, Gauge::WorkerRss), Some(70.0));
    assert_eq!(of_slot(&gauges, 0, Gauge::WorkerPss), None);
    let memory = [Gauge::MemoryLimit, Gauge::MemoryUsed, Gauge::MemoryWorkingSet];
    assert!(!gauges.server.iter().any(|(gauge, _)| memory.contains(gauge)));
}

#[test]
fn the_memory_of_the_cgroup_is_that_of_the_server() {
    let gauges = sampler().sample(&snapshot(s(1), &[]));
    let mib = |gauge| value(&gauges, gauge) / f64::from(1 << 20);
    let all = [Gauge::MemoryLimit, Gauge::MemoryUsed, Gauge::MemoryWorkingSet].map(mib);
    assert_eq!(all, [512.0, 170.0, 130.0]);
}
