//! The memory of a process, from two files of /proc.
//!
//! | file | says | time for a process of 100 MB |
//! |---|---|---|
//! | `statm` | the resident memory | 9 us |
//! | `smaps_rollup` | also what of it is private, and the proportional share of the rest | 2 ms, more with many mappings |
//!
//! The kernel keeps the first number, and computes the others by a walk through all pages of the process. Measured on
//! Linux 6.18, x86_64: 0.3 ms for 10 MB, 1.7 ms for 100 MB in 120 mappings, 2.0 ms in 2,000, 7.9 ms in 10,000, and 30 ms
//! for 1 GB. The process itself continues in the meantime; only its own mmap(2) may wait for a part of the walk.

use std::fs::{self, File};
use std::io::{self, Read};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use super::pid::Pid;

/// Size of seven numbers of up to 20 digits, each with a space or newline.
const STATM_BYTES: usize = 7 * 21;

/// The parts of a process's resident memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryParts {
    /// The proportional set size: each page counts as a fraction, divided by the number of processes that map it.
    pub pss_bytes: u64,
    /// Pages that no other process maps.
    pub private_bytes: u64,
    /// Pages that other processes map as well.
    pub shared_bytes: u64,
}

impl MemoryParts {
    /// The private memory, and an equal share of what `sharers` processes share.
    ///
    /// Unlike the proportional set size, this does not change while workers come and go: that of the last old worker of
    /// a rollout rises as its fellows exit, although it uses nothing more.
    pub fn with_share_of(&self, sharers: u16) -> u64 {
        self.private_bytes.saturating_add(self.shared_bytes / u64::from(sharers.max(1)))
    }
}

/// Why the parts of a process's memory are unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoParts {
    /// The process is gone.
    Gone,
    /// The kernel does not tell: this process may not inspect the other one, or there is no such file.
    Unreadable(Errno),
}

/// Reads the resident memory of a process in bytes; `None` if it is gone.
pub fn resident_bytes(pid: Pid) -> Option<u64> {
    let page_bytes = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    let page_bytes = page_bytes.and_then(|bytes| u64::try_from(bytes).ok());
    resident_pages(pid)?.checked_mul(page_bytes?)
}

/// The second number of /proc/PID/statm (proc_pid_statm(5)). A zombie has 0 pages, and counts as gone.
fn resident_pages(pid: Pid) -> Option<u64> {
    let mut line = [0; STATM_BYTES];
    let mut file = File::open(format!("/proc/{}/statm", pid.0)).ok()?;
    let count = file.read(&mut line).ok()?;
    let line = std::str::from_utf8(&line[..count]).ok()?;
    line.split(' ').nth(1)?.parse().ok().filter(|&pages| pages > 0)
}

/// Reads the parts of a process's memory.
///
/// A supervisor that runs as root without CAP_SYS_PTRACE, as in most containers, may not read the file of a worker that
/// runs as another user; gVisor and Linux before 4.14 have no such file.
fn memory_parts(pid: Pid) -> Result<MemoryParts, NoParts> {
    let read = fs::read_to_string(format!("/proc/{}/smaps_rollup", pid.0));
    let is_alive = || resident_pages(pid).is_some();
    match read.map(|text| parts(&text)) {
        Ok(Some(parts)) => Ok(parts),
        Err(error) if is_alive() => Err(NoParts::Unreadable(errno(&error))),
        Ok(None) if is_alive() => Err(NoParts::Unreadable(Errno::ENODATA)),
        Ok(None) | Err(_) => Err(NoParts::Gone),
    }
}

/// Like [`memory_parts`], and returns how long it took.
pub fn timed_parts(pid: Pid) -> (Result<MemoryParts, NoParts>, Duration) {
    let start = Instant::now();
    (memory_parts(pid), start.elapsed())
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EINVAL, Errno::from_raw)
}

