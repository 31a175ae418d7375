//! How a zygote forks a worker: twice, so that the worker is an orphan from its start, and so becomes
//! the child of the supervisor (PR_SET_CHILD_SUBREAPER of prctl(2)), which reaps it like any other.
//!
//! The process in the middle lives for three system calls: it forks, tells the worker's pid, exits. It
//! runs nothing of the interpreter's. The worker is its child until it has told, so nobody can reap
//! the worker before its pid is known.
//!
//! A zygote may have threads, which the application has started: they are not in the worker, and a
//! lock that one of them held stays locked there. The operator is warned; nothing else can be done.
#![expect(unsafe_code, reason = "fork(2), waitpid(2), _exit(2)")]

use arctos_worker::process::{fork_guard, signals};
use nix::errno::Errno;
use nix::libc;
use nix::unistd::{self, ForkResult, setpgid};

use super::child_setup::{SELF, block_signals};
use crate::process::launch::Launch;
use crate::system::pid::Pid;

/// Which process goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    /// The one that called.
    Zygote,
    /// The new one.
    Worker,
}

/// Forks a worker, which goes on at the same place: it shares nothing with the zygote but what it
/// inherits, and is to end with what ends the zygote's own life.
///
/// `tell` is called once, in the middle or here, with what came of it; and once more here if the middle
/// was killed, which then may have told already or not.
pub(crate) fn fork_twice(launch: &dyn Launch, tell: impl Fn(Result<Pid, Errno>)) -> Branch {
    launch.before_fork();
    let mask = block_signals();
    // SAFETY: the child forks again, and of these two one exits after two system calls. In the other, the
    // C library makes its allocator usable, and the interpreter its own locks (`after_fork_child`).
    match fork_guard::pass(|| unsafe { unistd::fork() }) {
        Ok(ForkResult::Child) => middle(&tell),
        Ok(ForkResult::Parent { child }) => {
            mask.thread_set_mask().expect("the mask is valid");
            launch.after_fork_parent();
            if !ended_well(child) {
                tell(Err(Errno::ECANCELED));
            }
            return Branch::Zygote;
        }
        Err(error) => {
            mask.thread_set_mask().expect("the mask is valid");
            launch.after_fork_parent();
            tell(Err(error));
            return Branch::Zygote;
        }
    }
    signals::inherit();
    mask.thread_set_mask().expect("the mask is valid");
    launch.after_fork_child();
    let _ = setpgid(SELF, SELF); // The middle does the same.
    Branch::Worker
}

/// Returns in the worker.
fn middle(tell: &impl Fn(Result<Pid, Errno>)) {
    // SAFETY: as in `fork_twice`; this process has one thread.
    match fork_guard::pass(|| unsafe { unistd::fork() }) {
        Ok(ForkResult::Child) => return,
        Ok(ForkResult::Parent { child }) => {
            // The group is there when somebody hears of the worker.
            let _ = setpgid(child, child); // It may have exited already, and needs no group.
            tell(Ok(Pid(child.as_raw())));
        }
        Err(error) => tell(Err(error)),
    }
    // SAFETY: ends the process without destructors or atexit handlers, which are the zygote's.
    unsafe { libc::_exit(0) }
}

/// Reaps the middle. Whether it came to its end.
fn ended_well(middle: unistd::Pid) -> bool {
    let mut status = 0;
    loop {
        // SAFETY: writes to `status` and nothing else.
        let reaped = unsafe { libc::waitpid(middle.as_raw(), &raw mut status, 0) };
        match Errno::result(reaped) {
            Ok(_) => return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
            Err(Errno::EINTR) => {}
            // ECHILD: the application has told the kernel to reap for it. It has ended, that is all.
            Err(_) => return true,
        }
    }
}
