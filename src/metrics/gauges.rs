//! What is worked out at the moment it is asked for.
//!
//! What a worker wrote is not trusted further than it can be true: nobody is busy for longer than time
//! has passed, and nobody has more connections than descriptors.

use std::collections::BTreeMap;
use std::time::Duration;

use arctos_worker::shared::fd::AcceptQueue;
use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Scoreboard, Side, WorkerEntry};

use super::Gauge;
use super::rss::ResidentSet;
use crate::system::pid::Pid;

/// `fs.nr_open`, which bounds the descriptors of a process, unless somebody has raised it: a entry that
/// claims more connections holds garbage.
const MOST_CONNECTIONS: u64 = 1 << 20;
/// `workers.utilization` looks back at least so far: of a shorter time it would say 0 or 1.
const LEAST_WINDOW: Duration = Duration::from_millis(500);

/// A worker process as gauges see it. A slot has two while one replaces the other.
#[derive(Clone, Copy)]
pub struct WorkerSample {
    /// Its place.
    pub slot: SlotId,
    /// Its process.
    pub pid: Pid,
    /// Its part of the scoreboard.
    pub entry: &'static WorkerEntry,
}

/// What there is to look at.
pub struct Snapshot {
    /// Workers that are wanted.
    pub target: u16,
    /// Those that are there.
    pub occupants: Vec<WorkerSample>,
    /// Queues of the TCP listeners together; `None` where there is no such listener.
    pub queue: Option<AcceptQueue>,
    /// CLOCK_MONOTONIC, as the scoreboard has it.
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

/// Takes values; remembers what it needs to tell how much time was spent busy. Who takes values at moments
/// of its own needs one of its own: else others cut the time that it looks back at.
pub struct Sampler {
    last: Look,
    /// What was told of the time before the last look.
    utilization: f64,
    resident: ResidentSet,
}

/// What there was when busy times were last compared.
struct Look {
    monotonic: Duration,
    /// By entry, not by process: its busy time goes on from one occupant to the next. Of all entries that
    /// were ever seen.
    busy: Vec<Busy>,
}

/// A entry's [`WorkerEntry::busy_time`] so far.
struct Busy {
    entry: &'static WorkerEntry,
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
    /// The first sample looks back to this moment.
    pub fn open(scoreboard: &Scoreboard, monotonic: Duration) -> Self {
        let slots = (0..scoreboard.slot_count()).map(SlotId);
        let entries =
            slots.flat_map(|slot| [Side::A, Side::B].map(|side| scoreboard.entry(slot, side)));
        Self::since(monotonic, entries.flatten(), ResidentSet::default())
    }

    fn since(
        monotonic: Duration,
        entries: impl Iterator<Item = &'static WorkerEntry>,
        resident: ResidentSet,
    ) -> Self {
        let busy = entries.map(|entry| Busy { entry, time: entry.busy_time(monotonic) });
        Self { last: Look { monotonic, busy: busy.collect() }, utilization: 0.0, resident }
    }

    /// Looks at the scene.
    ///
    /// `workers.utilization` is the last one again where there was one less than [`LEAST_WINDOW`] ago.
    /// `worker.rss` is from an earlier look where there are many workers, and left out where it is not
    /// known: see [`ResidentSet`].
    pub fn sample(&mut self, scene: &Snapshot) -> Gauges {
        Gauges { server: self.server(scene), workers: self.workers(scene) }
    }

    fn server(&mut self, scene: &Snapshot) -> Vec<(Gauge, f64)> {
        let ready = || scene.occupants.iter().filter(|occupant| occupant.entry.is_ready());
        let is_busy = |occupant: &&WorkerSample| occupant.entry.request_start().is_some();
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

    fn utilization(&mut self, scene: &Snapshot) -> f64 {
        let elapsed = scene.monotonic.saturating_sub(self.last.monotonic);
        if elapsed >= LEAST_WINDOW {
            self.last.monotonic = scene.monotonic;
            let mut there = Duration::ZERO;
            let mut spent = Duration::ZERO;
            for WorkerSample { entry, .. } in &scene.occupants {
                let grown = self.last.growth(entry, scene.monotonic);
                if entry.is_ready() {
                    there = there.saturating_add(elapsed);
                    spent = spent.saturating_add(grown.min(elapsed));
                }
            }
            let part = if there.is_zero() { 0.0 } else { spent.div_duration_f64(there) };
            self.utilization = part.clamp(0.0, 1.0);
        }
        self.utilization
    }

    fn workers(&mut self, scene: &Snapshot) -> Vec<(SlotId, Gauge, f64)> {
        let pids = scene.occupants.iter().map(|occupant| occupant.pid);
        self.resident.look(pids, scene.monotonic);
        let mut slots = BTreeMap::<SlotId, Slot>::new();
        for occupant in &scene.occupants {
            let slot = slots.entry(occupant.slot).or_default();
            let open = occupant.entry.open_connections();
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
    /// By how much a entry's busy time has risen since. It falls when a worker dies in a request. What is
    /// seen for the first time has risen by nothing yet.
    fn growth(&mut self, entry: &'static WorkerEntry, monotonic: Duration) -> Duration {
        let time = entry.busy_time(monotonic);
        match self.busy.iter_mut().find(|busy| std::ptr::eq(busy.entry, entry)) {
            Some(busy) => time.saturating_sub(std::mem::replace(&mut busy.time, time)),
            None => {
                self.busy.push(Busy { entry, time });
                Duration::ZERO
            }
        }
    }
}

#[cfg(test)]
mod tests;
