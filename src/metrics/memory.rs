//! The memory of the workers, as it was when it was last read. Reading costs time, so all who need the memory share what
//! is stored here: metrics, `/status` and `--max-rss`.
//!
//! | | costs | is read |
//! |---|---|---|
//! | resident memory | 9 us | in turn: [`READS`] processes for each sample, or more if the last sample is long ago |
//! | its parts | 2 ms for 100 MB, see [`process_memory`] | when older than [`PARTS_AGE`], within a [`Budget`] |
//!
//! With 64 workers, resident memory is up to 16 s or eight samples old. The budget is a hundredth of the time that
//! passes, so that a server with much memory reads less often, and never waits long for the kernel. Nothing is read
//! while nothing needs it.

use std::collections::VecDeque;
use std::time::Duration;

use nix::errno::Errno;

use crate::system::pid::Pid;
use crate::system::process_memory::{self, MemoryParts, NoParts};

/// Minimum number of processes whose resident memory a sample reads.
const READS: usize = 8;
/// Processes to read per second since the last sample, which makes [`READS`] for a flush every 2 s.
const READS_PER_SECOND: u64 = 4;
/// The parts of a process's memory are not read again before they are this old.
pub const PARTS_AGE: Duration = Duration::from_secs(2);

/// What is known of the memory of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessMemory {
    /// The resident memory.
    pub rss_bytes: u64,
    /// Its parts, which may be a little older; `None` if they are unknown.
    pub parts: Option<MemoryParts>,
}

/// The last known memory of each process.
pub struct WorkerMemory<R = ProcFiles> {
    /// The processes, the least recently read first.
    known: VecDeque<Known>,
    read: R,
    /// CLOCK_MONOTONIC of the last sample; zero before the first one, which therefore reads all processes.
    last: Duration,
    budget: Budget,
    refusal: Refusal,
}

/// Where the numbers come from.
pub trait ReadMemory {
    /// The resident memory of a process; `None` if it is gone.
    fn resident_bytes(&mut self, pid: Pid) -> Option<u64>;
    /// The parts of its memory, and how long reading them took.
    fn parts(&mut self, pid: Pid) -> (Result<MemoryParts, NoParts>, Duration);
}

/// The files of /proc.
#[derive(Default)]
pub struct ProcFiles;

impl ReadMemory for ProcFiles {
    fn resident_bytes(&mut self, pid: Pid) -> Option<u64> {
        process_memory::resident_bytes(pid)
    }

    fn parts(&mut self, pid: Pid) -> (Result<MemoryParts, NoParts>, Duration) {
        process_memory::timed_parts(pid)
    }
}

struct Known {
    pid: Pid,
    rss_bytes: Option<u64>,
    parts: Option<MemoryParts>,
    /// CLOCK_MONOTONIC of the last attempt to read the parts.
    parts_at: Option<Duration>,
}

impl Known {
    const fn new(pid: Pid) -> Self {
        Self { pid, rss_bytes: None, parts: None, parts_at: None }
    }

    fn are_parts_old(&self, monotonic: Duration) -> bool {
        self.parts_at.is_none_or(|at| at.saturating_add(PARTS_AGE) <= monotonic)
    }
}

/// Whether a measurement may take more time than the budget has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// It may be repeated later.
    Patient,
    /// It is needed now, and only once in the life of a process.
    Now,
}

/// Whether the kernel has refused to tell the parts of a process's memory.
enum Refusal {
    Never,
    /// It did, and nobody knows.
    New(Errno),
    Reported,
}

impl Default for WorkerMemory {
    fn default() -> Self {
        Self::new(ProcFiles)
    }
}

impl<R: ReadMemory> WorkerMemory<R> {
    /// Starts without known values.
    pub fn new(read: R) -> Self {
        Self {
            known: VecDeque::new(),
            read,
            last: Duration::ZERO,
            budget: Budget::default(),
            refusal: Refusal::Never,
        }
    }

    /// Reads new processes first, and then the least recently read ones. Forgets the processes that are not in `pids`.
    pub fn sample(&mut self, pids: &[Pid], monotonic: Duration) {
        self.sample_resident(pids, monotonic);
        self.refresh_parts(monotonic);
    }

    /// Like [`WorkerMemory::sample`], but reads the resident memory of all processes.
    pub fn sample_all(&mut self, pids: &[Pid], monotonic: Duration) {
        self.retain(pids);
        self.read_resident(usize::MAX);
        self.refresh_parts(monotonic);
    }

    /// Like [`WorkerMemory::sample`] without the parts of the memory, for a server in its caller's process: reading them
    /// would delay a request.
    pub fn sample_resident(&mut self, pids: &[Pid], monotonic: Duration) {
        let elapsed = monotonic.saturating_sub(std::mem::replace(&mut self.last, monotonic));
        let reads = elapsed.as_secs().saturating_mul(READS_PER_SECOND);
        self.retain(pids);
        self.read_resident(usize::try_from(reads).unwrap_or(usize::MAX).max(READS));
    }

