//! A worker's entry on the scoreboard: what the worker and the supervisor write for each other.
//!
//! An entry has several groups, each with one writer and with cache lines of its own: the supervisor's command, and
//! the worker's state, request line, counters and histograms. Readers trust nothing: a worker may have overwritten
//! its entry, so a word without a meaning reads as the harmless value.
//!
//! | written by | when | what |
//! |---|---|---|
//! | supervisor | before the fork, while no worker has the entry | [`WorkerEntry::assign`] |
//! | supervisor | any time | [`WorkerEntry::set_command`], [`WorkerEntry::interrupt_call`], [`WorkerEntry::ask_for_connection`] |
//! | worker | from start to exit | everything else |
//! | supervisor | after it reaped the worker | the counters, for what died with the worker |

mod keyed_request;

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::shared::identity::Generation;
use crate::shared::scoreboard::cell::{Moment, bump, whole_us};
use crate::shared::scoreboard::request_line::{RequestIdCell, RequestLineCell};
use crate::shared::scoreboard::{Counter, Counters, Exemplars, Histogram, RequestTimes};

pub use keyed_request::KeyedRequest;

/// The command word: what the supervisor wants a worker to do. Commands are ordered by strictness, and only `Serve`
/// ever takes one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Command {
    /// Accept connections and answer requests.
    Serve = 0,
    /// Go on accepting, but send every response with `Connection: close`.
    LameDuck = 1,
    /// Take what is in the accept queue, close the listeners, finish every request, exit.
    Drain = 2,
    /// Finish the replies under way and exit.
    Quick = 3,
}

impl Command {
    fn from_word(word: u32) -> Self {
        const ALL: [Command; 4] =
            [Command::Serve, Command::LameDuck, Command::Drain, Command::Quick];
        ALL.into_iter().find(|&command| command as u32 == word).unwrap_or(Self::Serve)
    }
}

/// One worker's entry on the scoreboard.
#[repr(C, align(128))]
#[expect(missing_docs, reason = "`counters` says what it is")]
pub struct WorkerEntry {
    control: Control,
    state: State,
    request_line: RequestLineCell,
    request_id: RequestIdCell,
    pub counters: Counters,
    /// How long requests took.
    pub requests: RequestTimes,
    /// Requests that stand for others with such a duration.
    pub exemplars: Exemplars,
    /// How long a TCP connection, and usually its first request, waited in the kernel before it was accepted.
    pub queue_wait: Histogram,
}

/// Written by the supervisor.
#[repr(C, align(128))]
struct Control {
    command: AtomicU32,
    generation: AtomicU32,
    /// Connections that died with earlier workers of this entry, and so were never counted as closed.
    died: AtomicU64,
    /// The start of the call that gets an exception, because it takes too long.
    interrupted: Moment,
    /// The start of the call whose connection the supervisor wants.
    wanted: Moment,
}

/// Written by the worker.
#[repr(C, align(128))]
struct State {
    pid: AtomicU32,
    ready: AtomicU32,
    progress: LoopProgress,
    /// When the running call of the application began.
    call_start: Moment,
    /// The request of that call.
    request: RequestState,
    /// When the loop ended, so that exit hooks run.
    exit_start: Moment,
    /// The start of the call that has asked for more time, and how much. The next call has a different start, so it
    /// need not reset them.
    extended: Moment,
    extension_us: AtomicU64,
    /// Cumulative, like the counters.
    busy_us: AtomicU64,
    /// Shared connections that were claimed and released; cumulative, like the counters.
    claimed: AtomicU64,
    released: AtomicU64,
    /// The key of the last request whose line was cut; 0 if it has none.
    long_request: AtomicU64,
}

/// What the loop is doing.
#[repr(C)]
struct LoopProgress {
    /// The number of its steps.
    ticks: AtomicU64,
    /// Whether it sleeps until something arrives.
    asleep: AtomicU32,
}

/// The request of the running call.
#[repr(C)]
struct RequestState {
    /// When it began; `None` if the call is not for a request.
    start: Moment,
    /// Its connection, if the supervisor could answer on it: the worker's descriptor plus one, or 0.
    connection: AtomicU32,
    /// The start of the request of which a profile has a sample, and not its route yet.
    sampled: Moment,
}

