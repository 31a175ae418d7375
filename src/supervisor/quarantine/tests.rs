use super::*;

const T: Duration = Duration::from_secs(60);

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A quarantine, its clock, and the number of the last worker.
struct Rig {
    quarantine: Quarantine,
    now: Instant,
    pid: i32,
}

impl Rig {
    /// Three incidents within a minute begin a quarantine.
    fn new() -> Self {
        let quarantine = Quarantine::new(Some(QuarantineLimits { incidents: 3, within: T }));
        Self { quarantine, now: Instant::now(), pid: 0 }
    }

    fn key(path: &str) -> RequestKey {
        let word = path.bytes().fold(7, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
        RequestKey::from_word(word).unwrap()
    }

    fn incident(&self, path: &str) -> Incident {
        let name = RequestName { method: "GET".to_owned(), path: path.to_owned(), is_cut: false };
        Incident { key: Self::key(path), name, pid: Pid(self.pid), started: s(5) }
    }

    /// Another worker dies in a request with this path. Returns the changes.
    fn dies(&mut self, path: &str) -> Vec<String> {
        self.pid += 1;
        self.quarantine.record(self.incident(path), self.now);
        self.changes()
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        self.quarantine.check_deadlines(self.now);
        self.changes()
    }

    fn changes(&mut self) -> Vec<String> {
        let now = self.now;
        let shown = |change: &Change| match change {
            Change::Began(it) => {
                format!("{} begins: {}, {:?}", it.name.path, it.incidents, it.until - now)
            }
            Change::Prolonged(it) => {
                format!("{} goes on: {}, {:?}", it.name.path, it.incidents, it.until - now)
            }
            Change::Ended { request, cause } => {
                format!("{} ends: {}", request.name.path, cause.word())
            }
        };
        self.quarantine.take_changes().iter().map(shown).collect()
    }
}

#[test]
fn the_third_incident_within_the_time_begins_a_quarantine_that_lasts_as_long() {
    let mut rig = Rig::new();
    assert!(rig.dies("/a").is_empty());
    rig.after(s(30));
    assert!(rig.dies("/a").is_empty());
    rig.after(s(29));
    assert_eq!(rig.dies("/a"), ["/a begins: 3, 60s"]);
    assert_eq!(rig.quarantine.next_deadline(), Some(rig.now + T));
    assert!(rig.after(s(59)).is_empty());
    assert_eq!(rig.after(s(1)), ["/a ends: expired"]);
    assert_eq!(rig.quarantine.next_deadline(), None);
    assert!(rig.dies("/a").is_empty(), "the count starts again");
    assert!(rig.dies("/a").is_empty());
    assert_eq!(rig.dies("/a"), ["/a begins: 3, 60s"]);
}

#[test]
fn a_worker_that_was_asked_to_exit_has_not_died_in_its_request() {
    let signal = |signal: Signal| ExitStatus::Signal(signal as i32);
    for (ending, status, expected) in [
        (Ending::Died, signal(Signal::SIGKILL), true),
        (Ending::Died, signal(Signal::SIGSEGV), true),
        (Ending::Died, ExitStatus::Code(0), true),
        (Ending::Died, ExitStatus::Code(1), true),
        (Ending::Hung, signal(Signal::SIGKILL), true),
        (Ending::Died, signal(Signal::SIGTERM), false),
        (Ending::Died, signal(Signal::SIGINT), false),
        (Ending::Asked, signal(Signal::SIGKILL), false),
        (Ending::Asked, ExitStatus::Code(0), false),
        (Ending::BootFailed, signal(Signal::SIGSEGV), false),
    ] {
        assert_eq!(is_incident(ending, status), expected, "{ending:?} {status:?}");
    }
}

#[test]
fn incidents_that_are_spread_over_a_longer_time_do_not_count() {
    let mut rig = Rig::new();
    for _ in 0..100 {
        assert!(rig.dies("/a").is_empty());
        rig.after(s(30));
    }
}

#[test]
fn requests_with_other_keys_do_not_count() {
    let mut rig = Rig::new();
    for path in ["/a", "/b", "/a", "/b"] {
        assert!(rig.dies(path).is_empty());
    }
    assert_eq!(rig.dies("/b"), ["/b begins: 3, 60s"]);
    let paths: Vec<_> = rig.quarantine.iter().map(|it| it.name.path.as_str()).collect();
    assert_eq!(paths, ["/b"]);
}

#[test]
fn a_request_that_was_interrupted_and_then_dies_is_one_incident() {
    let mut rig = Rig::new();
    rig.dies("/a");
    rig.dies("/a");
    for _ in 0..5 {
        rig.quarantine.record(rig.incident("/a"), rig.now);
        assert!(rig.changes().is_empty());
    }
    let next = Incident { started: s(6), ..rig.incident("/a") };
    rig.quarantine.record(next, rig.now);
    assert_eq!(rig.changes(), ["/a begins: 3, 60s"], "the next request of the same worker");
}

#[test]
fn incidents_of_requests_that_were_running_prolong_the_quarantine() {
    let mut rig = Rig::new();
    (0..3).for_each(|_| drop(rig.dies("/a")));
    rig.after(s(50));
    assert_eq!(rig.dies("/a"), ["/a goes on: 4, 60s"]);
    assert!(rig.after(s(59)).is_empty());
    assert_eq!(rig.after(s(1)), ["/a ends: expired"]);
}

#[test]
fn one_incident_may_be_enough() {
    let mut rig = Rig::new();
    rig.quarantine.reload(Some(QuarantineLimits { incidents: 1, within: s(5) }));
    assert_eq!(rig.dies("/a"), ["/a begins: 1, 5s"]);
}

#[test]
fn without_the_option_nothing_is_recorded() {
    let mut rig = Rig::new();
    rig.quarantine = Quarantine::new(None);
    for _ in 0..10 {
        assert!(rig.dies("/a").is_empty());
    }
    assert!(rig.quarantine.suspects.is_empty());
}

#[test]
fn a_reload_ends_every_quarantine_and_suspicion() {
    let mut rig = Rig::new();
    (0..3).for_each(|_| drop(rig.dies("/a")));
    (0..2).for_each(|_| drop(rig.dies("/b")));
    rig.quarantine.reload(Some(QuarantineLimits { incidents: 2, within: s(10) }));
    assert_eq!(rig.changes(), ["/a ends: reloaded"]);
    assert!(rig.dies("/b").is_empty());
    assert_eq!(rig.dies("/b"), ["/b begins: 2, 10s"]);
    rig.quarantine.reload(None);
    assert_eq!(rig.changes(), ["/b ends: reloaded"]);
    assert!(rig.dies("/b").is_empty());
}

#[test]
fn an_operator_releases_one_or_all() {
    let mut rig = Rig::new();
    for path in ["/a", "/b", "/c"] {
        (0..3).for_each(|_| drop(rig.dies(path)));
    }
    rig.dies("/d");
    let numbers: Vec<_> = rig.quarantine.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(rig.quarantine.release(Some(2)), 1);
    assert_eq!(rig.changes(), ["/b ends: released"]);
    assert_eq!(rig.quarantine.release(Some(2)), 0);
    assert!(rig.dies("/b").is_empty(), "its incidents are forgotten");
    assert_eq!(rig.quarantine.release(None), 2);
    assert_eq!(rig.changes(), ["/a ends: released", "/c ends: released"]);
    assert!(rig.quarantine.suspects.is_empty());
    (0..3).for_each(|_| drop(rig.dies("/b")));
    assert_eq!(rig.quarantine.iter().next().map(|it| it.number), Some(4));
}

#[test]
fn numbers_start_again_and_are_never_used_twice() {
    let mut rig = Rig::new();
    (0..3).for_each(|_| drop(rig.dies("/a")));
    rig.quarantine.next_number = u16::MAX;
    for path in ["/b", "/c"] {
        (0..3).for_each(|_| drop(rig.dies(path)));
    }
    let mut numbers: Vec<_> = rig.quarantine.iter().map(|it| it.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2, u16::MAX]);
}