    /// Measures a process now, for a limit of `limit_bytes`: its resident memory or, if it shares memory with the other
    /// `sharers`, its private memory and its share. The parts are read only if the resident memory exceeds the limit.
    ///
    /// `None` if the process is gone, or if the budget does not allow to read the parts now. Where the kernel does not
    /// tell them, the resident memory counts.
    pub fn measure(
        &mut self,
        pid: Pid,
        limit_bytes: u64,
        sharers: Option<u16>,
        urgency: Urgency,
        monotonic: Duration,
    ) -> Option<u64> {
        let rss_bytes = self.read.resident_bytes(pid)?;
        let index = self.index_of(pid);
        self.known[index].rss_bytes = Some(rss_bytes);
        let Some(sharers) = sharers.filter(|_| rss_bytes > limit_bytes) else {
            return Some(rss_bytes);
        };
        if self.known[index].are_parts_old(monotonic) {
            if urgency == Urgency::Patient && !self.budget.allows(monotonic) {
                return None;
            }
            self.read_parts(index, monotonic);
        }
        let parts = self.known[index].parts;
        Some(parts.map_or(rss_bytes, |parts| parts.with_share_of(sharers)))
    }

    /// Forgets a process.
    pub fn forget(&mut self, pid: Pid) {
        self.known.retain(|known| known.pid != pid);
    }

    /// Forgets the processes that are not in `pids`, and puts the new ones first.
    fn retain(&mut self, pids: &[Pid]) {
        self.known.retain(|known| pids.contains(&known.pid));
        for pid in pids.iter().rev() {
            if !self.known.iter().any(|known| known.pid == *pid) {
                self.known.push_front(Known::new(*pid));
            }
        }
    }

    fn index_of(&mut self, pid: Pid) -> usize {
        self.known.iter().position(|known| known.pid == pid).unwrap_or_else(|| {
            self.known.push_back(Known::new(pid));
            self.known.len() - 1
        })
    }

    fn read_resident(&mut self, count: usize) {
        for _ in 0..count.min(self.known.len()) {
            if let Some(mut known) = self.known.pop_front() {
                known.rss_bytes = self.read.resident_bytes(known.pid);
                self.known.push_back(known);
            }
        }
    }

    /// Reads old parts as far as the budget allows, the oldest first.
    fn refresh_parts(&mut self, monotonic: Duration) {
        let is_due = |index: &usize| self.known[*index].are_parts_old(monotonic);
        let mut due: Vec<usize> = (0..self.known.len()).filter(is_due).collect();
        due.sort_by_key(|index| self.known[*index].parts_at);
        for index in due {
            if !self.budget.allows(monotonic) {
                return;
            }
            self.read_parts(index, monotonic);
        }
    }

    fn read_parts(&mut self, index: usize, monotonic: Duration) {
        let known = &mut self.known[index];
        let (found, cost) = self.read.parts(known.pid);
        self.budget.spend(cost);
        if let (Err(NoParts::Unreadable(errno)), Refusal::Never) = (&found, &self.refusal) {
            self.refusal = Refusal::New(*errno);
        }
        known.parts = found.ok();
        known.parts_at = Some(monotonic);
    }

    /// What is known of the memory of a process; `None` if it was not read yet or is gone.
    pub fn of(&self, pid: Pid) -> Option<ProcessMemory> {
        let known = self.known.iter().find(|known| known.pid == pid)?;
        Some(ProcessMemory { rss_bytes: known.rss_bytes?, parts: known.parts })
    }

    /// Why the kernel does not tell the parts of a process's memory; at most once, for the log.
    pub fn take_refusal(&mut self) -> Option<Errno> {
        match self.refusal {
            Refusal::New(errno) => {
                self.refusal = Refusal::Reported;
                Some(errno)
            }
            Refusal::Never | Refusal::Reported => None,
        }
    }
}

/// How much time reading may take: a hundredth of the time that passes.
///
/// | | |
/// |---|---|
/// | at the start | [`Budget::MAX`] |
/// | with time | grows by a hundredth of it, up to [`Budget::MAX`] |
/// | a read | shrinks it by its duration, also below zero |
/// | at zero and below | nothing is read |
struct Budget {
    balance: i128,
    /// CLOCK_MONOTONIC of the last growth.
    at: Duration,
}

impl Budget {
    /// The maximum, so that reading never keeps the supervisor from its work for longer, apart from a last read.
    const MAX: Duration = Duration::from_millis(100);
    const FRACTION: i128 = 100;

    fn allows(&mut self, monotonic: Duration) -> bool {
        let elapsed = monotonic.saturating_sub(std::mem::replace(&mut self.at, monotonic));
        let grown = self.balance + nanos(elapsed) / Self::FRACTION;
        self.balance = grown.min(nanos(Self::MAX));
        self.balance > 0
    }

    fn spend(&mut self, time: Duration) {
        self.balance -= nanos(time);
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self { balance: nanos(Self::MAX), at: Duration::ZERO }
    }
}

fn nanos(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests;
