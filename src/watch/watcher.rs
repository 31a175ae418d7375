//! The supervisor's side: the helper process, and the pipes from and to it.
//!
//! The pipes outlive the helper process, so that another one can take its place, and so that workers that run can
//! still send paths.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use arctos_worker::shared::log::{Level, Log, Value};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{self, pipe2, read};

use super::{Message, WatchPlan, helper};
use crate::process::fork::helper::run_lasting;
use crate::process::fork::wait;
use crate::supervisor::slot::ExitStatus;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// A helper process that lives shorter than this is not started again.
pub const SHORT_LIFE: Duration = Duration::from_secs(1);

/// The helper process and its pipes. It is killed when this is dropped.
#[derive(Debug)]
pub struct Watcher {
    plan: WatchPlan,
    /// `None` once it was reaped.
    pid: Option<Pid>,
    messages: (OwnedFd, OwnedFd),
    paths: OwnedFd,
    /// Where workers send paths.
    reports: Arc<OwnedFd>,
    /// Bytes of a message that has not arrived completely.
    partial: Vec<u8>,
}

impl Watcher {
    /// Starts the helper process.
    ///
    /// Errors: those of pipe2(2) and fork(2).
    pub fn start(plan: WatchPlan) -> io::Result<Self> {
        let flags = OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        let (messages, (paths, reports)) = (pipe2(flags)?, pipe2(flags)?);
        let (reports, partial) = (Arc::new(reports), Vec::new());
        let mut watcher = Self { plan, pid: None, messages, paths, reports, partial };
        watcher.restart()?;
        Ok(watcher)
    }

    fn restart(&mut self) -> io::Result<()> {
        let (paths, messages) = (self.paths.as_fd(), self.messages.1.as_fd());
        let plan = &self.plan;
        self.pid = Some(run_lasting(&[paths, messages], || helper::run(plan, paths, messages))?);
        Ok(())
    }

    /// The process; `None` once it was reaped.
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Records that the process was reaped, and starts another one unless it has ended soon. Returns whether it did.
    pub fn replace(&mut self, status: ExitStatus, has_lived: bool, log: &Log) -> bool {
        self.pid = None;
        let is_restarted = has_lived && self.restart().is_ok();
        let pairs = [
            ("status", Value::Display(&status)),
            ("restarted", Value::Text(if is_restarted { "yes" } else { "no" })),
        ];
        log.line(Level::Error, "reload.watcher_died", &pairs);
        is_restarted
    }

    /// Where workers send the paths of what they imported.
    pub fn reports(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.reports)
    }

    /// The descriptor that is readable when there are messages.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.messages.0.as_fd()
    }

    /// Reads the messages that have arrived.
    pub fn receive(&mut self) -> Vec<Message> {
        let mut part = [0; 4096];
        loop {
            match read(&self.messages.0, &mut part) {
                Ok(count) if count > 0 => self.partial.extend_from_slice(&part[..count]),
                Err(Errno::EINTR) => {}
                Ok(_) | Err(_) => break, // EAGAIN: there are no more.
            }
        }
        let end = self.partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let whole: Vec<u8> = self.partial.drain(..end).collect();
        String::from_utf8_lossy(&whole).lines().filter_map(Message::of_line).collect()
    }

    /// Lists the descriptors that a child closes: all but the one where workers send paths.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.add(&self.messages.0);
        own.add(&self.messages.1);
        own.add(&self.paths);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(pid) = self.pid.take() {
            // It is not reaped yet, so the pid is still its own.
            let _ = kill(unistd::Pid::from_raw(pid.0), Signal::SIGKILL);
            wait::await_exit(pid);
        }
    }
}
