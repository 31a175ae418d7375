//! What the kernel knows of a worker that hangs or is dead, beside its exit status.
//!
//! Text in, facts out: files are read through a function, which tests replace. What cannot be read is not
//! known, and nothing fails for it.

use std::fs;
use std::path::{Path, PathBuf};

use crate::system::cgroup::{self, Version};
use crate::system::pid::Pid;

/// Reads a file of /proc or /sys; `None` where it cannot be.
fn read_file(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// The function of the kernel that a process sleeps in; `None` while it runs, and where that is not to be
/// known.
///
/// Source: proc_pid_wchan(5). The name of a kernel function, or `0`.
pub fn wchan(pid: Pid) -> Option<String> {
    wchan_in(pid, read_file)
}

fn wchan_in(pid: Pid, read: impl Fn(&Path) -> Option<String>) -> Option<String> {
    let text = read(Path::new(&format!("/proc/{}/wchan", pid.0)))?;
    let name = text.trim();
    (!name.is_empty() && name != "0").then(|| name.to_owned())
}

/// The cgroup's own count of processes that were killed for want of memory: what tells such a SIGKILL from
/// everybody else's.
///
/// The kernel counts before it sends the signal, so a worker that is reaped is in the count.
#[derive(Debug)]
pub struct OomWatch<R = fn(&Path) -> Option<String>> {
    read: R,
    /// The file with the count, if there is one for this process.
    file: Option<PathBuf>,
    /// The count when it was last looked at.
    seen: u64,
}

impl OomWatch {
    /// Of the cgroup that this process, and so each worker, is in. What was killed before is no news.
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

    /// Whether a process of the cgroup was killed for want of memory since this was last asked.
    ///
    /// It may have been one that a worker started. So ask once for all that were reaped together, and now
    /// and then when nobody was: else an old kill of another process's passes for this one.
    pub fn news(&mut self) -> bool {
        let Some(count) = self.file.as_deref().and_then(|file| kills(file, &self.read)) else {
            return false;
        };
        count > std::mem::replace(&mut self.seen, count)
    }
}

/// The nearest count on the way from the process's group up to the root. A group without the memory
/// controller is part of the one above it.
fn find(read: &impl Fn(&Path) -> Option<String>) -> Option<(PathBuf, u64)> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let mounts = read(Path::new("/proc/self/mountinfo"))?;
    cgroup::folders(&groups, &mounts, "memory").find_map(|(version, folder)| {
        let file = folder.join(match version {
            Version::V1 => "memory.oom_control",
            Version::V2 => "memory.events",
        });
        let count = kills(&file, read)?;
        Some((file, count))
    })
}

/// Both versions have a line `oom_kill N`; v1 has since Linux 4.13.
///
/// Source: the kernel's cgroup-v2.rst, cgroup-v1/memory.rst.
fn kills(file: &Path, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
    let text = read(file)?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests;
