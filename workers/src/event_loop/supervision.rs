//! What the worker receives from its supervisor beside the command word: a new access log, and its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::unistd::read;

use super::control_socket::{ControlLoss, ControlSocket};
use super::phase::DrainCause;
use super::{CONTROL_KEY, DOORBELL_KEY, EventLoop};
use crate::application::Application;
use crate::event_loop::poller::{Interest, Poller};
use crate::http::Persistence;
use crate::process::supervisor_process::SupervisorProcess;
use crate::shared::fd::{self, Message};
use crate::shared::log::Level;
use crate::worker_init::CONTROL_ACCESS_LOG;

/// The worker's end of everything that connects it to its supervisor, except for the scoreboard.
pub(super) struct SupervisorLink {
    pub(super) doorbell: OwnedFd,
    /// Whether the application has left the doorbell alone.
    pub(super) has_doorbell: bool,
    pub(super) control_fd: OwnedFd,
    pub(super) control: ControlSocket,
    pub(super) supervisor: Arc<SupervisorProcess>,
}

impl SupervisorLink {
    pub(super) fn new(
        doorbell: OwnedFd,
        control_fd: OwnedFd,
        supervisor: Arc<SupervisorProcess>,
    ) -> Self {
        let control = ControlSocket::Open;
        Self { doorbell, has_doorbell: true, control_fd, control, supervisor }
    }

    /// Has epoll watch the descriptors, except for lost ones and a control socket that has ended.
    pub(super) fn watch(&self, poller: &Poller) -> io::Result<()> {
        if self.has_doorbell {
            poller.add(&self.doorbell, DOORBELL_KEY, Interest::Read)?;
        }
        match self.control {
            ControlSocket::Open => poller.add(&self.control_fd, CONTROL_KEY, Interest::Read),
            ControlSocket::Ended { .. } | ControlSocket::Resolved { .. } => Ok(()),
        }
    }

    pub(super) fn control_fd(&self) -> BorrowedFd<'_> {
        self.control_fd.as_fd()
    }

    pub(super) fn doorbell(&self) -> BorrowedFd<'_> {
        self.doorbell.as_fd()
    }

    /// Resets the doorbell.
    pub(super) fn clear_doorbell(&self) {
        // Ignored: EAGAIN says that it was reset already.
        let _ = read(&self.doorbell, &mut [0; 8]);
    }

    fn resolve(&mut self, now: Instant) -> Option<ControlLoss> {
        self.control.resolve(|| self.supervisor.presence(), now)
    }
}

impl<A: Application> EventLoop<'_, A> {
    /// Receives from the control socket: a new access log, or end of file.
    pub(super) fn receive_control_message(&mut self) {
        match fd::receive_message(self.link.control_fd()) {
            Message::Nothing => {}
            Message::Ended => {
                // The registration is level-triggered: it would wake the loop for ever.
                let _ = self.poller.remove(&self.link.control_fd);
                self.link.control.end(self.context.clock.now());
            }
            Message::Received { word: CONTROL_ACCESS_LOG, descriptor: Some(descriptor) } => {
                self.context.replace_access_log(descriptor);
            }
            // All descriptors are in use (EMFILE): the worker goes on writing to the old file.
            Message::Received { word: CONTROL_ACCESS_LOG, descriptor: None } => {
                self.context.log.line(Level::Error, "access_log.not_reopened", &[]);
            }
            // A message of a later version.
            Message::Received { .. } => {}
        }
    }

    /// Finds out what the end of the control socket meant, and drains.
    pub(super) fn check_supervisor(&mut self) {
        let now = self.context.clock.now();
        let Some(loss) = self.link.resolve(now) else { return };
        self.context.persistence = Persistence::Close;
        match loss {
            ControlLoss::Orphaned => {
                self.context.log.line(Level::Warning, "worker.orphaned", &[]);
                self.phase = self.phase.orphaned(now, DrainCause::Orphaned);
            }
            ControlLoss::Disconnected => {
                self.context.log.line(Level::Warning, "worker.disconnected", &[]);
                self.phase = self.phase.orphaned(now, DrainCause::Disconnected);
            }
        }
    }
}
