//! Helper processes without Python: a child that computes one result, writes it to a pipe, and exits, or one that goes
//! on until it is killed.

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

use super::child_setup::{SELF, die_with};
use crate::process::fork::wait::await_exit;
use crate::process::sigaction::{Disposition, set_disposition};
use crate::system::pid::Pid;

/// A running helper process.
pub struct HelperProcess {
    pid: unistd::Pid,
    output: OwnedFd,
}

/// Runs `work` in a helper process, for a call that blocks and has no non-blocking form. Its result, at most 64 KB
/// (the capacity of a pipe), arrives on [`HelperProcess::output`].
///
/// The interpreter does not learn of this fork, so `work` must not use Python. The helper process has only the
/// standard descriptors, and dies with this thread.
///
/// Unlike [`spawn`](fn@super::spawn), this also forks a process with threads, because an embedded server has those of
/// its caller. One of them may hold a lock that `work` needs, so the caller has to set a time limit, and to
/// kill the helper process when it expires.
pub fn run_helper(work: impl FnOnce() -> Vec<u8>) -> io::Result<HelperProcess> {
    let (output, writer) = unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let pid = fork_helper(&[writer.as_fd()], || {
        // It fails only without a parent, and then the result is useless.
        let _ = write(&writer, &work());
    })?;
    Ok(HelperProcess { pid, output })
}

/// Runs `work`, which goes on until it is killed, in a helper process as [`run_helper`] describes it. It also keeps the
/// descriptors `kept`. A signal from the terminal does not reach it.
pub fn run_lasting(kept: &[BorrowedFd<'_>], work: impl FnOnce()) -> io::Result<Pid> {
    let pid = fork_helper(kept, || {
        let _ = unistd::setpgid(SELF, SELF); // It cannot fail for a new process.
        work();
    })?;
    Ok(Pid(pid.as_raw()))
}

fn fork_helper(kept: &[BorrowedFd<'_>], work: impl FnOnce()) -> io::Result<unistd::Pid> {
    let parent = unistd::getpid();
    let mask = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    // SAFETY: the child of a process with threads may wait forever for a lock that another thread held, but it finds no
    // memory in an unknown state: the C library makes its allocator usable there, and every other lock stays locked. The
    // caller kills a child that takes too long. `work` does not use Python, whose lock is held by a thread that may not
    // exist in the child.
    let forked = unsafe { unistd::fork() };
    if let Ok(ForkResult::Child) = forked {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            if prepare(parent, kept).is_ok() {
                work();
            }
        }));
        // SAFETY: ends the process without destructors or atexit handlers, which are the parent's.
        unsafe { libc::_exit(0) }
    }
    mask.thread_set_mask()?;
    match forked? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => unreachable!("the child has exited"),
    }
}

/// Resets the signals, makes the child die with its parent, and closes the parent's descriptors.
fn prepare(parent: unistd::Pid, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    for number in Signal::iterator() {
        // EINVAL: SIGKILL and SIGSTOP always have the default disposition.
        let _ = set_disposition(number, Disposition::Default);
    }
    SigSet::empty().thread_set_mask()?;
    die_with(parent)?;
    // A program without standard input may have got one of the first numbers for the pipe.
    let mut kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).chain([0, 1, 2]).collect();
    kept.sort_unstable();
    close_others(&kept)
}

impl HelperProcess {
    /// The pid, by which the code that reaps all children recognizes it.
    pub fn pid(&self) -> Pid {
        Pid(self.pid.as_raw())
    }

    /// The non-blocking pipe with the result. It ends when the child exits.
    pub fn output(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }

    /// Sends SIGKILL, unless the child has exited: then it may have been reaped, and its pid reused.
    pub fn kill(&self) {
        let mut fds = [PollFd::new(self.output(), PollFlags::POLLIN)];
        let polled = poll(&mut fds, PollTimeout::ZERO);
        let events = fds[0].revents().unwrap_or(PollFlags::empty());
        if polled.is_ok() && !events.contains(PollFlags::POLLHUP) {
            let _ = kill(self.pid, Signal::SIGKILL); // ESRCH: it has exited just now.
        }
    }

    /// Reaps the child after the end of its output. The kernel has next to nothing left to do between that and
    /// the exit, so this call does not block noticeably. It may have been reaped elsewhere (ECHILD).
    pub fn reap(self) {
        await_exit(Pid(self.pid.as_raw()));
    }
}

/// Closes all descriptors except `kept`, which is sorted. Otherwise the child would hold connections and pipes of
/// the caller open for as long as a name server takes. Closing by number is harmless here, unlike in a child of
/// [`spawn`](fn@super::spawn), because the owners' code never runs in this process.
fn close_others(kept: &[RawFd]) -> io::Result<()> {
    let mut first = 0;
    for fd in kept.iter().copied().chain([RawFd::MAX]) {
        if first < fd {
            match close_range(first, fd - 1) {
                Ok(()) => {}
                // Before Linux 5.9, or under a seccomp filter that does not know it.
                Err(Errno::ENOSYS | Errno::EPERM) => return close_listed(kept),
                Err(error) => return Err(error.into()),
            }
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// close_range(2) as a bare system call: its wrapper came with glibc 2.34, and wheels run on older ones.
fn close_range(first: RawFd, last: RawFd) -> Result<(), Errno> {
    // SAFETY: touches no memory; `close_others` says why the descriptors may be closed.
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
        // SAFETY: as in `close_range`; the list has been read completely, so nothing opens a descriptor meanwhile.
        // EBADF: the descriptor of the directory itself is closed already.
        unsafe { libc::close(fd) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output_of(helper: &HelperProcess) -> Vec<u8> {
        let mut output = Vec::new();
        let mut part = [0; 64];
        loop {
            let mut fds = [PollFd::new(helper.output(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PollTimeout::from(30_000_u16)), Ok(1));
            match unistd::read(helper.output(), &mut part).unwrap() {
                0 => return output,
                n => output.extend(&part[..n]),
            }
        }
    }

    #[test]
    fn a_helper_process_delivers_its_result() {
        let helper = run_helper(|| b"forty-two".to_vec()).unwrap();
        assert_eq!(output_of(&helper), b"forty-two");
        helper.kill(); // It has exited, so no signal is sent.
        helper.reap();
    }

    #[test]
    fn a_helper_process_keeps_no_descriptor_of_its_parent() {
        let open = || {
            let entries = fs::read_dir("/proc/self/fd").unwrap();
            format!("{}", entries.count()).into_bytes()
        };
        let helper = run_helper(open).unwrap();
        let count: usize = String::from_utf8(output_of(&helper)).unwrap().parse().unwrap();
        // The standard ones, the pipe and the directory.
        assert!(count <= 5, "{count}");
        helper.reap();
    }

    #[test]
    fn a_helper_process_that_hangs_can_be_killed() {
        let hang = || loop {
            unistd::pause();
        };
        let helper = run_helper(hang).unwrap();
        helper.kill();
        assert_eq!(output_of(&helper), b"");
        helper.reap();
    }
}
