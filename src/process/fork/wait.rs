//! Reaps children, and looks at them without reaping: waitpid(2) and waitid(2).

use nix::errno::Errno;
use nix::libc;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd;

use crate::supervisor::slot::ExitStatus;
use crate::system::pid::Pid;

/// Blocks until this child exits, and reaps it. To be called for a child that is about to exit.
pub fn await_exit(pid: Pid) {
    let mut status = 0;
    // SAFETY: writes to `status` and nothing else.
    while unsafe { libc::waitpid(pid.0, &raw mut status, 0) } < 0 && Errno::last() == Errno::EINTR {
    }
}

/// Reaps one child that has exited, whatever started it; `None` if there is none at present.
///
/// This does not use nix's waitpid, which fails on a status with a real-time signal after the child was reaped.
pub fn reap() -> Option<(Pid, ExitStatus)> {
    loop {
        let mut status = 0;
        // SAFETY: writes to `status` and nothing else.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return None; // 0: none has exited. ECHILD: there is none.
        }
        if libc::WIFEXITED(status) {
            return Some((Pid(pid), ExitStatus::Code(libc::WEXITSTATUS(status))));
        }
        if libc::WIFSIGNALED(status) {
            return Some((Pid(pid), ExitStatus::Signal(libc::WTERMSIG(status))));
        }
        // The child was stopped, not ended: we are its debugger.
    }
}

/// Whether this process is a child of the caller that is not reaped yet, so that its pid cannot be reused.
///
/// Reaps nothing. Source: waitid(2), for which only a positive number names a single child.
pub fn is_child(pid: Pid) -> bool {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    // EINVAL comes from nix, which does not know the real-time signals that may have killed the child.
    pid.0 > 0 && waitid(Id::Pid(unistd::Pid::from_raw(pid.0)), flags) != Err(Errno::ECHILD)
}

/// Blocks until a child that was killed or is about to exit has done so, and returns its exit status without reaping
/// it; `None` if the status is not known.
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
    fn a_process_is_a_child_until_it_is_reaped_and_no_other_ever_is() {
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