#[test]
fn varied_paths_use_a_limited_amount_of_memory() {
    let mut rig = Rig::new();
    for number in 0..10_000 {
        assert!(rig.dies(&format!("/{number}")).is_empty());
        assert!(rig.quarantine.suspects.len() <= SUSPECTS);
    }
    (0..2).for_each(|_| drop(rig.dies("/9999")));
    assert_eq!(rig.quarantine.iter().count(), 1, "the latest are remembered");
    for _ in 0..1000 {
        rig.dies("/9999");
    }
    assert!(rig.quarantine.suspects.iter().all(|suspect| suspect.incidents.len() <= 3));
    rig.after(T);
    assert!(rig.quarantine.suspects.is_empty());
}

#[test]
fn a_quarantine_too_many_ends_the_one_that_would_end_next() {
    let mut rig = Rig::new();
    for number in 0..PLACES {
        (0..3).for_each(|_| drop(rig.dies(&format!("/{number}"))));
        rig.after(Duration::from_millis(1));
    }
    rig.dies("/0"); // It ends last now.
    (0..2).for_each(|_| drop(rig.dies("/x")));
    assert_eq!(rig.dies("/x"), ["/1 ends: displaced", "/x begins: 3, 60s"]);
    assert_eq!(rig.quarantine.iter().count(), PLACES);
    assert!(rig.quarantine.iter().enumerate().all(|(index, it)| it.place == index));
}
