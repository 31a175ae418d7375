//! The opening of a generation: what is done once for a load of the code, before its first worker
//! (`--on-start`), in a process of its own, because the supervisor runs nothing of the application's.
//!
//! The process has the rights, the folder and the descriptors of a worker without listeners. It says on a
//! pipe what went wrong, and its exit status tells whether anything did. Nothing here waits, but for the end
//! of a process that was killed.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use arctos_worker::process::fork_guard;
use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::log::Log;
use arctos_worker::worker_init::{BootFailure, WorkerExit};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{self, pipe2};
use thiserror::Error;

use crate::process::fork::child_setup::{BerthError, ChildSetup};
use crate::process::fork::spawn::{ForkError, spawn_bound};
use crate::process::fork::wait::await_end;
use crate::process::launch::Launch;
use crate::supervisor::slot::ExitStatus;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// The longest report that is kept; the rest is read and thrown away.
const REPORT_BYTES: usize = 64 * 1024;
/// Most that is read at a time: the child, and what it has started, may write without end.
const BYTES_AT_A_TIME: usize = REPORT_BYTES;
/// What the child says when all its hooks have returned; no report starts with it.
const DONE: u8 = 0;

/// Why there is no process for it.
#[derive(Debug, Error)]
pub enum OpeningError {
    /// It could not say anything.
    #[error("cannot make its pipe: {0}")]
    Pipe(Errno),
    /// It was not forked.
    #[error(transparent)]
    Fork(#[from] ForkError),
}

/// See the module.
pub struct OnStart {
    pid: Pid,
    words: File,
    /// Whether something may come from it.
    is_open: bool,
    report: Vec<u8>,
    patience: Duration,
    deadline: Instant,
    /// Whether the deadline was put off once, so that it can tell where it is.
    is_late: bool,
}

impl OnStart {
    /// Forks the process, which begins at once. `patience` is how long it may take.
    ///
    /// Errors: [`OpeningError`]; then there is no process.
    pub fn start(
        launch: &dyn Launch,
        generation: Generation,
        setup: &ChildSetup<'_>,
        log: &Log,
        patience: Duration,
        now: Instant,
    ) -> Result<Self, OpeningError> {
        let (words, mouth) = pipe2(OFlag::O_CLOEXEC).map_err(OpeningError::Pipe)?;
        // The child waits for us to read, we never for it to write.
        fcntl(&words, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(OpeningError::Pipe)?;
        let ours = [words.as_fd()];
        let life = |prepared| live(launch, generation, log, &mouth, prepared);
        let pid = spawn_bound(launch, setup, log, "opening.panic", &ours, life)?;
        let words = File::from(words);
        Ok(Self {
            pid,
            words,
            is_open: true,
            report: Vec::new(),
            patience,
            deadline: now + patience,
            is_late: false,
        })
    }

    /// Its process, which the caller reaps, and then hands to [`OnStart::ended`].
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// By when it has to be done.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The descriptors that other children close.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.add(&self.words);
    }

    /// The first time that its time is up: it writes its Python stack to the log, and is to be killed
    /// at `kill_at`. How long it has had; `None` if it was asked before.
    pub fn ask_where(&mut self, kill_at: Instant) -> Option<Duration> {
        if std::mem::replace(&mut self.is_late, true) {
            return None;
        }
        self.deadline = kill_at;
        // ESRCH: it has ended, and waits to be reaped.
        let _ = kill(unistd::Pid::from_raw(self.pid.0), Signal::SIGUSR2);
        Some(self.patience)
    }

    /// How long it may take.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Readable when there is something to [`OnStart::listen`] to.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.is_open.then(|| self.words.as_fd())
    }

    /// Takes in what it said, or a part of it if that is long.
    pub fn listen(&mut self) {
        let mut bytes = [0; 4096];
        let mut heard_bytes = 0;
        while self.is_open && heard_bytes < BYTES_AT_A_TIME {
            match self.words.read(&mut bytes) {
                Ok(0) => self.is_open = false,
                Ok(count) => {
                    heard_bytes += count;
                    let room = REPORT_BYTES.saturating_sub(self.report.len());
                    self.report.extend_from_slice(&bytes[..count.min(room)]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.is_open = false, // Not of a pipe.
            }
        }
    }

    /// It was reaped.
    ///
    /// Errors: the report.
    pub fn ended(mut self, status: ExitStatus) -> Result<(), String> {
        self.listen();
        match (status, self.report.as_slice()) {
            (ExitStatus::Code(0), [DONE]) => Ok(()),
            (ExitStatus::Code(_) | ExitStatus::Signal(_), []) => {
                Err(format!("The process of --on-start ended without a word: {status}.\n"))
            }
            (ExitStatus::Code(_) | ExitStatus::Signal(_), text) => {
                Err(String::from_utf8_lossy(text).into_owned())
            }
        }
    }

    /// Kills it, with what it has started, and reaps it.
    pub fn put_down(self) {
        let pid = unistd::Pid::from_raw(self.pid.0);
        // It is ours until it is reaped. ESRCH: its group does not exist yet.
        if killpg(pid, Signal::SIGKILL).is_err() {
            let _ = kill(pid, Signal::SIGKILL); // It has ended, and waits to be reaped.
        }
        await_end(self.pid);
    }
}

/// The child's life; the exit code.
fn live(
    launch: &dyn Launch,
    generation: Generation,
    log: &Log,
    mouth: &OwnedFd,
    prepared: Result<(), BerthError>,
) -> i32 {
    let _guarded = fork_guard::begin();
    fork_guard::guard(mouth.as_fd());
    let done = match prepared {
        Ok(()) => launch.open(generation, log),
        Err(error) => Err(BootFailure::not_booted(format!("{error}\n"))),
    };
    let (exit, words) = match done {
        Ok(()) => (WorkerExit::Done, vec![DONE]),
        Err(BootFailure { exit, report }) => (exit, report.into_bytes()),
    };
    // Fails only without memory: then the exit status has to do. A supervisor that is gone has taken us
    // along.
    if let Ok(mouth) = mouth.try_clone() {
        let _ = File::from(mouth).write_all(&words);
    }
    exit.code()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_writes_without_end_is_listened_to_for_a_part_of_it_at_a_time() {
        let (words, mouth) = pipe2(OFlag::O_NONBLOCK).unwrap();
        fcntl(&words, FcntlArg::F_SETPIPE_SZ(1 << 20)).unwrap();
        let mut written_bytes = 0;
        while let Ok(count) = unistd::write(&mouth, &[b'x'; 4096]) {
            written_bytes += count;
        }
        assert!(written_bytes > 2 * BYTES_AT_A_TIME);
        let words = File::from(words);
        let deadline = Instant::now();
        let report = Vec::new();
        let mut opening = OnStart {
            pid: Pid(2),
            words,
            is_open: true,
            report,
            patience: Duration::from_secs(60),
            deadline,
            is_late: false,
        };
        opening.listen();
        assert_eq!(opening.report.len(), REPORT_BYTES);
        let mut rest = Vec::new();
        drop(mouth);
        opening.words.read_to_end(&mut rest).unwrap();
        assert_eq!(rest.len(), written_bytes - BYTES_AT_A_TIME);
    }
}
