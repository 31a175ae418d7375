//! A server inside of a process that is somebody else's: one worker, no supervisor, no fork.
//!
//! It puts together what a worker is given by its supervisor, and does between two requests what the
//! supervisor would have done beside them: sends metrics. Who runs it owns the process, its signals and
//! the listening socket.

use std::cell::RefCell;
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
use arctos_worker::shared::scoreboard::ServerState;
use arctos_worker::shared::scoreboard::{Scoreboard, Side, WorkerEntry};
use arctos_worker::shared::socket_name::SocketName;
use arctos_worker::ticker::Ticker;
use arctos_worker::worker::{self, Listener, Owner, WorkerInit};
use nix::time::{ClockId, clock_gettime};

use crate::emitter::collector::Collector;
use crate::metrics::statsd::Statsd;
use crate::metrics::{Snapshot, WorkerSample};
use crate::system::pid::Pid;

/// What a server inside of a process needs.
pub struct Plan {
    /// A duplicate of the caller's listening socket ([`crate::listener::borrow`]).
    pub listener: OwnedFd,
    /// Where that is bound.
    pub name: SocketName,
    /// Becomes readable when [`Application::run_signal_handlers`] should be called; non-blocking.
    pub doorbell: OwnedFd,
    /// Where metrics are sent, if they are.
    pub statsd: Option<Statsd>,
    /// What a worker is told.
    pub settings: Settings,
    /// Its log.
    pub log: Log,
}

/// The log of such a server: what goes wrong, on standard error. None where that is closed.
pub fn log() -> Log {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(stderr) => Log::new(Level::Warning, LogFormat::Text, stderr),
        Err(_) => Log::discard(),
    }
}

/// What the application is told of such a server: others may serve the same application, for who called
/// us may have forked before.
pub fn settings() -> Settings {
    Settings { multiprocess: true, ..Settings::default() }
}

/// Serves until the application hears that it should leave; then sends the last metrics.
///
/// Errors: what the kernel refuses to a server that needs a few descriptors and a page of memory.
pub fn serve<A: Application>(plan: Plan, app: &mut A) -> io::Result<()> {
    let Plan { listener, name, doorbell, statsd, settings, log } = plan;
    // Some KB, and never given back: the counters must outlive whoever reads them.
    let scoreboard = Scoreboard::create(1)?;
    let (slot, generation) = (SlotId(0), Generation(1));
    let entry = scoreboard.entry(slot, Side::A).expect("a scoreboard of one slot has its entries");
    entry.assign(generation);
    let header = scoreboard.header();
    header.set_generation(generation);
    header.set_state(ServerState::Serving);
    let log = log.with_counters(&entry.counters);
    let collector = Collector::start(&scoreboard, statsd.as_ref(), &log, Instant::now());
    let queue = listener.try_clone()?;
    let metering = Rc::new(RefCell::new(Metering { collector, scoreboard, entry, queue }));
    // A supervisor that never says anything, and is there to the end.
    let (control, _supervisor) = UnixStream::pair()?;
    control.set_nonblocking(true)?;
    let init = WorkerInit {
        slot,
        generation,
        entry,
        header,
        control_fd: control.into(),
        supervisor: Arc::new(SupervisorProcess::this()),
        doorbell,
        listeners: vec![Listener { socket: listener, name, owner: Owner::Outside }],
        settings,
        log,
        access_log: None,
        ticker: Some(Box::new(Tick(Rc::clone(&metering)))),
    };
    let served = worker::run_embedded(init, app);
    if let Some(metering) = Rc::into_inner(metering) {
        metering.into_inner().finish();
    }
    served.map(drop) // What was cut off, the loop has logged.
}

/// The collector and what it measures.
struct Metering {
    collector: Collector,
    scoreboard: Scoreboard,
    entry: &'static WorkerEntry,
    queue: OwnedFd,
}

impl Metering {
    fn turn(&mut self, now: Instant) {
        let Self { collector, scoreboard, entry, queue } = self;
        collector.turn(scoreboard, || scene(entry, queue.as_fd()), now);
    }

    fn finish(self) {
        let Self { collector, scoreboard, entry, queue } = self;
        // There is nobody to send what could not be sent.
        let _ = collector.finish(&scoreboard, || scene(entry, queue.as_fd()));
    }
}

/// The loop's hold on it.
struct Tick(Rc<RefCell<Metering>>);

impl Ticker for Tick {
    fn next_deadline(&self) -> Option<Instant> {
        self.0.borrow().collector.next_deadline()
    }

    fn turn(&mut self, now: Instant) {
        self.0.borrow_mut().turn(now);
    }
}

fn scene(entry: &'static WorkerEntry, queue: BorrowedFd<'_>) -> Snapshot {
    let pid = Pid(std::process::id().cast_signed());
    Snapshot {
        target: 1,
        occupants: vec![WorkerSample { slot: SlotId(0), pid, entry }],
        queue: fd::accept_queue(queue),
        monotonic: clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from),
    }
}

#[cfg(test)]
mod tests;
