//! Whether a process is a child of this one, and since when.

use std::fs;

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd;

use crate::supervisor::slot::ExitStatus;
use crate::system::pid::Pid;

/// Whether this process is a child of the caller that was not reaped yet: then its number is nobody else's.
///
/// Reaps nothing. Source: waitid(2), which knows no child by a number that is not positive.
pub fn is_child(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // EINVAL is nix's: it does not know real-time signals, which may have ended the child.
    pid.0 > 0 && waitid(Id::Pid(unistd::Pid::from_raw(pid.0)), flags) != Err(Errno::ECHILD)
}

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
pub struct Elders {
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
    pub fn of_caller() -> Self {
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
    pub fn and_before(self, child: Pid) -> Self {
        Self { before: StartTime::of(child), ..self }
    }

    /// Whether this process is one of them.
    pub fn contain(&self, pid: Pid) -> bool {
        StartTime::of(pid).is_some_and(|start| {
            self.before.is_some_and(|before| start < before)
                || self.children.contains(&(pid, start))
        })
    }
}

/// How a child ends that was killed, or is about to end: this waits for it, and reaps nothing. `None` where
/// that is not to be known.
pub fn await_status(pid: Pid) -> Option<ExitStatus> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    loop {
        match waitid(Id::Pid(unistd::Pid::from_raw(pid.0)), flags) {
            Ok(WaitStatus::Exited(_, code)) => return Some(ExitStatus::Code(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                return Some(ExitStatus::Signal(signal as i32));
            }
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => return None,
        }
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

    #[test]
    fn a_child_is_one_until_it_is_reaped_and_nobody_else_ever_is() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid(child.id().cast_signed());
        assert!(is_child(pid));
        child.kill().unwrap();
        assert_eq!(await_status(pid), Some(ExitStatus::Signal(9)));
        assert!(is_child(pid));
        child.wait().unwrap();
        assert_eq!(await_status(pid), None);
        assert!(!is_child(pid));
        for stranger in [1, 0, -1, i32::MAX, i32::MIN, std::process::id().cast_signed()] {
            assert!(!is_child(Pid(stranger)), "{stranger}");
        }
    }
}