/// Reads the sums that `smaps_rollup` has, in units of 1024 bytes.
///
/// Shape:  a line with the range of addresses, then lines such as `Private_Dirty:       116 kB`.
/// Source: proc_pid_smaps(5), the kernel's filesystems/proc.rst.
fn parts(text: &str) -> Option<MemoryParts> {
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
    };
    let private_bytes = bytes("Private_Clean")?.checked_add(bytes("Private_Dirty")?)?;
    let shared_bytes = bytes("Shared_Clean")?.checked_add(bytes("Shared_Dirty")?)?;
    Some(MemoryParts { pss_bytes: bytes("Pss")?, private_bytes, shared_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a worker of arctos with `--preload`, Linux 6.18.
    const SAMPLE: &str = "\
563b20a96000-7ffec86af000 ---p 00000000 00:00 0                          [rollup]
Rss:               93316 kB
Pss:               27295 kB
Pss_Dirty:         22116 kB
Pss_Anon:          21900 kB
Pss_File:           5179 kB
Pss_Shmem:           216 kB
Shared_Clean:      11604 kB
Shared_Dirty:      71200 kB
Private_Clean:        40 kB
Private_Dirty:     10472 kB
Referenced:        93316 kB
Anonymous:         81116 kB
KSM:                   0 kB
LazyFree:              0 kB
AnonHugePages:         0 kB
ShmemPmdMapped:        0 kB
FilePmdMapped:         0 kB
Shared_Hugetlb:        0 kB
Private_Hugetlb:       0 kB
Swap:                  0 kB
SwapPss:               0 kB
Locked:                0 kB
";

    /// Linux 4.14 had fewer lines, in the same form.
    const OLD_SAMPLE: &str = "\
00400000-ffffffffff601000 ---p 00000000 00:00 0                          [rollup]
Rss:                 940 kB
Pss:                 112 kB
Shared_Clean:        832 kB
Shared_Dirty:          0 kB
Private_Clean:         0 kB
Private_Dirty:       108 kB
Referenced:          940 kB
Anonymous:           108 kB
Swap:                  0 kB
Locked:                0 kB
";

    fn own_pid() -> Pid {
        Pid(i32::try_from(std::process::id()).unwrap())
    }

    #[test]
    fn the_parts_are_sums_of_clean_and_dirty_pages() {
        let found = parts(SAMPLE).unwrap();
        assert_eq!(found.pss_bytes, 27_295 << 10);
        assert_eq!(found.private_bytes, 10_512 << 10);
        assert_eq!(found.shared_bytes, 82_804 << 10);
        assert_eq!(parts(OLD_SAMPLE).unwrap().private_bytes, 108 << 10);
    }

    #[test]
    fn other_text_has_no_parts() {
        for text in ["", "Pss: 1 kB\n", "Pss: 1 kB\nPrivate_Clean: x kB\n", &SAMPLE[..200]] {
            assert_eq!(parts(text), None, "{text:?}");
        }
        assert_eq!(parts(&SAMPLE.replace("10472", "18446744073709551615")), None);
    }

    #[test]
    fn the_shared_part_is_divided_by_the_number_of_sharers() {
        let found = MemoryParts { pss_bytes: 0, private_bytes: 10, shared_bytes: 60 };
        assert_eq!([1, 4, 0].map(|sharers| found.with_share_of(sharers)), [70, 25, 70]);
    }

    #[test]
    fn this_process_has_memory_in_whole_pages() {
        let bytes = resident_bytes(own_pid()).unwrap();
        assert!(bytes > 1 << 20 && bytes.is_multiple_of(4096), "{bytes}");
    }

    #[test]
    fn the_parts_of_this_process_are_known_or_the_kernel_says_why() {
        match memory_parts(own_pid()) {
            Ok(found) => {
                assert!(found.private_bytes > 0);
                assert!(found.pss_bytes <= found.private_bytes + found.shared_bytes);
            }
            Err(NoParts::Unreadable(_)) => {} // such as in gVisor
            Err(NoParts::Gone) => panic!("this process is alive"),
        }
    }

    #[test]
    fn a_process_that_does_not_exist_is_gone() {
        assert_eq!(resident_bytes(Pid(-1)), None);
        assert_eq!(memory_parts(Pid(-1)), Err(NoParts::Gone));
    }
}