impl WorkerEntry {
    pub(super) const fn new() -> Self {
        Self {
            control: Control {
                command: AtomicU32::new(Command::Serve as u32),
                generation: AtomicU32::new(0),
                died: AtomicU64::new(0),
                interrupted: Moment::none(),
                wanted: Moment::none(),
            },
            state: State {
                pid: AtomicU32::new(0),
                ready: AtomicU32::new(0),
                progress: LoopProgress { ticks: AtomicU64::new(0), asleep: AtomicU32::new(0) },
                call_start: Moment::none(),
                request: RequestState {
                    start: Moment::none(),
                    connection: AtomicU32::new(0),
                    sampled: Moment::none(),
                },
                exit_start: Moment::none(),
                extended: Moment::none(),
                extension_us: AtomicU64::new(0),
                busy_us: AtomicU64::new(0),
                claimed: AtomicU64::new(0),
                released: AtomicU64::new(0),
                long_request: AtomicU64::new(0),
            },
            request_line: RequestLineCell::new(),
            request_id: RequestIdCell::new(),
            counters: Counters::new(),
            requests: RequestTimes::new(),
            exemplars: Exemplars::new(),
            queue_wait: Histogram::new(),
        }
    }

    /// An entry outside shared memory, for tests and embedded servers. It is never freed.
    pub fn detached() -> &'static Self {
        Box::leak(Box::new(Self::new()))
    }

    /// Gives the entry to the next worker. Called by the supervisor before the fork. The command is `Serve` again and
    /// the state is cleared; counters, histograms and busy time stay. The last worker is dead, and so are its
    /// connections.
    pub fn assign(&self, generation: Generation) {
        self.control.command.store(Command::Serve as u32, Ordering::Relaxed);
        self.control.generation.store(generation.0, Ordering::Relaxed);
        self.control.interrupted.set(None);
        self.control.wanted.set(None);
        self.control.died.store(self.unclosed(), Ordering::Relaxed);
        self.state.pid.store(0, Ordering::Relaxed);
        self.state.progress.asleep.store(0, Ordering::Relaxed);
        self.state.progress.ticks.store(0, Ordering::Relaxed);
        self.state.call_start.set(None);
        self.state.request.start.set(None);
        self.state.request.connection.store(0, Ordering::Relaxed);
        self.state.request.sampled.set(None);
        self.state.exit_start.set(None);
        self.state.extended.set(None);
        self.state.long_request.store(0, Ordering::Relaxed);
        self.request_line.clear();
        self.request_id.clear();
        self.state.ready.store(0, Ordering::Release);
    }

    /// The generation of the worker.
    pub fn generation(&self) -> Generation {
        Generation(self.control.generation.load(Ordering::Relaxed))
    }

    /// Stores the pid. Called by the worker, first of all.
    pub fn occupy(&self, pid: u32) {
        self.state.pid.store(pid, Ordering::Relaxed);
    }

    /// The pid of the worker; 0 if it has not started yet.
    pub fn pid(&self) -> u32 {
        self.state.pid.load(Ordering::Relaxed)
    }

    /// Called by the worker when it is about to serve.
    pub fn set_ready(&self) {
        self.state.ready.store(1, Ordering::Release);
    }

    /// Whether the worker has said that it is ready.
    pub fn is_ready(&self) -> bool {
        self.state.ready.load(Ordering::Acquire) == 1
    }

    /// The loop is about to sleep, or was woken. Called by the worker.
    #[inline]
    pub fn set_asleep(&self, is_asleep: bool) {
        self.state.progress.asleep.store(u32::from(is_asleep), Ordering::Relaxed);
    }

    /// Whether the worker sleeps until something arrives.
    pub fn is_asleep(&self) -> bool {
        self.state.progress.asleep.load(Ordering::Relaxed) == 1
    }

    /// Called by the supervisor, which then rings the doorbell.
    pub fn set_command(&self, command: Command) {
        self.control.command.store(command as u32, Ordering::Release);
    }

    /// The current command; an unknown word reads as `Serve`.
    #[inline]
    pub fn command(&self) -> Command {
        Command::from_word(self.control.command.load(Ordering::Acquire))
    }

    /// Shows that the loop is alive. Called by the worker at each step of its loop. It is a count and no moment,
    /// because the reader knows best how long it has been watching, and because the worker does not read the clock at
    /// each step.
    #[inline]
    pub fn tick(&self) {
        bump(&self.state.progress.ticks, 1);
    }

    /// How often [`WorkerEntry::tick`] was called; 0 until the loop starts.
    pub fn ticks(&self) -> u64 {
        self.state.progress.ticks.load(Ordering::Relaxed)
    }

    /// A request starts. Called by the worker, which is busy until [`WorkerEntry::end_call`]. `method` and `path`
    /// (never the query) are cut to 200 bytes together.
    pub fn begin_request(&self, monotonic: Duration, method: &[u8], path: &[u8]) {
        self.resume_request(monotonic, monotonic, method, path);
    }

    /// The application is called once more for a request that started at `since`, to produce an item of the response
    /// or to close it. Called by the worker.
    pub fn resume_request(&self, monotonic: Duration, since: Duration, method: &[u8], path: &[u8]) {
        self.request_line.write(&[method, b" ", path]);
        self.show_connection(None);
        self.state.request.start.set(Some(since));
        self.begin_call(monotonic);
    }

    /// Names the running request by its identifier, once it has one, and by the trace that it belongs to. Called by the
    /// worker.
    #[inline]
    pub fn identify_request(&self, id: &[u8], trace: Option<&[u8; 32]>) {
        match trace {
            None => self.request_id.write_one(id),
            Some(trace) => self.request_id.write(&[id, b" ", trace]),
        }
    }

    /// The application is called, for a request or not. Called by the worker, which is busy until
    /// [`WorkerEntry::end_call`].
    pub fn begin_call(&self, monotonic: Duration) {
        self.state.call_start.set(Some(monotonic));
    }

    /// The application has returned. Called by the worker.
    pub fn end_call(&self, monotonic: Duration) {
        if let Some(start) = self.call_start() {
            bump(&self.state.busy_us, whole_us(monotonic.saturating_sub(start)));
        }
        // First, so that a reader that sees no running call also sees that the loop goes on.
        self.tick();
        self.state.call_start.set(None);
        self.state.request.start.set(None);
    }

    /// When the running call of the application started; `None` if none runs.
    pub fn call_start(&self) -> Option<Duration> {
        self.state.call_start.get()
    }

    /// When the request of the running call started; `None` if there is none.
    pub fn request_start(&self) -> Option<Duration> {
        self.state.request.start.get()
    }

    /// A profile has a sample of the request that started at this moment. Called by the worker's signal handler.
    pub fn set_sampled(&self, start: Duration) {
        self.state.request.sampled.set(Some(start));
    }

    /// The start of the request that was sampled since the last call of this. Called by the worker.
    #[inline]
    pub fn take_sampled(&self) -> Option<Duration> {
        let start = self.state.request.sampled.get();
        if start.is_some() {
            self.state.request.sampled.set(None);
        }
        start
    }

    /// The call that started at this moment takes too long and gets an exception. Called by the supervisor, which then
    /// sends the signal. A later call has a different start, so a signal that comes late concerns no call.
    pub fn interrupt_call(&self, start: Duration) {
        self.control.interrupted.set(Some(start));
    }

    /// Whether the supervisor has interrupted the running call.
    pub fn is_call_interrupted(&self) -> bool {
        let interrupted = self.control.interrupted.get();
        interrupted.is_some() && interrupted == self.call_start()
    }

    /// The running request is on this connection, of which the supervisor may get a duplicate. `None` if it cannot answer
    /// there, as soon as the first byte of the response is about to be sent. Called by the worker, which shows none when
    /// it begins a request.
    #[inline]
    pub fn show_connection(&self, connection: Option<RawFd>) {
        let word = connection.and_then(|fd| u32::try_from(fd).ok()).map_or(0, |fd| fd + 1);
        self.state.request.connection.store(word, Ordering::Relaxed);
    }

    /// The connection of the running request, if no byte of its response was sent, and if the supervisor could answer
    /// on it. The number is that of the worker's descriptor.
    pub fn connection(&self) -> Option<RawFd> {
        self.request_start()?;
        let word = self.state.request.connection.load(Ordering::Relaxed);
        word.checked_sub(1).and_then(|fd| RawFd::try_from(fd).ok())
    }

    /// The supervisor wants the connection of the call that started at this moment. Called by the supervisor, which then
    /// sends the signal.
    pub fn ask_for_connection(&self, start: Duration) {
        self.control.wanted.set(Some(start));
    }

    /// The connection of the running call, if the supervisor has asked for it.
    pub fn requested_connection(&self) -> Option<RawFd> {
        let wanted = self.control.wanted.get();
        let is_wanted = wanted.is_some() && wanted == self.call_start();
        if is_wanted { self.connection() } else { None }
    }

    /// Gives the running call more time in total than it has by configuration. Called by the worker.
    pub fn extend_call(&self, extension: Duration) {
        self.state.extension_us.store(whole_us(extension), Ordering::Relaxed);
        self.state.extended.set(self.call_start());
    }

    /// The additional time that the running call has asked for.
    pub fn call_extension(&self) -> Duration {
        let extended = self.state.extended.get();
        if extended.is_none() || extended != self.call_start() {
            return Duration::ZERO;
        }
        Duration::from_micros(self.state.extension_us.load(Ordering::Relaxed))
    }

    /// The loop is over, and from here on exit hooks and exit handlers run. Called by the worker.
    pub fn begin_exit(&self, monotonic: Duration) {
        self.state.exit_start.set(Some(monotonic));
    }

    /// When the loop ended; `None` while it runs.
    pub fn exit_start(&self) -> Option<Duration> {
        self.state.exit_start.get()
    }

    /// The time of all calls of the application, by all workers that had this entry, including the running call up to
    /// `monotonic`.
    ///
    /// It decreases a little if a worker dies in a call, or if this reads between the two stores that end one. So
    /// readers use saturating differences.
    pub fn busy_time(&self, monotonic: Duration) -> Duration {
        let ended = Duration::from_micros(self.state.busy_us.load(Ordering::Relaxed));
        let running =
            self.call_start().map_or(Duration::ZERO, |start| monotonic.saturating_sub(start));
        ended.saturating_add(running)
    }

    /// Method and path of the running or last request, empty before the first one; `None` if it changes too fast to
    /// be read. The bytes come from a client, so they have to be escaped when they are shown.
    pub fn request_line(&self) -> Option<String> {
        self.request_line.read()
    }

    /// The identifier of the running or last request; `None` if it changes too fast to be read.
    pub fn request_id(&self) -> Option<String> {
        let text = self.request_id.read()?;
        Some(text.split(' ').next().unwrap_or_default().to_owned())
    }

    /// The trace that the running or last request belongs to; `None` if there is none, or if it changes too fast to be
    /// read.
    pub fn trace_id(&self) -> Option<String> {
        let text = self.request_id.read()?;
        text.split_once(' ').map(|(_, trace)| trace.to_owned())
    }

    /// The open connections of the worker (`conn.open`).
    /// The worker has claimed a shared connection: it is open here from now on.
    pub fn claim_connection(&self) {
        bump(&self.state.claimed, 1);
    }

    /// The worker has released a connection that is shared: it belongs to no worker until the next one claims it.
    pub fn release_connection(&self) {
        bump(&self.state.released, 1);
    }

    /// The open connections of the worker (`conn.open`), without those that it shares and does not serve.
    pub fn open_connections(&self) -> u64 {
        self.unclosed().saturating_sub(self.control.died.load(Ordering::Relaxed))
    }

    /// The connections that were accepted or claimed, and neither closed nor released.
    fn unclosed(&self) -> u64 {
        let claimed = self.state.claimed.load(Ordering::Relaxed);
        let released = self.state.released.load(Ordering::Relaxed);
        // Always saturating: a worker may have written anything here.
        let arrived = self.counters.get(Counter::ConnAcceptSuccess).saturating_add(claimed);
        arrived.saturating_sub(self.counters.closed().saturating_add(released))
    }
}

#[cfg(test)]
mod tests;
