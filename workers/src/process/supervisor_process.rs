//! The supervisor as a process: whether it still lives, whatever has become of the line to it.
//!
//! A worker's end of the line may end although the supervisor lives: an order to a zygote was given up while its
//! worker was on its way, or the application has shut down a socket that is not its own. Who is an orphan may
//! end what all workers share; who has only lost the line must not.
//!
//! A pidfd is asked where the kernel has them (Linux 5.3), because it names the process for good. Elsewhere
//! getppid(2) has to do: a worker is its supervisor's child, or becomes it as soon as the process between them
//! has ended. Before that its parent is another process although the supervisor lives, so that this is only a
//! [`Presence::Uncertain`]. Either says so a moment later than the line, which is closed earlier in the end of a
//! process.

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

/// What can be said of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It lives.
    Alive,
    /// The parent is another process: it has ended, unless this worker has yet to become its child.
    Uncertain,
    /// It has ended.
    Gone,
}

impl SupervisorProcess {
    /// The calling process; its children inherit this.
    pub fn this() -> Self {
        Self::of(getpid())
    }

    /// A process that has not been reaped.
    pub(crate) fn of(pid: Pid) -> Self {
        // ENOSYS, or EPERM of a seccomp filter that does not know the call.
        Self { pid, pidfd: fd::process(pid).ok() }
    }

    /// Whether it lives.
    pub fn presence(&self) -> Presence {
        let Some(pidfd) = &self.pidfd else {
            let is_known = getppid() == self.pid || getpid() == self.pid;
            return if is_known { Presence::Alive } else { Presence::Uncertain };
        };
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        // An error is EINTR or ENOMEM: whoever asks asks again.
        let has_ended = poll(&mut fds, PollTimeout::ZERO).is_ok() && fds[0].any() == Some(true);
        if has_ended { Presence::Gone } else { Presence::Alive }
    }

    /// Whether it has ended, as far as that can be said.
    pub fn is_gone(&self) -> bool {
        self.presence() != Presence::Alive
    }

    /// Has the kernel kill the caller when the supervisor ends. Nothing is done in a process that is not its
    /// child, or not yet: the kernel would look at whoever is its parent.
    ///
    /// To be called with the rights that the process keeps, because a change of them undoes it. Whoever has called
    /// it looks at [`Self::is_gone`] then: an end that came before is not told.
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

    /// What it is asked through.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
pub(crate) mod stage {
    use std::process::Command;

    use super::*;

    /// One that has ended.
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
    fn a_process_is_gone_when_it_has_ended() {
        assert!(!SupervisorProcess::this().is_gone());
        assert!(stage::ended().is_gone());
        assert_eq!(stage::ended().presence(), Presence::Gone);
    }

    #[test]
    fn without_a_pidfd_the_parent_is_asked_for() {
        let asked = |pid| SupervisorProcess { pid, pidfd: None }.presence();
        assert_eq!(asked(getppid()), Presence::Alive);
        assert_eq!(asked(getpid()), Presence::Alive);
        assert_eq!(asked(Pid::from_raw(i32::MAX)), Presence::Uncertain);
    }
}
