//! The memory of the workers, for the limit of `--max-rss`, for metrics and for `/status`, and that of the cgroup.

use std::fs;
use std::time::Duration;

use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::log::{Level, Log, Value};

use super::children::Child;
use crate::metrics::memory::Urgency;
use crate::metrics::{ProcessMemory, WorkerMemory};
use crate::supervisor::recycling::MemoryLimit;
use crate::system::cgroup::{self, CgroupMemory};
use crate::system::pid::Pid;

/// The files of the cgroup are not read again before they are this old: some kernels collect the numbers of all CPUs
/// for it.
const CGROUP_AGE: Duration = Duration::from_secs(1);

/// What is known of the memory, and when it was read.
#[derive(Default)]
pub(super) struct Memory {
    workers: WorkerMemory,
    cgroup: CgroupMemory,
    /// CLOCK_MONOTONIC; `None` before the first time.
    cgroup_at: Option<Duration>,
    /// The last generation whose workers start above their limit, so that this is logged once.
    too_large: Option<Generation>,
}

impl Memory {
    /// Samples the workers in turn, for metrics.
    pub(super) fn sample(&mut self, pids: &[Pid], monotonic: Duration) {
        self.workers.sample(pids, monotonic);
    }

    /// Samples all workers, for an operator.
    pub(super) fn sample_all(&mut self, pids: &[Pid], monotonic: Duration) {
        self.workers.sample_all(pids, monotonic);
    }

    pub(super) fn of(&self, pid: Pid) -> Option<ProcessMemory> {
        self.workers.of(pid)
    }

    pub(super) fn forget(&mut self, pid: Pid) {
        self.workers.forget(pid);
    }

    /// The limit and the use of the cgroup.
    pub(super) fn cgroup(&mut self, monotonic: Duration) -> CgroupMemory {
        if self.cgroup_at.is_none_or(|at| at.saturating_add(CGROUP_AGE) <= monotonic) {
            self.cgroup = cgroup::memory(|path| fs::read_to_string(path).ok());
            self.cgroup_at = Some(monotonic);
        }
        self.cgroup.clone()
    }

    /// Measures a worker that has just become ready. Its replacement would have as much, so a worker that exceeds its
    /// limit already gets a higher one.
    pub(super) fn start(&mut self, child: &mut Child, target: u16, monotonic: Duration, log: &Log) {
        let Some(limit) = limit_of(child) else { return };
        let bytes = limit.bytes(target);
        let (pid, sharers) = (child.pid, limit.sharers(target));
        let found = self.workers.measure(pid, bytes, sharers, Urgency::Now, monotonic);
        let Some(found) = found else { return };
        let Some(own_bytes) = child.recycling.memory.start(found, bytes, monotonic) else { return };
        let generation = child.entry.generation();
        if self.too_large.replace(generation) != Some(generation) {
            let pairs = [
                ("slot", Value::Number(i64::from(child.slot.0))),
                ("pid", Value::Number(i64::from(pid.0))),
                ("generation", Value::Number(i64::from(generation.0))),
                ("limit", number(bytes)),
                ("value", number(found)),
                ("new_limit", number(own_bytes)),
            ];
            log.line(Level::Warning, "worker.max_rss_too_low", &pairs);
        }
    }

    /// Takes the samples of the ready workers that are due, the oldest first, because the time for it is limited.
    pub(super) fn weigh(&mut self, children: &mut [Child], target: u16, monotonic: Duration) {
        let is_due =
            |child: &&mut Child| child.entry.is_ready() && child.recycling.memory.is_due(monotonic);
        let mut due: Vec<&mut Child> = children.iter_mut().filter(is_due).collect();
        due.sort_by_key(|child| child.recycling.memory.sampled_at());
        for child in due {
            let Some(limit) = limit_of(child) else { continue };
            let configured = limit.bytes(target);
            let bytes = child.recycling.memory.limit_bytes(configured);
            let (pid, sharers) = (child.pid, limit.sharers(target));
            let found = self.workers.measure(pid, bytes, sharers, Urgency::Patient, monotonic);
            if let Some(found) = found {
                child.recycling.memory.sample(found, configured, monotonic);
            }
        }
    }

    /// Logs once that the kernel does not tell what memory is shared.
    pub(super) fn log_refusal(&mut self, limit: Option<MemoryLimit>, log: &Log) {
        let Some(errno) = self.workers.take_refusal() else { return };
        let (level, effect) = match limit {
            Some(limit) if limit.is_shared => (Level::Warning, "--max-rss limits resident memory"),
            Some(_) | None => (Level::Info, "only resident memory is reported"),
        };
        let pairs = [("reason", Value::Display(&errno)), ("effect", Value::Text(effect))];
        log.line(level, "worker.memory_unreadable", &pairs);
    }
}

fn limit_of(child: &Child) -> Option<MemoryLimit> {
    child.recycling.own.and_then(|limits| limits.memory())
}

fn number(bytes: u64) -> Value<'static> {
    Value::Number(i64::try_from(bytes).unwrap_or(i64::MAX))
}
