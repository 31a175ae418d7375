//! Gauges, which are measured when they are needed.
//!
//! Values from a worker are limited to what is possible: a worker cannot be busy for longer than the elapsed time, and
//! cannot have more connections than descriptors.

use std::collections::BTreeMap;
use std::time::Duration;

use arctos_worker::shared::fd::AcceptQueue;
use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Scoreboard, Side, WorkerEntry};

use super::Gauge;
use super::memory::ProcessMemory;
use crate::system::cgroup::CgroupMemory;

/// The default of `fs.nr_open`, which limits the descriptors of a process. An entry with more connections contains
/// garbage.
const MAX_CONNECTIONS: u64 = 1 << 20;
/// Minimum time that `workers.utilization` covers. Over a shorter time it would be 0 or 1.
const MIN_WINDOW: Duration = Duration::from_millis(500);

/// A worker process, as the gauges need it. A slot has two of them while one replaces the other.
#[derive(Clone, Copy)]
pub struct WorkerSample {
    /// The slot of the worker.
    pub slot: SlotId,
    /// The scoreboard entry of the worker.
    pub entry: &'static WorkerEntry,
    /// Its memory; `None` while it is unknown.
    pub memory: Option<ProcessMemory>,
}

/// The state of the server from which gauges are measured; by default, that of a program without a server.
#[derive(Default)]
pub struct Snapshot {
    /// The wanted number of workers.
    pub target: u16,
    /// The worker processes.
    pub workers: Vec<WorkerSample>,
    /// The accept queues of all TCP listeners together; `None` without such a listener.
    pub queue: Option<AcceptQueue>,
    /// The connections that are shared and wait for a request.
    pub shared_connections: u32,
    /// The memory of the cgroup.
    pub cgroup: CgroupMemory,
    /// CLOCK_MONOTONIC, which the scoreboard uses as well.
    pub monotonic: Duration,
}

/// The gauges of one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gauges {
    /// The gauges of [`super::Scope::Server`].
    pub server: Vec<(Gauge, f64)>,
    /// The gauges of [`super::Scope::Worker`], sorted by slot.
    pub workers: Vec<(SlotId, Gauge, f64)>,
    /// Whether the gauges of the application are sent with them.
    pub has_applications: bool,
}

/// Measures gauges, and remembers the busy times of its last sample. Each consumer needs its own sampler, because the
/// samples of another consumer would shorten its window.
pub struct Sampler {
    last: BusyTimes,
    /// The utilization before the last sample.
    utilization: f64,
}

/// The busy times at the last comparison.
struct BusyTimes {
    monotonic: Duration,
    /// The busy times of all entries ever seen. They belong to an entry and not to a process, because the busy time
    /// of an entry continues with its next process.
    busy: Vec<Busy>,
}

/// The [`WorkerEntry::busy_time`] of an entry so far.
struct Busy {
    entry: &'static WorkerEntry,
    time: Duration,
}

/// The gauges of a slot.
#[derive(Default)]
struct SlotGauges {
    open: u64,
    /// `None` while they are not known of any process.
    rss_bytes: Option<u64>,
    pss_bytes: Option<u64>,
    private_bytes: Option<u64>,
}

impl Sampler {
    /// The window of the first sample starts now.
    pub fn open(scoreboard: &Scoreboard, monotonic: Duration) -> Self {
        let slots = (0..scoreboard.slot_count()).map(SlotId);
        let entries =
            slots.flat_map(|slot| [Side::A, Side::B].map(|side| scoreboard.entry(slot, side)));
        Self::since(monotonic, entries.flatten())
    }

    fn since(monotonic: Duration, entries: impl Iterator<Item = &'static WorkerEntry>) -> Self {
        let busy = entries.map(|entry| Busy { entry, time: entry.busy_time(monotonic) });
        Self { last: BusyTimes { monotonic, busy: busy.collect() }, utilization: 0.0 }
    }

