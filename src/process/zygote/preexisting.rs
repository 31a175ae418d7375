//! Which processes were there before a zygote.

use std::fs;

use crate::system::pid::Pid;

/// When a process started, as the kernel counts: in ticks since boot, 10 ms each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct StartTime(u64);

impl StartTime {
    /// `None` where there is no such process.
    ///
    /// Source: the 22nd field of /proc/PID/stat; the name of the program, before it, may hold anything.
    fn of(pid: Pid) -> Option<Self> {
        let stat = fs::read(format!("/proc/{}/stat", pid.0)).ok()?;
        let name_end = stat.iter().rposition(|&byte| byte == b')')?;
        let fields = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
        fields.split_ascii_whitespace().nth(19)?.parse().ok().map(Self)
    }
}

/// Processes that were there before a child was forked, and so are not what the child has forked.
#[derive(Clone, Debug, Default)]
pub(super) struct Elders {
    /// Children of the caller. Not by their number alone, which may be another's later.
    children: Vec<(Pid, StartTime)>,
    /// All that started earlier than the child.
    before: Option<StartTime>,
}

impl Elders {
    /// To be called right before the fork.
    ///
    /// Without CONFIG_PROC_CHILDREN the kernel does not list them: then only what has started in an earlier tick
    /// than the child is recognized.
    pub(super) fn of_caller() -> Self {
        let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
        let listed: String = tasks
            .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
            .collect::<Vec<_>>()
            .join(" ");
        let pids = listed.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid);
        let children = pids.filter_map(|pid| Some((pid, StartTime::of(pid)?))).collect();
        Self { children, before: None }
    }

    /// And those that are older than this child, which was not reaped yet.
    pub(super) fn and_before(self, child: Pid) -> Self {
        Self { before: StartTime::of(child), ..self }
    }

    /// Whether this process is one of them.
    pub(super) fn contain(&self, pid: Pid) -> bool {
        StartTime::of(pid).is_some_and(|start| {
            self.before.is_some_and(|before| start < before)
                || self.children.contains(&(pid, start))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_was_there_before_a_child_is_told_from_who_comes_after_it() {
        let start = || Command::new("sleep").arg("1000").spawn().unwrap();
        let pid_of = |child: &std::process::Child| Pid(child.id().cast_signed());
        let mut before = start();
        let elders = Elders::of_caller();
        let mut child = start();
        let mut after = start();
        // As a rule all three have started in the same tick.
        let elders = elders.and_before(pid_of(&child));
        assert!(elders.contain(pid_of(&before)));
        assert!(!elders.contain(pid_of(&after)));
        for child in [&mut before, &mut child, &mut after] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(!elders.contain(pid_of(&before)), "the number may be another's now");
    }
}
