//! Children that ended: waitpid(2) and waitid(2).
#![expect(unsafe_code, reason = "waitpid(2)")]

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd;

use crate::supervisor::slot::ExitStatus;
use crate::system::pid::Pid;

/// Reaps a child that is about to end: this waits for it.
pub fn await_end(pid: Pid) {
    let mut status = 0;
    // SAFETY: writes to `status` and nothing else.
    while unsafe { libc::waitpid(pid.0, &raw mut status, 0) } < 0 && Errno::last() == Errno::EINTR {
    }
}

/// One child that has ended, whoever started it; `None` when there is none at present.
///
/// Not nix's waitpid(2): it fails on a status with a real-time signal, after the child was reaped.
pub fn reap() -> Option<(Pid, ExitStatus)> {
    loop {
        let mut status = 0;
        // SAFETY: writes to `status` and nothing else.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return None; // 0: none has ended; ECHILD: there is none.
        }
        if libc::WIFEXITED(status) {
            return Some((Pid(pid), ExitStatus::Code(libc::WEXITSTATUS(status))));
        }
        if libc::WIFSIGNALED(status) {
            return Some((Pid(pid), ExitStatus::Signal(libc::WTERMSIG(status))));
        }
        // Stopped under a debugger that is ourselves: not an end.
    }
}

/// Whether this process is a child of the caller that was not reaped yet: then its number is nobody else's.
///
/// Reaps nothing. Source: waitid(2), which knows no child by a number that is not positive.
pub fn is_child(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // EINVAL is nix's: it does not know real-time signals, which may have ended the child.
    pid.0 > 0 && waitid(Id::Pid(unistd::Pid::from_raw(pid.0)), flags) != Err(Errno::ECHILD)
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
