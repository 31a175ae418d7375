//! Forks the children of the supervisor: workers, zygotes and the process that runs `--on-start`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use arctos_worker::process::fork_guard;
use arctos_worker::shared::log::Log;
use arctos_worker::shared::series::attachment;
use arctos_worker::worker_init::{
    CONTROL_BOOT_FAILED, WorkerExit, WorkerInit, receive_stacks_pipe,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::SigSet;
use nix::unistd::{self, ForkResult, setpgid, write};
use thiserror::Error;

use super::child_setup::{
    ChildSetup, ChildSetupError, block_signals, catch_panic, die_with, prepare,
};
use crate::process::launch::Launch;
use crate::process::threads::thread_names;
use crate::system::pid::Pid;

/// Why there is no child.
#[derive(Debug, Error)]
pub enum ForkError {
    /// The threads of this process cannot be counted.
    #[error("cannot count the threads of this process: {0}")]
    Uncounted(io::Error),
    /// This process has other threads, and the child could wait forever for a lock that one of them holds.
    #[error("this process has threads beside the main one: {}", names.join(", "))]
    Threads {
        /// The names of all threads.
        names: Vec<String>,
    },
    /// fork(2) failed.
    #[error("fork: {0}")]
    System(Errno),
}

/// Forks a worker.
///
/// The parent's copies of the worker's descriptors are closed on return. The child does not return.
pub fn spawn(
    launch: &dyn Launch,
    init: WorkerInit,
    setup: &ChildSetup<'_>,
) -> Result<Pid, ForkError> {
    spawn_child(launch, |mask| run_worker(launch, init, setup, mask))
}

/// Forks a child that calls `run` and exits with the returned code.
fn spawn_child(launch: &dyn Launch, run: impl FnOnce(&SigSet) -> i32) -> Result<Pid, ForkError> {
    // The threads are counted after the hooks of `before_fork`, because a program may start or stop threads there.
    launch.before_fork();
    let counted = count_threads();
    if counted.is_err() {
        launch.after_fork_parent();
        counted?;
    }
    let mask = block_signals();
    // SAFETY: the child runs more than async-signal-safe code (fork(2)), which is sound only while this process has
    // one thread. The threads were counted above. Since then only this thread has run, and it has started none.
    let forked = unsafe { nix::unistd::fork() };
    if let Ok(ForkResult::Child) = forked {
        let code = run(&mask);
        // SAFETY: ends the process without destructors or atexit handlers, which are the parent's.
        unsafe { libc::_exit(code) }
    }
    mask.thread_set_mask().expect("the mask is valid");
    launch.after_fork_parent();
    match forked.map_err(ForkError::System)? {
        ForkResult::Parent { child } => {
            // The child does the same. Whichever comes first, the group exists before it is signalled.
            let _ = setpgid(child, child); // A child that has exited already needs no group.
            Ok(Pid(child.as_raw()))
        }
        ForkResult::Child => unreachable!("the child has exited"),
    }
}

/// Refuses a process with other threads.
fn count_threads() -> Result<(), ForkError> {
    let names = thread_names().map_err(ForkError::Uncounted)?;
    match names.len() {
        1 => Ok(()),
        _ => Err(ForkError::Threads { names }),
    }
}

/// Runs a worker in the child, and returns its exit code.
fn run_worker(
    launch: &dyn Launch,
    mut init: WorkerInit,
    setup: &ChildSetup<'_>,
    mask: &SigSet,
) -> i32 {
    let log = init.log.with_identity(init.slot, std::process::id(), init.generation);
    init.log = log.with_counters(&init.entry.counters);
    let log = init.log.clone();
    // This comes before the interpreter learns of the fork, because what it calls then is foreign code, too.
    let _guarded = fork_guard::begin();
    init.guard();
    attachment::attach(init.series);
    catch_panic(&log, "worker.panicked", || {
        let prepared = prepare(launch, setup, &[], mask);
        let exit = match prepared {
            Ok(()) => {
                // A worker that is not ready has accepted nothing, and may die with the supervisor. Nothing else
                // would end an import that hangs.
                let _ = init.supervisor.bind(); // The worker can serve without it.
                if init.supervisor.is_gone() {
                    return WorkerExit::NotBooted.code();
                }
                let stacks = receive_stacks_pipe(init.control_fd.as_fd());
                stacks.iter().for_each(|pipe| fork_guard::replace_in_children(pipe.as_fd()));
                init.log = init.log.with_stacks_pipe(stacks);
                launch.work(init)
            }
            Err(error) => {
                let mut message = vec![CONTROL_BOOT_FAILED];
                message.extend(format!("{error}\n").bytes());
                // If the supervisor is gone, the exit status is all that remains.
                let _ = write(&init.control_fd, &message);
                WorkerExit::NotBooted
            }
        };
        exit.code()
    })
}

/// Forks a zygote, which also closes `ours`, our ends of what it is given. It calls `run` with the outcome of its
/// setup. It dies with the supervisor, even if it hangs in an import.
pub(crate) fn spawn_zygote(
    launch: &dyn Launch,
    setup: &ChildSetup<'_>,
    log: &Log,
    ours: &[BorrowedFd<'_>],
    run: impl FnOnce(Result<(), ChildSetupError>) -> i32,
) -> Result<Pid, ForkError> {
    spawn_bound(launch, setup, log, "zygote.panicked", ours, run)
}

/// Does the same for another kind of child; `panic_event` is the log event of a panic.
pub(crate) fn spawn_bound(
    launch: &dyn Launch,
    setup: &ChildSetup<'_>,
    log: &Log,
    panic_event: &str,
    ours: &[BorrowedFd<'_>],
    run: impl FnOnce(Result<(), ChildSetupError>) -> i32,
) -> Result<Pid, ForkError> {
    let supervisor = unistd::getpid();
    spawn_child(launch, |mask| {
        catch_panic(log, panic_event, || {
            let prepared = prepare(launch, setup, ours, mask);
            // This comes last because a change of the user undoes it (prctl(2)).
            run(prepared.and_then(|()| die_with(supervisor).map_err(ChildSetupError::Parent)))
        })
    })
}
