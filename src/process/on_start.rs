//! The run of the `--on-start` hooks: once per generation, before its first worker, in a process of its own,
//! because the supervisor never runs the application's code.
//!
//! The process has the privileges, the working directory and the descriptors of a worker, but no listeners. It
//! writes a failure to a pipe, and its exit status says whether it failed. Nothing here blocks, except for the
//! exit of a process that was killed.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use arctos_worker::process::fork_guard;
use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::log::Log;
use arctos_worker::worker_init::{BootFailure, WorkerExit};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{self, pipe2};
use thiserror::Error;

use crate::process::fork::child_setup::{ChildSetup, ChildSetupError};
use crate::process::fork::spawn::{ForkError, spawn_bound};
use crate::process::fork::wait::await_exit;
use crate::process::launch::Launch;
use crate::supervisor::slot::ExitStatus;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// Maximum length of a report that is kept; the rest is read and discarded.
const REPORT_BYTES: usize = 64 * 1024;
/// Maximum that is read per call, because the child and its children may write without end.
const BYTES_PER_CALL: usize = REPORT_BYTES;
/// The byte that the child writes when all its hooks have returned; no report starts with it.
const DONE: u8 = 0;

/// Why the process was not started.
#[derive(Debug, Error)]
pub enum OnStartError {
    /// The pipe for its report cannot be made.
    #[error("cannot make its pipe: {0}")]
    Pipe(Errno),
    /// The process was not forked.
    #[error(transparent)]
    Fork(#[from] ForkError),
}

/// The running process of the `--on-start` hooks.
pub struct OnStart {
    pid: Pid,
    pipe: File,
    /// Whether the pipe has not ended yet.
    is_open: bool,
    report: Vec<u8>,
}

impl OnStart {
    /// Forks the process, which begins at once. How long it may take is the machine's business.
    ///
    /// Errors: [`OnStartError`]; then there is no process.
    pub fn start(
        launch: &dyn Launch,
        generation: Generation,
        setup: &ChildSetup<'_>,
        log: &Log,
    ) -> Result<Self, OnStartError> {
        let (pipe, writer) = pipe2(OFlag::O_CLOEXEC).map_err(OnStartError::Pipe)?;
        // The child may block until we read; we never block until it writes.
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(OnStartError::Pipe)?;
        let ours = [pipe.as_fd()];
        let run = |prepared| run_hooks(launch, generation, log, &writer, prepared);
        let pid = spawn_bound(launch, setup, log, "on_start.panicked", &ours, run)?;
        Ok(Self { pid, pipe: File::from(pipe), is_open: true, report: Vec::new() })
    }

    /// The process, which the caller reaps and then passes to [`OnStart::finish`].
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Adds the descriptors that other children close.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.add(&self.pipe);
    }

    /// Makes the process write its Python stack to the log.
    pub fn request_stack(&self) {
        // ESRCH: it has exited, and waits to be reaped.
        let _ = kill(unistd::Pid::from_raw(self.pid.0), Signal::SIGUSR2);
    }

    /// The descriptor to poll for reading before [`OnStart::receive`]; `None` once the pipe has ended.
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.is_open.then(|| self.pipe.as_fd())
    }

    /// Reads what the process wrote, or part of it if that is long.
    pub fn receive(&mut self) {
        let mut bytes = [0; 4096];
        let mut read_bytes = 0;
        while self.is_open && read_bytes < BYTES_PER_CALL {
            match self.pipe.read(&mut bytes) {
                Ok(0) => self.is_open = false,
                Ok(count) => {
                    read_bytes += count;
                    let room = REPORT_BYTES.saturating_sub(self.report.len());
                    self.report.extend_from_slice(&bytes[..count.min(room)]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.is_open = false, // A pipe has no other errors.
            }
        }
    }

    /// Takes note that the process was reaped.
    ///
    /// Errors: the report of the failure.
    pub fn finish(mut self, status: ExitStatus) -> Result<(), String> {
        self.receive();
        match (status, self.report.as_slice()) {
            (ExitStatus::Code(0), [DONE]) => Ok(()),
            (ExitStatus::Code(_) | ExitStatus::Signal(_), []) => {
                Err(format!("The process of --on-start ended without a report: {status}.\n"))
            }
            (ExitStatus::Code(_) | ExitStatus::Signal(_), text) => {
                Err(String::from_utf8_lossy(text).into_owned())
            }
        }
    }

    /// Kills the process and its children, and reaps it.
    pub fn kill_and_reap(self) {
        let pid = unistd::Pid::from_raw(self.pid.0);
        // The pid cannot be reused until it is reaped. ESRCH: its group does not exist yet.
        if killpg(pid, Signal::SIGKILL).is_err() {
            let _ = kill(pid, Signal::SIGKILL); // It has exited, and waits to be reaped.
        }
        await_exit(self.pid);
    }
}

/// Runs the hooks in the child, and returns its exit code.
fn run_hooks(
    launch: &dyn Launch,
    generation: Generation,
    log: &Log,
    writer: &OwnedFd,
    prepared: Result<(), ChildSetupError>,
) -> i32 {
    let _guarded = fork_guard::begin();
    fork_guard::guard(writer.as_fd());
    let done = match prepared {
        Ok(()) => launch.run_on_start(generation, log),
        Err(error) => Err(BootFailure::not_booted(format!("{error}\n"))),
    };
    let (exit, message) = match done {
        Ok(()) => (WorkerExit::Done, vec![DONE]),
        Err(BootFailure { exit, report }) => (exit, report.into_bytes()),
    };
    // This fails only without memory, and then the exit status is all that remains. A supervisor that is gone has
    // taken this process along.
    if let Ok(writer) = writer.try_clone() {
        let _ = File::from(writer).write_all(&message);
    }
    exit.code()
}

#[cfg(test)]
mod tests {
    use std::io::Seek;

    use super::*;

    #[test]
    fn a_process_that_writes_without_end_is_read_in_parts() {
        // A file in place of a pipe: the kernel limits what one user's pipes may hold, all processes together.
        let written_bytes = 2 * BYTES_PER_CALL + 4096;
        let mut pipe = tempfile::tempfile().unwrap();
        pipe.write_all(&vec![b'x'; written_bytes]).unwrap();
        pipe.rewind().unwrap();
        let mut on_start = OnStart { pid: Pid(2), pipe, is_open: true, report: Vec::new() };
        on_start.receive();
        assert_eq!(on_start.report.len(), REPORT_BYTES);
        let mut rest = Vec::new();
        on_start.pipe.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), written_bytes - BYTES_PER_CALL);
    }
}
