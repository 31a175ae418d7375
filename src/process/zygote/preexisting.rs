//! Processes that existed before a zygote was forked. None of them can be one of its workers.

use std::fs;

use crate::system::pid::Pid;

/// The start time of a process in clock ticks since boot (10 ms each).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StartTime(u64);

impl StartTime {
    /// Returns the start time of a process; `None` if there is no such process.
    ///
    /// Source: field 22 of /proc/PID/stat. The program name, which comes before it, may contain anything.
    fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read(format!("/proc/{}/stat", pid.0)).ok()?;
        let name_end = stat.iter().rposition(|&byte| byte == b')')?;
        let fields = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
        fields.split_ascii_whitespace().nth(19)?.parse().ok().map(Self)
    }
}

/// Processes that existed before a child was forked, and therefore cannot be the child's own children.
#[derive(Clone, Debug, Default)]
pub(super) struct PreexistingProcesses {
    /// Children of the caller, with their start times, because a pid may be reused.
    children: Vec<(Pid, StartTime)>,
    /// Every process that started before this time existed before the child, too.
    started_before: Option<StartTime>,
}

impl PreexistingProcesses {
    /// Records the children of the caller. Call this right before the fork.
    ///
    /// A kernel without CONFIG_PROC_CHILDREN does not list them. Then only processes that started in an earlier
    /// tick than the child are recognized.
    pub(super) fn record() -> Self {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let listed: String = tasks
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .collect::<Vec<_>>()
            .join(" ");
        let pids = listed.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid);
        let children = pids.filter_map(|pid| Some((pid, StartTime::of(pid)?))).collect();
        Self { children, started_before: None }
    }

    /// Adds all processes that are older than this child, which must not be reaped yet.
    pub(super) fn and_older_than(self, child: Pid) -> Self {
        Self { started_before: StartTime::of(child), ..self }
    }

    pub(super) fn contain(&self, pid: Pid) -> bool {
        StartTime::of(pid).is_some_and(|start| {
            self.started_before.is_some_and(|before| start < before)
                || self.children.contains(&(pid, start))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn processes_from_before_the_fork_are_distinguished_from_later_ones() {
        let start = || Command::new("sleep").arg("1000").spawn().unwrap();
        let pid_of = |child: &std::process::Child| Pid(child.id().cast_signed());
        let mut before = start();
        let preexisting = PreexistingProcesses::record();
        let mut child = start();
        let mut after = start();
        // All three usually start in the same tick.
        let preexisting = preexisting.and_older_than(pid_of(&child));
        assert!(preexisting.contain(pid_of(&before)));
        assert!(!preexisting.contain(pid_of(&after)));
        for child in [&mut before, &mut child, &mut after] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(!preexisting.contain(pid_of(&before)), "the pid may have been reused");
    }
}
