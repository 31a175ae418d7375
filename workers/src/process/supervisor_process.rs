//! The supervisor as a process: whether it still runs, whatever happened to the control socket.
//!
//! A control socket may end although the supervisor runs: a zygote's order was given up while its worker was being
//! started, or the application shut down a socket that is not its own. An orphan may shut down what all workers
//! share; a worker that has only lost its control socket must not.
//!
//! If the kernel has pidfds (Linux 5.3), the worker asks one, because it names the process for good. Otherwise
//! getppid(2) has to do: a worker is its supervisor's child, or becomes it as soon as the process between them has
//! exited. Until then its parent is another process although the supervisor runs, so the answer is only
//! [`Presence::Uncertain`]. Both report an exit a moment after the end of the control socket, because the kernel
//! closes that earlier.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};

use crate::shared::fd;

/// See the module.
#[derive(Debug)]
pub struct SupervisorProcess {
    pid: Pid,
    pidfd: Option<OwnedFd>,
}

/// What is known of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It runs.
    Alive,
    /// The parent is another process: the supervisor has exited, unless this worker is yet to become its child.
    Uncertain,
    /// It has exited.
    Gone,
}

impl SupervisorProcess {
    /// The calling process, for its children to inherit.
    pub fn this() -> Self {
        Self::of(getpid())
    }

    /// A process that has not been reaped.
    pub(crate) fn of(pid: Pid) -> Self {
        // Ignored: ENOSYS, or EPERM from a seccomp filter that does not know the call.
        Self { pid, pidfd: fd::process(pid).ok() }
    }

    /// Whether the supervisor runs.
    pub fn presence(&self) -> Presence {
        let Some(pidfd) = &self.pidfd else {
            let is_known = getppid() == self.pid || getpid() == self.pid;
            return if is_known { Presence::Alive } else { Presence::Uncertain };
        };
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        // EINTR or ENOMEM: the caller asks again.
        let has_ended = poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].any() == Some(true);
        if has_ended { Presence::Gone } else { Presence::Alive }
    }

    /// Whether the supervisor has exited, as far as that is known.
    pub fn is_gone(&self) -> bool {
        self.presence() != Presence::Alive
    }

    /// Has the kernel kill the caller when the supervisor exits. Does nothing in a process that is not, or not yet,
    /// the supervisor's child, because the kernel would watch another parent.
    ///
    /// Call this with the user and group that the process keeps, because a change of them undoes it. Then check
    /// [`Self::is_gone`]: the kernel does not report an earlier exit.
    ///
    /// Source: PR_SET_PDEATHSIG of prctl(2); children of the caller do not inherit it.
    pub fn bind(&self) -> Result<(), Errno> {
        if getppid() != self.pid {
            return Ok(());
        }
        prctl::set_pdeathsig(Signal::SIGKILL)
    }

    /// Undoes [`Self::bind`].
    pub fn unbind(&self) -> Result<(), Errno> {
        prctl::set_pdeathsig(None)
    }

    /// The pidfd, if there is one.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
pub(crate) mod stage {
    use std::process::Command;

    use super::*;

    /// A process that has exited.
    pub(crate) fn ended() -> SupervisorProcess {
        let mut child = Command::new("true").spawn().unwrap();
        let process = SupervisorProcess::of(Pid::from_raw(child.id().cast_signed()));
        child.wait().unwrap();
        process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exited_process_is_gone() {
        assert!(!SupervisorProcess::this().is_gone());
        assert!(stage::ended().is_gone());
        assert_eq!(stage::ended().presence(), Presence::Gone);
    }

    #[test]
    fn without_a_pidfd_the_parent_is_compared() {
        let presence = |pid| SupervisorProcess { pid, pidfd: None }.presence();
        assert_eq!(presence(getppid()), Presence::Alive);
        assert_eq!(presence(getpid()), Presence::Alive);
        assert_eq!(presence(Pid::from_raw(i32::MAX)), Presence::Uncertain);
    }
}
