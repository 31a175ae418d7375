use std::sync::mpsc;

use super::*;

/// A reader that records the pids that it read. The resident memory of a process is ten times its pid, and a tenth of
/// it is private. Reading the parts takes `cost`.
struct Recording {
    resident: mpsc::Sender<i32>,
    parts: mpsc::Sender<i32>,
    cost: Duration,
    error: Option<NoParts>,
}

impl ReadMemory for Recording {
    fn resident_bytes(&mut self, pid: Pid) -> Option<u64> {
        self.resident.send(pid.0).unwrap();
        u64::try_from(pid.0).ok().filter(|pid| *pid > 0).map(|pid| 10 * pid)
    }

    fn parts(&mut self, pid: Pid) -> (Result<MemoryParts, NoParts>, Duration) {
        self.parts.send(pid.0).unwrap();
        let pid = u64::try_from(pid.0).unwrap();
        let parts = MemoryParts { pss_bytes: 2 * pid, private_bytes: pid, shared_bytes: 9 * pid };
        (self.error.map_or(Ok(parts), Err), self.cost)
    }
}

/// The store, and the pids that it read since the last look.
struct Tested {
    memory: WorkerMemory<Recording>,
    resident: mpsc::Receiver<i32>,
    parts: mpsc::Receiver<i32>,
}

impl Tested {
    fn new(cost: Duration, error: Option<NoParts>) -> Self {
        let (note_resident, resident) = mpsc::channel();
        let (note_parts, parts) = mpsc::channel();
        let read = Recording { resident: note_resident, parts: note_parts, cost, error };
        Self { memory: WorkerMemory::new(read), resident, parts }
    }

    fn sample(&mut self, range: std::ops::Range<i32>, monotonic: Duration) -> Vec<i32> {
        let pids: Vec<Pid> = range.map(Pid).collect();
        self.memory.sample(&pids, monotonic);
        self.resident.try_iter().collect()
    }

    fn parts(&self) -> Vec<i32> {
        self.parts.try_iter().collect()
    }

    fn rss(&self, pid: i32) -> Option<u64> {
        self.memory.of(Pid(pid)).map(|known| known.rss_bytes)
    }

    fn measure(&mut self, sharers: Option<u16>, urgency: Urgency, now: Duration) -> Option<u64> {
        self.memory.measure(Pid(8), 70, sharers, urgency, now)
    }
}

const NOW: Duration = Duration::ZERO;

fn free() -> Tested {
    Tested::new(Duration::ZERO, None)
}

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn a_process_that_is_gone_has_no_value() {
    let mut tested = free();
    tested.sample(0..1, NOW);
    assert_eq!((tested.rss(0), tested.rss(1)), (None, None));
}

#[test]
fn a_sample_reads_eight_processes_and_the_next_one_continues() {
    let mut tested = free();
    assert_eq!(tested.sample(1..21, NOW), (1..9).collect::<Vec<_>>());
    assert_eq!((tested.rss(8), tested.rss(9)), (Some(80), None));
    assert_eq!(tested.sample(1..21, NOW), (9..17).collect::<Vec<_>>());
    assert_eq!(tested.sample(1..21, NOW), (17..21).chain(1..5).collect::<Vec<_>>());
    assert_eq!(tested.rss(20), Some(200));
}

#[test]
fn the_first_sample_reads_all_and_a_late_one_catches_up() {
    let mut tested = free();
    assert_eq!(tested.sample(1..21, s(1000)).len(), 20);
    assert_eq!(tested.sample(1..21, s(1002)), (1..9).collect::<Vec<_>>());
    assert_eq!(tested.sample(1..21, s(1005)), (9..21).collect::<Vec<_>>());
}

#[test]
fn a_few_processes_are_all_read_in_each_sample() {
    let mut tested = free();
    assert_eq!(tested.sample(1..4, NOW), [1, 2, 3]);
    assert_eq!(tested.sample(1..4, NOW), [1, 2, 3]);
}

#[test]
fn all_processes_are_read_on_demand() {
    let mut tested = free();
    let pids: Vec<Pid> = (1..21).map(Pid).collect();
    for _ in 0..2 {
        tested.memory.sample_all(&pids, s(1));
        assert_eq!(tested.resident.try_iter().count(), 20);
    }
    assert_eq!(tested.parts(), (1..21).collect::<Vec<_>>());
}

#[test]
fn a_new_process_is_read_at_once() {
    let mut tested = free();
    tested.sample(1..21, NOW);
    assert_eq!(tested.sample(1..22, NOW), [21, 9, 10, 11, 12, 13, 14, 15]);
}

