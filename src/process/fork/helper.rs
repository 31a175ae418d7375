//! A child that does one thing, says what came out of it, and ends.
#![expect(unsafe_code, reason = "fork(2), close_range(2), _exit(2)")]

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::unistd::{self, ForkResult, write};

use super::child_setup::die_with;
use crate::process::fork::wait::await_end;
use crate::process::sigaction::{Disposition, set_disposition};
use crate::system::pid::Pid;

/// A child that does one thing, says what came out of it, and ends.
pub struct HelperProcess {
    pid: unistd::Pid,
    words: OwnedFd,
}

/// Does `work` in a child, for a call that waits and cannot be told not to; its words come through a
/// pipe. They are at most 64 KB, the room of one.
///
/// No interpreter is told of this fork, so `work` is nothing of Python's. It has no descriptors but the
/// standard ones. The child dies with this thread.
///
/// Unlike [`spawn`](super::spawn) this also forks a process with threads, because a server in its caller's process
/// has the caller's: one of them may hold a lock that `work` needs, so whoever waits has to limit how
/// long, and to kill it then.
pub fn run_helper(work: impl FnOnce() -> Vec<u8>) -> io::Result<HelperProcess> {
    let (words, mouth) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let parent = unistd::getpid();
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // SAFETY: the C library makes its allocator usable in the child of a process with threads; all else
    // that the child may wait for in vain is why it is killed when it takes too long.
    let forked = unsafe { unistd::fork() };
    if let Ok(ForkResult::Child) = forked {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            if prepare_errand(parent, &mouth).is_ok() {
                // A parent that has gone away is why the child ends.
                let _ = write(&mouth, &work());
            }
        }));
        // SAFETY: ends the process without destructors or atexit handlers, which are the parent's.
        unsafe { libc::_exit(0) }
    }
    mask.thread_set_mask()?;
    match forked? {
        ForkResult::Parent { child } => Ok(HelperProcess { pid: child, words }),
        ForkResult::Child => unreachable!("the child has exited"),
    }
}

/// From fork to the work: nothing of the parent's is run, kept open or outlived.
fn prepare_errand(parent: unistd::Pid, mouth: &OwnedFd) -> io::Result<()> {
    for number in Signal::iterator() {
        // SIGKILL and SIGSTOP have only the default disposition, and say EINVAL.
        let _ = set_disposition(number, Disposition::Default);
    }
    SigSet::empty().thread_set_mask()?;
    die_with(parent)?;
    close_others(vec![0, 1, 2, mouth.as_raw_fd()])
}

impl HelperProcess {
    /// Its process, which must not be taken for another child's.
    pub fn pid(&self) -> Pid {
        Pid(self.pid.as_raw())
    }

    /// What it says, non-blocking; at its end, the child has ended.
    pub fn words(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }

    /// SIGKILL, unless it has ended: it may have been reaped then, and its pid be another's.
    pub fn kill(&self) {
        let mut fds = [PollFd::new(self.words(), PollFlags::POLLIN)];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        if polled.is_ok() && !events.contains(PollFlags::POLLHUP) {
            let _ = kill(self.pid, Signal::SIGKILL); // ESRCH: it has ended just now.
        }
    }

    /// Reaps it, after the end of its words: between that and its end the kernel has next to nothing to
    /// do, so this waits for nobody. ECHILD: whoever reaps all children was faster.
    pub fn reap(self) {
        await_end(Pid(self.pid.as_raw()));
    }
}

/// Closes all descriptors but these, which are in order: it would hold connections and pipes of the caller's
/// open for as long as a name server takes. That they are closed by number does no harm here, unlike in a child
/// of [`spawn`](super::spawn): their owners' code does not run in this process, which ends when its work is done.
fn close_others(kept: Vec<RawFd>) -> io::Result<()> {
    let mut first = 0;
    for fd in kept.iter().copied().chain([RawFd::MAX]) {
        if first < fd {
            match close_range(first, fd - 1) {
                Ok(()) => {}
                // Before Linux 5.9, or under a seccomp filter that does not know it.
                Err(Errno::ENOSYS | Errno::EPERM) => return close_listed(&kept),
                Err(error) => return Err(error.into()),
            }
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// close_range(2) as a bare system call: its wrapper came with glibc 2.34, and wheels run on older ones.
fn close_range(first: RawFd, last: RawFd) -> Result<(), Errno> {
    // SAFETY: touches no memory; the descriptors are the supervisor's, as `close_others` says.
    let outcome = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    Errno::result(outcome).map(drop)
}

fn close_listed(kept: &[RawFd]) -> io::Result<()> {
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let fd = entry?.file_name().to_str().and_then(|name| name.parse::<RawFd>().ok());
        open.extend(fd.filter(|fd| !kept.contains(fd)));
    }
    for fd in open {
        // SAFETY: as in `close_range`. The folder's own descriptor is closed already: EBADF.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(run_helper: &HelperProcess) -> Vec<u8> {
        let mut words = Vec::new();
        let mut part = [0; 64];
        loop {
            let mut fds = [PollFd::new(run_helper.words(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PollTimeout::from(30_000_u16)), Ok(1));
            match unistd::read(run_helper.words(), &mut part).unwrap() {
                0 => return words,
                n => words.extend(&part[..n]),
            }
        }
    }

    #[test]
    fn an_errand_says_what_came_out_of_it() {
        let run_helper = run_helper(|| b"forty-two".to_vec()).unwrap();
        assert_eq!(words_of(&run_helper), b"forty-two");
        run_helper.kill(); // It has ended: nobody is killed.
        run_helper.reap();
    }

    #[test]
    fn an_errand_has_no_descriptors_of_its_parents() {
        let open = || {
            let entries = fs::read_dir("/proc/self/fd").unwrap();
            format!("{}", entries.count()).into_bytes()
        };
        let run_helper = run_helper(open).unwrap();
        let count: usize = String::from_utf8(words_of(&run_helper)).unwrap().parse().unwrap();
        // The standard ones, the pipe and the folder.
        assert!(count <= 5, "{count}");
        run_helper.reap();
    }

    #[test]
    fn an_errand_that_hangs_can_be_killed() {
        let hang = || loop {
            unistd::pause();
        };
        let run_helper = run_helper(hang).unwrap();
        run_helper.kill();
        assert_eq!(words_of(&run_helper), b"");
        run_helper.reap();
    }
}
