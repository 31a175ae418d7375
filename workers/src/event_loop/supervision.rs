//! What the worker receives from its supervisor beside the command word: a new access log, and its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::unistd::read;

use super::control_socket::{ControlLoss, ControlSocket};
use super::drive::Kept;
use super::phase::DrainCause;
use super::{CONTROL_KEY, DOORBELL_KEY, EventLoop};
use crate::application::Application;
use crate::event_loop::poller::{Interest, Poller};
use crate::process::supervisor_process::SupervisorProcess;
use crate::shared::fd::{self, Message};
use crate::shared::log::Level;
use crate::worker_init::CONTROL_ACCESS_LOG;

/// The worker's end of everything that connects it to its supervisor, except for the scoreboard.
pub(super) struct SupervisorLink {
    /// `None` once it is lost (the module `own_descriptors`).
    pub(super) doorbell: Option<OwnedFd>,
    /// `None` once it is lost, and `control` has ended.
    pub(super) control_fd: Option<OwnedFd>,
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
        Self { doorbell: Some(doorbell), control_fd: Some(control_fd), control, supervisor }
    }

    /// Has epoll watch the descriptors, except for lost ones and a control socket that has ended.
    pub(super) fn watch(&self, poller: &Poller) -> io::Result<()> {
        if let Some(doorbell) = &self.doorbell {
            poller.add(doorbell, DOORBELL_KEY, Interest::Read)?;
        }
        match (&self.control_fd, self.control) {
            (Some(control_fd), ControlSocket::Open) => {
                poller.add(control_fd, CONTROL_KEY, Interest::Read)
            }
            (
                _,
                ControlSocket::Open | ControlSocket::Ended { .. } | ControlSocket::Resolved { .. },
            ) => Ok(()),
        }
    }

    pub(super) fn control_fd(&self) -> Option<BorrowedFd<'_>> {
        self.control_fd.as_ref().map(OwnedFd::as_fd)
    }

    pub(super) fn doorbell(&self) -> Option<BorrowedFd<'_>> {
        self.doorbell.as_ref().map(OwnedFd::as_fd)
    }

    /// Resets the doorbell.
    pub(super) fn clear_doorbell(&self) {
        if let Some(doorbell) = &self.doorbell {
            // Ignored: EAGAIN says that it was reset already.
            let _ = read(doorbell, &mut [0; 8]);
        }
    }

    fn resolve(&mut self, now: Instant) -> Option<ControlLoss> {
        self.control.resolve(|| self.supervisor.presence(), now)
    }
}

impl<A: Application> EventLoop<'_, A> {
    /// Receives from the control socket: a new access log, or end of file.
    pub(super) fn receive_control_message(&mut self) {
        let Some(control_fd) = self.link.control_fd() else { return };
        match fd::receive_message(control_fd) {
            Message::Nothing => {}
            Message::Ended => {
                // The registration is level-triggered: it would wake the loop for ever.
                let _ = self.poller.remove(control_fd);
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
        self.context.kept = Kept::None;
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