#[test]
fn a_process_that_left_is_forgotten() {
    let mut tested = free();
    tested.sample(1..3, NOW);
    tested.sample(2..4, NOW);
    assert_eq!((tested.rss(1), tested.rss(2)), (None, Some(20)));
    tested.memory.forget(Pid(2));
    assert_eq!((tested.rss(2), tested.rss(3)), (None, Some(30)));
}

#[test]
fn the_parts_are_read_again_when_they_are_old() {
    let mut tested = free();
    tested.sample(1..3, s(10));
    assert_eq!(tested.parts(), [1, 2]);
    let parts = MemoryParts { pss_bytes: 4, private_bytes: 2, shared_bytes: 18 };
    let known = ProcessMemory { rss_bytes: 20, parts: Some(parts) };
    assert_eq!(tested.memory.of(Pid(2)), Some(known));
    tested.sample(1..3, ms(11_999));
    assert_eq!(tested.parts(), [0; 0]);
    tested.sample(1..4, s(12));
    assert_eq!(tested.parts(), [3, 1, 2], "a new process comes first");
}

#[test]
fn reading_takes_at_most_a_hundredth_of_the_time_in_the_long_run() {
    let mut tested = Tested::new(ms(30), None);
    tested.sample(1..21, s(1000));
    assert_eq!(tested.parts(), [1, 2, 3, 4], "the budget of the start is 100 ms");
    tested.sample(1..21, s(1002));
    assert_eq!(tested.parts(), [0; 0], "20 ms were too much, and 20 ms were added");
    let mut reads: Vec<i32> = (1003..2003)
        .flat_map(|second| {
            tested.sample(1..21, s(second));
            tested.parts()
        })
        .collect();
    assert!((330..=334).contains(&reads.len()), "{}", reads.len());
    reads[..16].sort_unstable();
    assert_eq!(reads[..16], (5..21).collect::<Vec<_>>(), "they are read in turn");
    tested.sample(1..21, s(100_000));
    assert_eq!(
        tested.parts().len(),
        4,
        "a long time allows for no more than 100 ms and a last read"
    );
}

#[test]
fn without_the_parts_only_the_resident_memory_is_read() {
    let mut tested = free();
    tested.memory.sample_resident(&[Pid(1)], s(5));
    assert_eq!((tested.rss(1), tested.parts()), (Some(10), vec![]));
}

#[test]
fn a_refusal_of_the_kernel_is_reported_once() {
    let mut tested = Tested::new(NOW, Some(NoParts::Unreadable(Errno::EACCES)));
    assert_eq!(tested.memory.take_refusal(), None);
    tested.sample(1..3, s(10));
    let known = ProcessMemory { rss_bytes: 10, parts: None };
    assert_eq!(tested.memory.of(Pid(1)), Some(known));
    assert_eq!(tested.memory.take_refusal(), Some(Errno::EACCES));
    tested.sample(1..3, s(20));
    assert_eq!(tested.memory.take_refusal(), None);
    let mut tested = Tested::new(NOW, Some(NoParts::Gone));
    tested.sample(1..3, s(10));
    assert_eq!(tested.memory.take_refusal(), None, "a process that has ended is no refusal");
}

#[test]
fn the_share_counts_only_if_the_resident_memory_exceeds_the_limit() {
    let mut tested = free();
    let patient = Urgency::Patient;
    assert_eq!(tested.memory.measure(Pid(8), 80, Some(2), patient, s(1)), Some(80));
    assert_eq!(tested.parts(), [0; 0]);
    assert_eq!(tested.memory.measure(Pid(8), 79, Some(2), patient, s(1)), Some(8 + 36));
    assert_eq!(tested.parts(), [8]);
    assert_eq!(tested.memory.measure(Pid(8), 79, None, patient, s(10)), Some(80));
    assert_eq!(tested.memory.measure(Pid(0), 79, Some(2), patient, s(10)), None, "it is gone");
    assert_eq!(tested.parts(), [0; 0]);
}

#[test]
fn where_the_kernel_does_not_tell_the_resident_memory_counts() {
    let mut tested = Tested::new(NOW, Some(NoParts::Unreadable(Errno::EACCES)));
    assert_eq!(tested.measure(Some(2), Urgency::Patient, s(1)), Some(80));
}

#[test]
fn a_patient_measurement_waits_for_the_budget_and_an_urgent_one_does_not() {
    let mut tested = Tested::new(s(1), None);
    assert_eq!(tested.measure(Some(2), Urgency::Patient, s(1)), Some(44));
    assert_eq!(tested.measure(Some(2), Urgency::Patient, s(10)), None);
    assert_eq!(tested.parts(), [8]);
    assert_eq!(tested.measure(Some(2), Urgency::Now, s(10)), Some(44));
    assert_eq!(tested.measure(Some(2), Urgency::Patient, s(11)), Some(44), "that is recent");
    assert_eq!(tested.parts(), [8]);
}
