//! Children of the supervisor's: workers, zygotes and the process of `--on-start`.
#![expect(unsafe_code, reason = "fork(2) and _exit(2)")]

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use arctos_worker::process::fork_guard;
use arctos_worker::shared::log::Log;
use arctos_worker::worker_init::{
    CONTROL_BOOT_FAILED, WorkerExit, WorkerInit, receive_stacks_pipe,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::SigSet;
use nix::unistd::{self, ForkResult, setpgid, write};
use thiserror::Error;

use super::child_setup::{BerthError, ChildSetup, block_signals, die_with, guarded, prepare};
use crate::process::launch::Launch;
use crate::process::threads::thread_names;
use crate::system::pid::Pid;

/// Why there is no child.
#[derive(Debug, Error)]
pub enum ForkError {
    /// The threads of this process cannot be counted.
    #[error("cannot count the threads of this process: {0}")]
    Uncounted(io::Error),
    /// There are threads, whose locks the child would wait for.
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
/// The parent's copies of the init's descriptors are closed on return. The child does not return.
pub fn spawn(
    launch: &dyn Launch,
    init: WorkerInit,
    setup: &ChildSetup<'_>,
) -> Result<Pid, ForkError> {
    spawn_child(launch, |mask| live(launch, init, setup, mask))
}

/// Forks a child that runs `life` to its end, and ends with its exit code.
fn spawn_child(launch: &dyn Launch, life: impl FnOnce(&SigSet) -> i32) -> Result<Pid, ForkError> {
    let names = thread_names().map_err(ForkError::Uncounted)?;
    if names.len() != 1 {
        return Err(ForkError::Threads { names });
    }
    launch.before_fork();
    let mask = block_signals();
    // SAFETY: the child runs more than async-signal-safe code (fork(2)), which is sound only while
    // this process has one thread: counted above, and nothing between starts one.
    let forked = unsafe { nix::unistd::fork() };
    if let Ok(ForkResult::Child) = forked {
        let code = life(&mask);
        // SAFETY: ends the process without destructors or atexit handlers, which are the parent's.
        unsafe { libc::_exit(code) }
    }
    mask.thread_set_mask().expect("the mask is valid");
    launch.after_fork_parent();
    match forked.map_err(ForkError::System)? {
        ForkResult::Parent { child } => {
            // The child does the same: whoever comes first, the group is there when it is signalled.
            let _ = setpgid(child, child); // It may have exited already, and needs no group.
            Ok(Pid(child.as_raw()))
        }
        ForkResult::Child => unreachable!("the child has exited"),
    }
}

/// The child's life.
fn live(launch: &dyn Launch, mut init: WorkerInit, setup: &ChildSetup<'_>, mask: &SigSet) -> i32 {
    let log = init.log.with_identity(init.slot, std::process::id(), init.generation);
    init.log = log.with_row(&init.entry.counters);
    let log = init.log.clone();
    // Before the interpreter hears of the fork: what it calls then is foreign, too.
    let _guarded = fork_guard::begin();
    init.guard();
    guarded(&log, "worker.panic", || {
        let prepared = prepare(launch, setup, &[], mask);
        let exit = match prepared {
            Ok(()) => {
                // Until it is ready it has accepted nothing, and nobody else would end an import that hangs.
                let _ = init.supervisor.bind(); // Without it the worker can do all that it is for.
                if init.supervisor.is_gone() {
                    return WorkerExit::NotBooted.code();
                }
                init.log = init.log.with_stacks_pipe(receive_stacks_pipe(init.control_fd.as_fd()));
                launch.work(init)
            }
            Err(error) => {
                let mut words = vec![CONTROL_BOOT_FAILED];
                words.extend(format!("{error}\n").bytes());
                // Nobody there to hear it: then the exit status must do.
                let _ = write(&init.control_fd, &words);
                WorkerExit::NotBooted
            }
        };
        exit.code()
    })
}

/// Forks a zygote, which closes `ours` as well: our ends of what it is given. `life` hears whether it could be
/// made one. It dies with the supervisor, also where it hangs in an import.
pub(crate) fn spawn_zygote(
    launch: &dyn Launch,
    setup: &ChildSetup<'_>,
    log: &Log,
    ours: &[BorrowedFd<'_>],
    life: impl FnOnce(Result<(), BerthError>) -> i32,
) -> Result<Pid, ForkError> {
    spawn_bound(launch, setup, log, "zygote.panic", ours, life)
}

/// The same for a child that does something else; `panic` is the line in the log where it panics.
pub(crate) fn spawn_bound(
    launch: &dyn Launch,
    setup: &ChildSetup<'_>,
    log: &Log,
    panic: &str,
    ours: &[BorrowedFd<'_>],
    life: impl FnOnce(Result<(), BerthError>) -> i32,
) -> Result<Pid, ForkError> {
    let supervisor = unistd::getpid();
    spawn_child(launch, |mask| {
        guarded(log, panic, || {
            let prepared = prepare(launch, setup, ours, mask);
            // Only now: a change of the user undoes it (prctl(2)).
            life(prepared.and_then(|()| die_with(supervisor).map_err(BerthError::Parent)))
        })
    })
}
