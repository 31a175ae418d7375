//! What one worker and the supervisor tell each other.
//!
//! A entry is cut into groups, each with one writer and on cache lines of its own: the supervisor's
//! orders, the worker's vitals, request line, counters and histograms. Readers take nothing for
//! granted: a worker may have scribbled over its entry, so a word that makes no sense reads as the
//! harmless value.
//!
//! | written by | when | what |
//! |---|---|---|
//! | supervisor | before fork, nobody occupies the entry | [`WorkerEntry::assign`] |
//! | supervisor | any time | [`WorkerEntry::set_command`] |
//! | worker | from start to exit | everything else |
//! | supervisor | after it reaped the worker | its counters, to book what died with it |

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::shared::identity::Generation;
use crate::shared::scoreboard::cell::{Moment, bump, whole_us};
use crate::shared::scoreboard::request_line::RequestLine;
use crate::shared::scoreboard::{Counters, Histogram};

/// What the supervisor wants of a worker. Ordered: a later one is never taken back but by `Serve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Command {
    /// Accept and answer.
    Serve = 0,
    /// Go on accepting, but every response says `Connection: close`.
    Announce = 1,
    /// Accept what is queued, close the listeners, finish what was taken, leave.
    Drain = 2,
    /// Finish the running request and leave.
    Quick = 3,
}

impl Command {
    fn from_word(word: u32) -> Self {
        const ALL: [Command; 4] =
            [Command::Serve, Command::Announce, Command::Drain, Command::Quick];
        ALL.into_iter().find(|&command| command as u32 == word).unwrap_or(Self::Serve)
    }
}

/// One worker's part of the scoreboard.
#[repr(C, align(128))]
pub struct WorkerEntry {
    orders: Orders,
    vitals: Vitals,
    request_line: RequestLine,
    /// Its counters.
    pub counters: Counters,
    /// Application call to last byte handed over.
    pub request_duration: Histogram,
    /// Time a TCP connection, and as a rule its first request, sat in the kernel before it was accepted.
    pub queue_wait: Histogram,
}

/// Written by the supervisor.
#[repr(C, align(128))]
struct Orders {
    command: AtomicU32,
    generation: AtomicU32,
    /// Connections that died with earlier occupants, and so were never counted as closed.
    died: AtomicU64,
}

/// Written by the worker.
#[repr(C, align(128))]
struct Vitals {
    pid: AtomicU32,
    ready: AtomicU32,
    /// Steps of the loop so far.
    ticks: AtomicU64,
    /// The application is called since then.
    call_start: Moment,
    /// The request that it is called for began then.
    request_start: Moment,
    /// The loop is over since then, and exit hooks run.
    exit_start: Moment,
    /// Cumulative, like the counters.
    busy_us: AtomicU64,
}

impl WorkerEntry {
    pub(super) const fn new() -> Self {
        Self {
            orders: Orders {
                command: AtomicU32::new(Command::Serve as u32),
                generation: AtomicU32::new(0),
                died: AtomicU64::new(0),
            },
            vitals: Vitals {
                pid: AtomicU32::new(0),
                ready: AtomicU32::new(0),
                ticks: AtomicU64::new(0),
                call_start: Moment::none(),
                request_start: Moment::none(),
                exit_start: Moment::none(),
                busy_us: AtomicU64::new(0),
            },
            request_line: RequestLine::new(),
            counters: Counters::new(),
            request_duration: Histogram::new(),
            queue_wait: Histogram::new(),
        }
    }

