//! What the loop hears from the supervisor beside the command word: a new access log, and its end.

use std::os::fd::AsFd;

use super::EventLoop;
use super::control_socket::Finding;
use super::phase::Cause;
use crate::application::Application;
use crate::http::Persistence;
use crate::shared::fd::{self, Message};
use crate::shared::log::Level;
use crate::worker_init::LIFE_ACCESS_LOG;

impl<A: Application> EventLoop<'_, A> {
    /// What comes on the life socket: a new access log, or its end.
    pub(super) fn hear_supervisor(&mut self) {
        match fd::receive_message(self.life.as_fd()) {
            Message::Nothing => {}
            Message::Ended => {
                // Registered level-triggered, it would wake us for ever.
                let _ = self.poller.remove(&self.life);
                self.lifeline.cut(self.context.clock.now());
            }
            Message::Said { word: LIFE_ACCESS_LOG, descriptor: Some(descriptor) } => {
                self.context.replace_access_log(descriptor);
            }
            // All descriptors are in use (EMFILE): the old file is written to, wherever it is now.
            Message::Said { word: LIFE_ACCESS_LOG, descriptor: None } => {
                self.context.log.line(Level::Error, "access_log.not_reopened", &[]);
            }
            // Of a later version: not for us.
            Message::Said { .. } => {}
        }
    }

    /// Finds out what the end of the life socket meant.
    pub(super) fn look_for_supervisor(&mut self) {
        let (supervisor, now) = (&self.supervisor, self.context.clock.now());
        let Some(finding) = self.lifeline.look(|| supervisor.presence(), now) else { return };
        self.context.persistence = Persistence::Close;
        match finding {
            Finding::Orphaned => {
                self.context.log.line(Level::Warning, "worker.orphaned", &[]);
                self.phase = self.phase.orphaned(now, Cause::Orphaned);
            }
            Finding::Disconnected => {
                self.context.log.line(Level::Warning, "worker.disconnected", &[]);
                self.phase = self.phase.orphaned(now, Cause::Disconnected);
            }
        }
    }
}
