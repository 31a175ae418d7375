//! Resident memory of the workers, from /proc.
//!
//! Opening and reading one file takes 9 us. For 64 workers this would take longer than the rest of a flush. Therefore
//! each sample reads only some processes in turn, [`READS`] or more if the last sample is long ago, and keeps the
//! known values of the others. With 64 workers a value is up to 16 s or eight samples old.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::system::pid::Pid;

/// Minimum number of processes that a sample reads.
const READS: usize = 8;
/// Processes to read per second since the last sample, which makes [`READS`] for a flush every 2 s.
const READS_PER_SECOND: u64 = 4;
/// Size of seven numbers of up to 20 digits, each with a space or newline.
const STATM_BYTES: usize = 7 * 21;

/// Reads the resident memory of a process; `None` if it is gone.
type ReadResident = Box<dyn FnMut(Pid) -> Option<u64> + Send>;

/// The last known resident memory of each process.
pub struct ResidentSet {
    /// The processes, the least recently read first.
    known: VecDeque<Known>,
    read: ReadResident,
    /// CLOCK_MONOTONIC of the last sample; zero before the first one, which therefore reads all processes.
    last: Duration,
}

struct Known {
    pid: Pid,
    bytes: Option<u64>,
}

impl ResidentSet {
    /// Starts without known values; `read` returns the bytes of a process.
    pub fn new(read: impl FnMut(Pid) -> Option<u64> + Send + 'static) -> Self {
        Self { known: VecDeque::new(), read: Box::new(read), last: Duration::ZERO }
    }

    /// Reads new processes first, and then the least recently read ones. Forgets the processes that are not in `pids`.
    pub fn sample(&mut self, pids: impl Iterator<Item = Pid>, monotonic: Duration) {
        let elapsed = monotonic.saturating_sub(std::mem::replace(&mut self.last, monotonic));
        let reads = elapsed.as_secs().saturating_mul(READS_PER_SECOND);
        let reads = usize::try_from(reads).unwrap_or(usize::MAX).max(READS);
        let pids: Vec<Pid> = pids.collect();
        self.known.retain(|known| pids.contains(&known.pid));
        for pid in pids.into_iter().rev() {
            if !self.known.iter().any(|known| known.pid == pid) {
                self.known.push_front(Known { pid, bytes: None });
            }
        }
        for _ in 0..reads.min(self.known.len()) {
            if let Some(Known { pid, .. }) = self.known.pop_front() {
                self.known.push_back(Known { pid, bytes: (self.read)(pid) });
            }
        }
    }

    /// The last known resident memory of a process; `None` if it was not read yet or is gone.
    pub fn bytes(&self, pid: Pid) -> Option<u64> {
        self.known.iter().find(|known| known.pid == pid)?.bytes
    }
}

impl Default for ResidentSet {
    fn default() -> Self {
        let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
        let page_bytes = page_bytes.and_then(|bytes| u64::try_from(bytes).ok());
        Self::new(move |pid| resident_pages(pid)?.checked_mul(page_bytes?))
    }
}

/// The second number of /proc/PID/statm (proc_pid_statm(5)). A zombie has 0 pages, and counts as gone.
fn resident_pages(pid: Pid) -> Option<u64> {
    let mut line = [0; STATM_BYTES];
    let mut file = File::open(format!("/proc/{}/statm", pid.0)).ok()?;
    let count = file.read(&mut line).ok()?;
    let line = std::str::from_utf8(&line[..count]).ok()?;
    line.split(' ').nth(1)?.parse().ok().filter(|&pages| pages > 0)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn pids(pids: std::ops::Range<i32>) -> impl Iterator<Item = Pid> {
        pids.map(Pid)
    }

    /// A reader that records the pids that it read; the memory of a process equals its pid.
    fn recording() -> (ResidentSet, impl Fn() -> Vec<i32>) {
        let (note, notes) = mpsc::channel();
        let resident = ResidentSet::new(move |pid| {
            note.send(pid.0).unwrap();
            u64::try_from(pid.0).ok()
        });
        (resident, move || notes.try_iter().collect())
    }

    #[test]
    fn this_process_has_memory_in_whole_pages() {
        let own = Pid(i32::try_from(std::process::id()).unwrap());
        let mut resident = ResidentSet::default();
        resident.sample([own].into_iter(), NOW);
        let bytes = resident.bytes(own).unwrap();
        assert!(bytes > 1 << 20 && bytes.is_multiple_of(4096), "{bytes}");
    }

    #[test]
    fn a_process_that_is_gone_has_no_value() {
        let mut resident = ResidentSet::default();
        resident.sample([Pid(-1)].into_iter(), NOW);
        assert_eq!(resident.bytes(Pid(-1)), None);
        assert_eq!(resident.bytes(Pid(1)), None);
    }

    #[test]
    fn a_sample_reads_eight_processes_and_the_next_one_continues() {
        let (mut resident, read) = recording();
        resident.sample(pids(1..21), NOW);
        assert_eq!(read(), (1..9).collect::<Vec<_>>());
        assert_eq!((resident.bytes(Pid(8)), resident.bytes(Pid(9))), (Some(8), None));
        resident.sample(pids(1..21), NOW);
        resident.sample(pids(1..21), NOW);
        assert_eq!(read(), (9..21).chain(1..5).collect::<Vec<_>>());
        assert_eq!(resident.bytes(Pid(20)), Some(20));
    }

    #[test]
    fn the_first_sample_reads_all_and_a_late_one_catches_up() {
        let (mut resident, read) = recording();
        resident.sample(pids(1..21), Duration::from_secs(1000));
        assert_eq!(read().len(), 20);
        resident.sample(pids(1..21), Duration::from_secs(1002));
        assert_eq!(read(), (1..9).collect::<Vec<_>>());
        resident.sample(pids(1..21), Duration::from_secs(1005));
        assert_eq!(read(), (9..21).collect::<Vec<_>>());
    }

    #[test]
    fn a_few_processes_are_all_read_in_each_sample() {
        let (mut resident, read) = recording();
        resident.sample(pids(1..4), NOW);
        resident.sample(pids(1..4), NOW);
        assert_eq!(read(), [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn a_new_process_is_read_at_once() {
        let (mut resident, read) = recording();
        resident.sample(pids(1..21), NOW);
        resident.sample(pids(1..22), NOW);
        assert_eq!(read()[8..], [21, 9, 10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn a_process_that_left_is_forgotten() {
        let (mut resident, _read) = recording();
        resident.sample(pids(1..3), NOW);
        resident.sample(pids(2..3), NOW);
        assert_eq!((resident.bytes(Pid(1)), resident.bytes(Pid(2))), (None, Some(2)));
    }
}
