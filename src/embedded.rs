//! A server inside a process that belongs to the caller: one worker, no supervisor, no fork.
//!
//! It prepares what a worker otherwise gets from its supervisor, and sends metrics between requests, which the
//! supervisor otherwise does. The caller owns the process, its signals and the listening socket.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arctos_worker::application::Application;
use arctos_worker::process::supervisor_process::SupervisorProcess;
use arctos_worker::settings::Settings;
use arctos_worker::shared::fd;
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Log, LogFormat};
use arctos_worker::shared::samples::SampleArea;
use arctos_worker::shared::scoreboard::ServerState;
use arctos_worker::shared::scoreboard::{Scoreboard, Side, WorkerEntry};
use arctos_worker::shared::series::attachment;
use arctos_worker::shared::socket_name::SocketName;
use arctos_worker::ticker::Ticker;
use arctos_worker::worker::{self, Listener, Owner, WorkerInit};
use nix::time::{ClockId, clock_gettime};

use crate::emitter::collector::Collector;
use crate::metrics::series;
use crate::metrics::statsd::Statsd;
use crate::metrics::{Snapshot, WorkerMemory, WorkerSample};
use crate::system::cgroup;
use crate::system::pid::Pid;

/// Everything that a server inside the caller's process needs.
pub struct Plan {
    /// A duplicate of the caller's listening socket ([`crate::listener::borrow`]).
    pub listener: OwnedFd,
    /// The address of the socket.
    pub name: SocketName,
    /// Becomes readable when [`Application::run_signal_handlers`] should be called; non-blocking.
    pub doorbell: OwnedFd,
    /// The destination of metrics, if they are sent.
    pub statsd: Option<Statsd>,
    /// The configuration of the worker.
    pub settings: Settings,
    /// The log of the worker.
    pub log: Log,
}

/// Returns the log of such a server: warnings and errors on standard error, or nothing if that is closed.
pub fn log() -> Log {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(stderr) => Log::new(Level::Warning, LogFormat::Text, stderr),
        Err(_) => Log::discard(),
    }
}

/// Returns the settings of such a server. Other processes may serve the same application, because the caller may have
/// forked before.
pub fn settings() -> Settings {
    Settings { multiprocess: true, ..Settings::default() }
}

/// Serves until a signal handler of the application ends the server, then sends the last metrics.
///
/// Errors: those of the kernel. The server needs a few descriptors and a page of memory.
pub fn serve<A: Application>(plan: Plan, app: &mut A) -> io::Result<()> {
    let Plan { listener, name, doorbell, statsd, settings, log } = plan;
    // These few KB are never freed, because the counters must outlive their readers.
    let mut scoreboard = Scoreboard::create(1)?;
    scoreboard.add_series(series::DEFAULT_LIMIT)?;
    let (slot, generation) = (SlotId(0), Generation(1));
    let entry = scoreboard.entry(slot, Side::A).expect("a scoreboard of one slot has its entries");
    entry.assign(generation);
    let area = scoreboard.area(Scoreboard::worker_area(slot, Side::A));
    attachment::attach(area);
    let header = scoreboard.header();
    header.set_generation(generation);
    header.set_state(ServerState::Serving);
    let log = log.with_counters(&entry.counters);
    let collector = Collector::start(&scoreboard, statsd.as_ref(), &log, Instant::now());
    let queue = listener.try_clone()?;
    let metering = Rc::new(RefCell::new(Metering {
        collector,
        memory: WorkerMemory::default(),
        scoreboard,
        entry,
        queue,
    }));
    // This end stands for a supervisor that sends nothing and never exits.
    let (control, _supervisor) = UnixStream::pair()?;
    control.set_nonblocking(true)?;
    let init = WorkerInit {
        slot,
        generation,
        entry,
        header,
        samples: SampleArea::detached(),
        control_fd: control.into(),
        supervisor: Arc::new(SupervisorProcess::this()),
        doorbell,
        listeners: vec![Listener { socket: listener, name, owner: Owner::Outside }],
        settings,
        log,
        access_log: None,
        tls: None,
        group: None,
        request_keys: None,
        series: area,
        ticker: Some(Box::new(Tick(Rc::clone(&metering)))),
    };
    let served = worker::run_embedded(init, app);
    attachment::attach(None);
    if let Some(metering) = Rc::into_inner(metering) {
        metering.into_inner().finish();
    }
    served.map(drop) // The event loop has logged aborted requests.
}

/// The collector of metrics and what it reads.
struct Metering {
    collector: Collector,
    memory: WorkerMemory,
    scoreboard: Scoreboard,
    entry: &'static WorkerEntry,
    queue: OwnedFd,
}

impl Metering {
    fn turn(&mut self, now: Instant) {
        let Self { collector, memory, scoreboard, entry, queue } = self;
        collector.turn(scoreboard, || snapshot(entry, memory, queue.as_fd()), now);
    }

    fn finish(self) {
        let Self { collector, mut memory, scoreboard, entry, queue } = self;
        // What cannot be sent now is lost, because the server ends here.
        let _ = collector.finish(&scoreboard, || snapshot(entry, &mut memory, queue.as_fd()));
    }
}

/// Lets the event loop run the collector.
struct Tick(Rc<RefCell<Metering>>);

impl Ticker for Tick {
    fn next_deadline(&self) -> Option<Instant> {
        self.0.borrow().collector.next_deadline()
    }

    fn turn(&mut self, now: Instant) {
        self.0.borrow_mut().turn(now);
    }
}

fn snapshot(
    entry: &'static WorkerEntry,
    memory: &mut WorkerMemory,
    queue: BorrowedFd<'_>,
) -> Snapshot {
    let pid = Pid(std::process::id().cast_signed());
    let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    memory.sample_resident(&[pid], monotonic);
    Snapshot {
        target: 1,
        workers: vec![WorkerSample { slot: SlotId(0), entry, memory: memory.of(pid) }],
        queue: fd::accept_queue(queue),
        shared_connections: 0,
        cgroup: cgroup::memory(|path| fs::read_to_string(path).ok()),
        monotonic,
    }
}

#[cfg(test)]
mod tests;