    /// Measures all gauges.
    ///
    /// `workers.utilization` repeats its last value if that is less than [`MIN_WINDOW`] old. What is unknown of the
    /// memory is left out.
    pub fn sample(&mut self, snapshot: &Snapshot) -> Gauges {
        let (server, workers) = (self.server(snapshot), workers(snapshot));
        Gauges { server, workers, has_applications: true }
    }

    fn server(&mut self, snapshot: &Snapshot) -> Vec<(Gauge, f64)> {
        let ready = || snapshot.workers.iter().filter(|worker| worker.entry.is_ready());
        let is_busy = |worker: &&WorkerSample| worker.entry.request_start().is_some();
        let (len, max) = snapshot.queue.map_or((0, 0), |queue| (queue.len, queue.max));
        let mut gauges = vec![
            (Gauge::WorkersTarget, f64::from(snapshot.target)),
            (Gauge::WorkersReady, ready().count() as f64),
            (Gauge::WorkersBusy, ready().filter(is_busy).count() as f64),
            (Gauge::WorkersUtilization, self.utilization(snapshot)),
            (Gauge::BacklogLen, f64::from(len)),
            (Gauge::BacklogMax, f64::from(max)),
            (Gauge::ConnShared, f64::from(snapshot.shared_connections)),
        ];
        let CgroupMemory { limit, usage } = &snapshot.cgroup;
        gauges.extend(limit.iter().map(|limit| (Gauge::MemoryLimit, limit.bytes as f64)));
        if let Some(usage) = usage {
            gauges.push((Gauge::MemoryUsed, usage.used_bytes as f64));
            gauges.push((Gauge::MemoryWorkingSet, usage.working_set_bytes as f64));
        }
        gauges
    }

    fn utilization(&mut self, snapshot: &Snapshot) -> f64 {
        let elapsed = snapshot.monotonic.saturating_sub(self.last.monotonic);
        if elapsed >= MIN_WINDOW {
            self.last.monotonic = snapshot.monotonic;
            let mut available = Duration::ZERO;
            let mut spent = Duration::ZERO;
            for WorkerSample { entry, .. } in &snapshot.workers {
                let grown = self.last.growth(entry, snapshot.monotonic);
                if entry.is_ready() {
                    available = available.saturating_add(elapsed);
                    spent = spent.saturating_add(grown.min(elapsed));
                }
            }
            let part = if available.is_zero() { 0.0 } else { spent.div_duration_f64(available) };
            self.utilization = part.clamp(0.0, 1.0);
        }
        self.utilization
    }
}

fn workers(snapshot: &Snapshot) -> Vec<(SlotId, Gauge, f64)> {
    let mut slots = BTreeMap::<SlotId, SlotGauges>::new();
    for worker in &snapshot.workers {
        let slot = slots.entry(worker.slot).or_default();
        let open = worker.entry.open_connections();
        slot.open += if open <= MAX_CONNECTIONS { open } else { 0 };
        if let Some(memory) = worker.memory {
            add(&mut slot.rss_bytes, memory.rss_bytes);
            if let Some(parts) = memory.parts {
                add(&mut slot.pss_bytes, parts.pss_bytes);
                add(&mut slot.private_bytes, parts.private_bytes);
            }
        }
    }
    let mut gauges = Vec::with_capacity(4 * slots.len());
    for (id, slot) in slots {
        gauges.push((id, Gauge::ConnOpen, slot.open as f64));
        let memory = [
            (Gauge::WorkerRss, slot.rss_bytes),
            (Gauge::WorkerPss, slot.pss_bytes),
            (Gauge::WorkerPrivate, slot.private_bytes),
        ];
        gauges.extend(memory.into_iter().filter_map(|(of, bytes)| Some((id, of, bytes? as f64))));
    }
    gauges
}

fn add(sum: &mut Option<u64>, bytes: u64) {
    *sum = Some(sum.unwrap_or(0).saturating_add(bytes));
}

impl BusyTimes {
    /// The rise of an entry's busy time since the last comparison; 0 for a new entry. The busy time falls when a worker
    /// dies in a request.
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
