//! What is worked out at the moment it is asked for.
//!
//! What a worker wrote is not trusted further than it can be true: nobody is busy for longer than time
//! has passed, and nobody has more connections than descriptors.

use std::collections::BTreeMap;
use std::time::Duration;

use arctos_worker::fd::AcceptQueue;
use arctos_worker::identity::SlotId;
use arctos_worker::metrics::Block;

use super::Gauge;
use super::resident::ResidentSet;
use crate::slot::Pid;

/// `fs.nr_open`, which bounds the descriptors of a process, unless somebody has raised it: a block that
/// claims more connections holds garbage.
const MOST_CONNECTIONS: u64 = 1 << 20;

/// A worker process as gauges see it. A slot has two while one replaces the other.
#[derive(Clone, Copy)]
pub struct Occupant {
    /// Its place.
    pub slot: SlotId,
    /// Its process.
    pub pid: Pid,
    /// Its part of the board.
    pub block: &'static Block,
}

/// What there is to look at.
pub struct Scene {
    /// Workers that are wanted.
    pub target: u16,
    /// Those that are there.
    pub occupants: Vec<Occupant>,
    /// Queues of the TCP listeners together; `None` where there is no such listener.
    pub queue: Option<AcceptQueue>,
    /// CLOCK_MONOTONIC, as the board has it.
    pub monotonic: Duration,
}

/// Values of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// Those of [`super::Scope::Server`].
    pub server: Vec<(Gauge, f64)>,
    /// Those of [`super::Scope::Worker`], slots in order.
    pub workers: Vec<(SlotId, Gauge, f64)>,
}

/// Takes values; remembers what it needs to tell how much time was spent busy.
#[derive(Default)]
pub struct Sampler {
    last: Option<Look>,
    resident: ResidentSet,
}

/// What there was at the last sample.
struct Look {
    monotonic: Duration,
    /// By block, not by process: its busy time goes on from one occupant to the next.
    busy: Vec<Busy>,
}

/// A block's [`Block::busy_time`] so far.
struct Busy {
    block: &'static Block,
    time: Duration,
}

/// What there is to tell of a slot.
#[derive(Default)]
struct Slot {
    open: u64,
    /// `None` as long as nobody's is known.
    resident_bytes: Option<u64>,
}

impl Sampler {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at the scene.
    ///
    /// `workers.utilization` is 0 at the first look, and a worker that was not there at the last one
    /// adds nothing to it yet. `worker.rss` is from an earlier look where there are many workers, and
    /// left out where it is not known: see [`ResidentSet`].
    pub fn sample(&mut self, scene: &Scene) -> Gauges {
        Gauges { server: self.server(scene), workers: self.workers(scene) }
    }

    fn server(&mut self, scene: &Scene) -> Vec<(Gauge, f64)> {
        let ready = || scene.occupants.iter().filter(|occupant| occupant.block.is_ready());
        let is_busy = |occupant: &&Occupant| occupant.block.request_start().is_some();
        let (len, max) = scene.queue.map_or((0, 0), |queue| (queue.len, queue.max));
        vec![
            (Gauge::WorkersTarget, f64::from(scene.target)),
            (Gauge::WorkersReady, ready().count() as f64),
            (Gauge::WorkersBusy, ready().filter(is_busy).count() as f64),
            (Gauge::WorkersUtilization, self.utilization(scene)),
            (Gauge::BacklogLen, f64::from(len)),
            (Gauge::BacklogMax, f64::from(max)),
        ]
    }

    fn utilization(&mut self, scene: &Scene) -> f64 {
        let before = self.last.replace(Look::at(scene));
        let (Some(before), Some(now)) = (before, &self.last) else { return 0.0 };
        let elapsed = now.monotonic.saturating_sub(before.monotonic);
        let mut there = Duration::ZERO;
        let mut spent = Duration::ZERO;
        for busy in now.busy.iter().filter(|busy| busy.block.is_ready()) {
            there = there.saturating_add(elapsed);
            spent = spent.saturating_add(before.growth(busy).min(elapsed));
        }
        if there.is_zero() { 0.0 } else { spent.div_duration_f64(there).clamp(0.0, 1.0) }
    }

    fn workers(&mut self, scene: &Scene) -> Vec<(SlotId, Gauge, f64)> {
        self.resident.look(scene.occupants.iter().map(|occupant| occupant.pid));
        let mut slots = BTreeMap::<SlotId, Slot>::new();
        for occupant in &scene.occupants {
            let slot = slots.entry(occupant.slot).or_default();
            let open = occupant.block.open_connections();
            slot.open += if open <= MOST_CONNECTIONS { open } else { 0 };
            if let Some(bytes) = self.resident.bytes(occupant.pid) {
                slot.resident_bytes = Some(slot.resident_bytes.unwrap_or(0).saturating_add(bytes));
            }
        }
        let mut workers = Vec::with_capacity(2 * slots.len());
        for (id, slot) in slots {
            workers.push((id, Gauge::ConnOpen, slot.open as f64));
            if let Some(bytes) = slot.resident_bytes {
                workers.push((id, Gauge::WorkerRss, bytes as f64));
            }
        }
        workers
    }
}

impl Look {
    fn at(scene: &Scene) -> Self {
        let busy = |occupant: &Occupant| Busy {
            block: occupant.block,
            time: occupant.block.busy_time(scene.monotonic),
        };
        Self { monotonic: scene.monotonic, busy: scene.occupants.iter().map(busy).collect() }
    }

    /// By how much a block's busy time has risen since. It falls when a worker dies in a request.
    fn growth(&self, now: &Busy) -> Duration {
        let before = self.busy.iter().find(|before| std::ptr::eq(before.block, now.block));
        before.map_or(Duration::ZERO, |before| now.time.saturating_sub(before.time))
    }
}

#[cfg(test)]
mod tests;
