//! What the kernel knows about a worker that hangs or has died, besides its exit status.
//!
//! Files are read through a function, which tests replace. A file that cannot be read makes the fact unknown and is not
//! an error.

use std::fs;
use std::path::{Path, PathBuf};

use crate::system::cgroup::{self, Version};
use crate::system::pid::Pid;

/// Reads a file of /proc or /sys; `None` if it cannot be read.
fn read_file(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Returns the kernel function that a process sleeps in; `None` if it runs, or if the kernel does not tell.
///
/// Source: proc_pid_wchan(5). The file holds the name of a kernel function, or `0`.
pub fn wchan(pid: Pid) -> Option<String> {
    wchan_in(pid, read_file)
}

fn wchan_in(pid: Pid, read: impl Fn(&Path) -> Option<String>) -> Option<String> {
    let text = read(Path::new(&format!("/proc/{}/wchan", pid.0)))?;
    let name = text.trim();
    (!name.is_empty() && name != "0").then(|| name.to_owned())
}

/// The cgroup's count of processes that the kernel killed because memory ran out. It distinguishes such a SIGKILL from
/// any other.
///
/// The kernel counts before it sends the signal, so the count includes a worker that has been reaped.
#[derive(Debug)]
pub struct OomWatch<R = fn(&Path) -> Option<String>> {
    read: R,
    /// The file with the count, if this process has one.
    file: Option<PathBuf>,
    /// The count at the last reading.
    seen: u64,
}

impl OomWatch {
    /// Watches the cgroup of this process, which is also that of each worker. Earlier kills are not reported.
    pub fn new() -> Self {
        Self::with(read_file)
    }
}

impl Default for OomWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: Fn(&Path) -> Option<String>> OomWatch<R> {
    fn with(read: R) -> Self {
        let (file, seen) = find(&read).unzip();
        Self { read, file, seen: seen.unwrap_or(0) }
    }

    /// Returns whether the kernel killed a process of the cgroup since the last call because memory ran out.
    ///
    /// It may have been a process that a worker started. So call this once for all workers that are reaped together,
    /// and from time to time when none is: otherwise an old kill of another process is blamed on a worker.
    pub fn has_new_kill(&mut self) -> bool {
        let Some(count) = self.file.as_deref().and_then(|file| kills(file, &self.read)) else {
            return false;
        };
        count > std::mem::replace(&mut self.seen, count)
    }
}

/// Finds the nearest count from the cgroup of the process up to the root. A cgroup without the memory controller is
/// part of the one above it.
fn find(read: &impl Fn(&Path) -> Option<String>) -> Option<(PathBuf, u64)> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    cgroup::directories(&groups, &mounts, "memory").find_map(|(version, directory)| {
        let file = directory.join(match version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        });
        let count = kills(&file, read)?;
        Some((file, count))
    })
}

/// Reads the count. Both versions have a line `oom_kill N`; v1 has had it since Linux 4.13.
///
/// Source: the kernel's cgroup-v2.rst, cgroup-v1/memory.rst.
fn kills(file: &Path, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let text = read(file)?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
