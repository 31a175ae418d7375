//! The double fork by which a zygote forks a worker: the worker is an orphan from its start, and thereby becomes
//! a child of the supervisor (PR_SET_CHILD_SUBREAPER of prctl(2)), which reaps it like any other child.
//!
//! The intermediate process makes three system calls: it forks, reports the worker's pid, and exits. It does not
//! run the interpreter. The worker remains its child until the pid is reported, so that no process can reap
//! the worker before its pid is known.
//!
//! A zygote may have threads that the application started. They do not exist in the worker, and a lock that one
//! of them held stays locked there. The operator is warned; nothing else can be done.

use arctos_worker::process::{fork_guard, signals};
use nix::errno::Errno;
use nix::libc;
use nix::unistd::{self, ForkResult, setpgid};

use super::child_setup::{SELF, block_signals};
use crate::process::launch::Launch;
use crate::system::pid::Pid;

/// The process in which a double fork returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Branch {
    /// The caller.
    Zygote,
    /// The new worker.
    Worker,
}

/// Forks a worker. This function returns in both processes; the worker has to end with the return value of the
/// function that runs the zygote.
///
/// `report` is called once with the outcome, in the intermediate process or here. If the intermediate process is
/// killed, which may happen before or after its report, `report` is called here as well.
pub(crate) fn double_fork(launch: &dyn Launch, report: impl Fn(Result<Pid, Errno>)) -> Branch {
    launch.before_fork();
    let mask = block_signals();
    // SAFETY: the application may have started threads in this process, so its child may find locks that stay locked,
    // but it finds no memory in an unknown state. Two processes come of it. The intermediate one needs no lock but the
    // allocator's, which the C library makes usable, and exits after three system calls. The worker continues here,
    // where the interpreter renews its own locks (`after_fork_child`) before any Python code runs.
    match fork_guard::pass(|| unsafe { unistd::fork() }) {
        Ok(ForkResult::Child) => fork_worker(&report),
        Ok(ForkResult::Parent { child }) => {
            mask.thread_set_mask().expect("the mask is valid");
            launch.after_fork_parent();
            if !ended_well(child) {
                report(Err(Errno::ECANCELED));
            }
            return Branch::Zygote;
        }
        Err(error) => {
            mask.thread_set_mask().expect("the mask is valid");
            launch.after_fork_parent();
            report(Err(error));
            return Branch::Zygote;
        }
    }
    signals::inherit();
    mask.thread_set_mask().expect("the mask is valid");
    launch.after_fork_child();
    let _ = setpgid(SELF, SELF); // The intermediate process does the same.
    Branch::Worker
}

/// Runs in the intermediate process, and returns in the worker.
fn fork_worker(report: &impl Fn(Result<Pid, Errno>)) {
    // SAFETY: as in `double_fork`. This process has one thread, because fork(2) copies only the calling one.
    match fork_guard::pass(|| unsafe { unistd::fork() }) {
        Ok(ForkResult::Child) => return,
        Ok(ForkResult::Parent { child }) => {
            // The group exists before the worker is reported.
            let _ = setpgid(child, child); // It may have exited already, and needs no group.
            report(Ok(Pid(child.as_raw())));
        }
        Err(error) => report(Err(error)),
    }
    // SAFETY: ends the process without destructors or atexit handlers, which are the zygote's.
    unsafe { libc::_exit(0) }
}

/// Reaps the intermediate process. Returns whether it ran to its end.
fn ended_well(intermediate: unistd::Pid) -> bool {
    let mut status = 0;
    loop {
        // SAFETY: writes to `status` and nothing else.
        let reaped = unsafe { libc::waitpid(intermediate.as_raw(), &raw mut status, 0) };
        match Errno::result(reaped) {
            Ok(_) => return libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0,
            Err(Errno::EINTR) => {}
            // ECHILD: the application lets the kernel reap its children (SIGCHLD ignored). The process has ended.
            Err(_) => return true,
        }
    }
}
