//! Resident memory of the workers, from /proc.
//!
//! To open and read one file takes 9 us, which would make a flush of 64 workers cost more than all the
//! rest of it. So a look reads some processes, in turn, and keeps what it knows of the others: [`READS`],
//! or more where the last look was long ago. With 64 workers a value is up to 16 s or eight looks old.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};

use crate::system::pid::Pid;

/// Processes that a look reads at least.
const READS: usize = 8;
/// And for each second since the last one: as many as that makes for a flush every 2 s.
const READS_A_SECOND: u64 = 4;
/// Seven numbers of up to 20 digits, each with a space or newline.
const STATM_BYTES: usize = 7 * 21;

/// Reads one process; `None` when it is gone.
type ReadResident = Box<dyn FnMut(Pid) -> Option<u64> + Send>;

/// What is known of each process.
pub struct ResidentSet {
    /// The one that was read longest ago is first.
    known: VecDeque<Known>,
    read: ReadResident,
    /// CLOCK_MONOTONIC of the last look; zero before the first one, which so reads all.
    last: Duration,
}

struct Known {
    pid: Pid,
    bytes: Option<u64>,
}

impl ResidentSet {
    /// Nothing known yet; `read` gives the bytes of one process.
    pub fn new(read: impl FnMut(Pid) -> Option<u64> + Send + 'static) -> Self {
        Self { known: VecDeque::new(), read: Box::new(read), last: Duration::ZERO }
    }

    /// Reads those that are new, and then those that were read longest ago. Forgets who is not there.
    pub fn look(&mut self, pids: impl Iterator<Item = Pid>, monotonic: Duration) {
        let elapsed = monotonic.saturating_sub(std::mem::replace(&mut self.last, monotonic));
        let reads = elapsed.as_secs().saturating_mul(READS_A_SECOND);
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

    /// A process's memory when it was read last; `None` where it was not yet, or is gone.
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

/// The second number of /proc/PID/statm (proc_pid_statm(5)). A process that is dead and not yet
/// reaped has 0 pages, and is gone.
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

    /// A reader that writes down whom it read; a process has as many bytes as its number.
    fn noting() -> (ResidentSet, impl Fn() -> Vec<i32>) {
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
        resident.look([own].into_iter(), NOW);
        let bytes = resident.bytes(own).unwrap();
        assert!(bytes > 1 << 20 && bytes.is_multiple_of(4096), "{bytes}");
    }

    #[test]
    fn a_process_that_is_gone_has_no_value() {
        let mut resident = ResidentSet::default();
        resident.look([Pid(-1)].into_iter(), NOW);
        assert_eq!(resident.bytes(Pid(-1)), None);
        assert_eq!(resident.bytes(Pid(1)), None);
    }

    #[test]
    fn a_look_reads_eight_processes_and_the_next_one_goes_on() {
        let (mut resident, read) = noting();
        resident.look(pids(1..21), NOW);
        assert_eq!(read(), (1..9).collect::<Vec<_>>());
        assert_eq!((resident.bytes(Pid(8)), resident.bytes(Pid(9))), (Some(8), None));
        resident.look(pids(1..21), NOW);
        resident.look(pids(1..21), NOW);
        assert_eq!(read(), (9..21).chain(1..5).collect::<Vec<_>>());
        assert_eq!(resident.bytes(Pid(20)), Some(20));
    }

    #[test]
    fn the_first_look_reads_all_and_a_late_one_catches_up() {
        let (mut resident, read) = noting();
        resident.look(pids(1..21), Duration::from_secs(1000));
        assert_eq!(read().len(), 20);
        resident.look(pids(1..21), Duration::from_secs(1002));
        assert_eq!(read(), (1..9).collect::<Vec<_>>());
        resident.look(pids(1..21), Duration::from_secs(1005));
        assert_eq!(read(), (9..21).collect::<Vec<_>>());
    }

    #[test]
    fn few_processes_are_all_read_once_a_look() {
        let (mut resident, read) = noting();
        resident.look(pids(1..4), NOW);
        resident.look(pids(1..4), NOW);
        assert_eq!(read(), [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn a_new_process_does_not_wait_for_its_turn() {
        let (mut resident, read) = noting();
        resident.look(pids(1..21), NOW);
        resident.look(pids(1..22), NOW);
        assert_eq!(read()[8..], [21, 9, 10, 11, 12, 13, 14, 15]);
    }

    #[test]
    fn who_left_is_forgotten() {
        let (mut resident, _read) = noting();
        resident.look(pids(1..3), NOW);
        resident.look(pids(2..3), NOW);
        assert_eq!((resident.bytes(Pid(1)), resident.bytes(Pid(2))), (None, Some(2)));
    }
}