    /// A entry outside shared memory, for tests and the in-process server. Never given back.
    pub fn detached() -> &'static Self {
        Box::leak(Box::new(Self::new()))
    }

    /// Supervisor, before fork: names the next occupant; command is `Serve` again, vitals are cleared,
    /// counters, histograms and busy time stay. The last occupant is dead, and with it its connections.
    pub fn assign(&self, generation: Generation) {
        self.orders.command.store(Command::Serve as u32, Ordering::Relaxed);
        self.orders.generation.store(generation.0, Ordering::Relaxed);
        self.orders.died.store(self.counters.unclosed(), Ordering::Relaxed);
        self.vitals.pid.store(0, Ordering::Relaxed);
        self.vitals.ticks.store(0, Ordering::Relaxed);
        self.vitals.call_start.set(None);
        self.vitals.request_start.set(None);
        self.vitals.exit_start.set(None);
        self.request_line.clear();
        self.vitals.ready.store(0, Ordering::Release);
    }

    /// The generation of the occupant.
    pub fn generation(&self) -> Generation {
        Generation(self.orders.generation.load(Ordering::Relaxed))
    }

    /// Worker, first thing: stores its pid.
    pub fn occupy(&self, pid: u32) {
        self.vitals.pid.store(pid, Ordering::Relaxed);
    }

    /// The occupant's pid; 0 when none came yet.
    pub fn pid(&self) -> u32 {
        self.vitals.pid.load(Ordering::Relaxed)
    }

    /// Worker: the application is loaded.
    pub fn set_ready(&self) {
        self.vitals.ready.store(1, Ordering::Release);
    }

    /// Whether the worker said it is ready.
    pub fn is_ready(&self) -> bool {
        self.vitals.ready.load(Ordering::Acquire) == 1
    }

    /// Supervisor: what it wants. The eventfd is rung by the caller.
    pub fn set_command(&self, command: Command) {
        self.orders.command.store(command as u32, Ordering::Release);
    }

    /// Worker: what is wanted; an unknown word reads as `Serve`.
    #[inline]
    pub fn command(&self) -> Command {
        Command::from_word(self.orders.command.load(Ordering::Acquire))
    }

    /// Worker, at each step of its loop: it goes on. A count and not a moment, because whoever looks knows
    /// best how long it has been watching, and because the clock is not read for each step.
    #[inline]
    pub fn tick(&self) {
        bump(&self.vitals.ticks, 1);
    }

    /// How often [`WorkerEntry::tick`] was called; 0 as long as there is no loop.
    pub fn ticks(&self) -> u64 {
        self.vitals.ticks.load(Ordering::Relaxed)
    }

    /// Worker: a request starts; busy until [`WorkerEntry::end_call`]. `method` and `path` (never the query) are
    /// cut to 200 bytes together.
    pub fn begin_request(&self, monotonic: Duration, method: &[u8], path: &[u8]) {
        self.resume_request(monotonic, monotonic, method, path);
    }

    /// Worker: the application is called once more for a request that started at `since`: for an item of its
    /// response, or to close it.
    pub fn resume_request(&self, monotonic: Duration, since: Duration, method: &[u8], path: &[u8]) {
        self.request_line.write(method, path);
        self.vitals.request_start.set(Some(since));
        self.begin_call(monotonic);
    }

    /// Worker: the application is called, be it for a request or not; busy until [`WorkerEntry::end_call`].
    pub fn begin_call(&self, monotonic: Duration) {
        self.vitals.call_start.set(Some(monotonic));
    }

    /// Worker: the application has returned.
    pub fn end_call(&self, monotonic: Duration) {
        if let Some(start) = self.call_start() {
            bump(&self.vitals.busy_us, whole_us(monotonic.saturating_sub(start)));
        }
        // First: whoever sees that no call runs any more sees that the loop goes on.
        self.tick();
        self.vitals.call_start.set(None);
        self.vitals.request_start.set(None);
    }

    /// When the running call of the application started; `None` when none runs.
    pub fn call_start(&self) -> Option<Duration> {
        self.vitals.call_start.get()
    }

    /// When the request started that the application is called for; `None` when it is not.
    pub fn request_start(&self) -> Option<Duration> {
        self.vitals.request_start.get()
    }

    /// Worker: its loop is over; what runs from here on are exit hooks and exit handlers.
    pub fn begin_exit(&self, monotonic: Duration) {
        self.vitals.exit_start.set(Some(monotonic));
    }

    /// When the loop ended; `None` as long as it turns.
    pub fn exit_start(&self) -> Option<Duration> {
        self.vitals.exit_start.get()
    }

    /// Time spent between the beginnings of calls and [`WorkerEntry::end_call`], over all occupants, the running
    /// call included up to `monotonic`.
    ///
    /// It falls back a little when an occupant dies in a call, or when this reads between the two stores
    /// that end one: readers take saturating differences.
    pub fn busy_time(&self, monotonic: Duration) -> Duration {
        let ended = Duration::from_micros(self.vitals.busy_us.load(Ordering::Relaxed));
        let running =
            self.call_start().map_or(Duration::ZERO, |start| monotonic.saturating_sub(start));
        ended.saturating_add(running)
    }

    /// Method and path of the running (or last) request, empty before the first one; `None` when it
    /// changes too fast to read. Bytes from outside: to be escaped where it is shown.
    pub fn request_line(&self) -> Option<String> {
        self.request_line.read()
    }

    /// Connections that the occupant has open (`conn.open`).
    pub fn open_connections(&self) -> u64 {
        self.counters.unclosed().saturating_sub(self.orders.died.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::scoreboard::Counter;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_new_block_is_unoccupied_idle_and_told_to_serve() {
        let entry = WorkerEntry::detached();
        assert_eq!(entry.pid(), 0);
        assert!(!entry.is_ready());
        assert_eq!(entry.command(), Command::Serve);
        assert_eq!(entry.request_start(), None);
        assert_eq!(entry.ticks(), 0);
        assert_eq!(entry.request_line().unwrap(), "");
    }

    #[test]
    fn each_command_arrives() {
        let entry = WorkerEntry::detached();
        for command in [Command::Announce, Command::Drain, Command::Quick, Command::Serve] {
            entry.set_command(command);
            assert_eq!(entry.command(), command);
        }
    }

    #[test]
    fn a_command_word_that_nobody_wrote_reads_as_serve() {
        let entry = WorkerEntry::detached();
        for word in [4, u32::MAX] {
            entry.orders.command.store(word, Ordering::Relaxed);
            assert_eq!(entry.command(), Command::Serve);
        }
    }

    #[test]
    fn a_request_is_seen_from_its_start_to_its_end() {
        let entry = WorkerEntry::detached();
        entry.begin_request(ms(0), b"GET", b"/slow");
        assert_eq!(entry.request_start(), Some(ms(0)));
        assert_eq!(entry.request_line().unwrap(), "GET /slow");
        entry.end_call(ms(3));
        assert_eq!(entry.request_start(), None);
        assert_eq!(entry.request_line().unwrap(), "GET /slow");
    }

    #[test]
    fn a_request_that_is_resumed_is_as_old_as_it_is_and_its_call_is_new() {
        let entry = WorkerEntry::detached();
        entry.begin_request(ms(10), b"GET", b"/download");
        entry.end_call(ms(11));
        entry.resume_request(ms(70), ms(10), b"GET", b"/download");
        assert_eq!((entry.request_start(), entry.call_start()), (Some(ms(10)), Some(ms(70))));
        entry.end_call(ms(72));
        assert_eq!(entry.busy_time(ms(100)), ms(3), "what the client takes is not the worker's");
    }

    #[test]
    fn a_call_that_is_for_no_request_is_busy_and_shows_none() {
        let entry = WorkerEntry::detached();
        entry.begin_call(ms(10));
        assert_eq!((entry.call_start(), entry.request_start()), (Some(ms(10)), None));
        assert_eq!(entry.busy_time(ms(12)), ms(2));
        entry.end_call(ms(15));
        assert_eq!((entry.call_start(), entry.busy_time(ms(20))), (None, ms(5)));
    }

    #[test]
    fn the_end_of_a_call_is_a_step_of_the_loop() {
        let entry = WorkerEntry::detached();
        entry.begin_request(ms(0), b"GET", b"/");
        let before = entry.ticks();
        entry.end_call(ms(1));
        assert!(entry.ticks() > before);
    }

    #[test]
    fn busy_time_adds_up_requests_and_the_running_one() {
        let entry = WorkerEntry::detached();
        entry.begin_request(ms(10), b"GET", b"/");
        entry.end_call(ms(15));
        entry.begin_request(ms(100), b"GET", b"/");
        assert_eq!(entry.busy_time(ms(107)), ms(12));
        entry.end_call(ms(110));
        assert_eq!(entry.busy_time(ms(1000)), ms(15));
    }

    #[test]
    fn ending_what_did_not_begin_is_no_busy_time() {
        let entry = WorkerEntry::detached();
        entry.end_call(ms(500));
        assert_eq!(entry.busy_time(ms(1000)), Duration::ZERO);
    }

    #[test]
    fn the_next_occupant_finds_cleared_vitals_and_kept_counters() {
        let entry = WorkerEntry::detached();
        entry.assign(Generation(1));
        entry.occupy(71);
        entry.set_ready();
        entry.tick();
        entry.begin_request(ms(6), b"GET", b"/");
        entry.end_call(ms(7));
        entry.begin_request(ms(8), b"GET", b"/last");
        entry.begin_exit(ms(9));
        entry.set_command(Command::Drain);
        entry.counters.inc(Counter::RespDone);
        entry.request_duration.record(ms(1));
        entry.queue_wait.record(ms(1));

        entry.assign(Generation(2));
        assert_eq!(entry.generation(), Generation(2));
        assert_eq!(entry.pid(), 0);
        assert!(!entry.is_ready());
        assert_eq!(entry.ticks(), 0);
        assert_eq!((entry.call_start(), entry.request_start()), (None, None));
        assert_eq!(entry.exit_start(), None);
        assert_eq!(entry.request_line().unwrap(), "");
        assert_eq!(entry.command(), Command::Serve);
        assert_eq!(entry.counters.get(Counter::RespDone), 1);
        assert_eq!(entry.request_duration.count(), 1);
        assert_eq!(entry.queue_wait.count(), 1);
        assert_eq!(entry.busy_time(ms(1000)), ms(1));
    }

    #[test]
    fn connections_that_died_with_a_worker_are_not_open_in_the_next_one() {
        let entry = WorkerEntry::detached();
        entry.counters.add(Counter::ConnAcceptSuccess, 5);
        entry.counters.add(Counter::RespConnClose, 2);
        assert_eq!(entry.open_connections(), 3);
        entry.assign(Generation(1));
        assert_eq!(entry.open_connections(), 0);
        entry.counters.inc(Counter::ConnAcceptSuccess);
        assert_eq!(entry.open_connections(), 1);
        entry.assign(Generation(2));
        assert_eq!(entry.open_connections(), 0);
    }
}
