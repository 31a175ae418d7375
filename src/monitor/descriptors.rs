//! What this process has open for itself, and a child closes.

use super::Monitor;
use crate::monitor::children::ControlSocket;
use crate::system::descriptors::OwnDescriptors;

impl Monitor<'_> {
    /// All of it, right before a fork. Each part lists its own; the log is not among them, because every child
    /// writes to it.
    pub(super) fn own_descriptors(&self) -> OwnDescriptors {
        let mut own = OwnDescriptors::default();
        self.signals.list_descriptors(&mut own);
        if let Some(listeners) = &self.listeners {
            listeners.list_descriptors(&mut own);
        }
        self.children.iter().for_each(|member| member.list_descriptors(&mut own));
        self.zygotes.list_descriptors(&mut own);
        if let Some(opening) = self.openings.opening() {
            opening.list_descriptors(&mut own);
        }
        self.collector.list_descriptors(&mut own);
        self.admin.list_descriptors(&mut own);
        self.succession.list_descriptors(&mut own);
        own.add(self.scoreboard.as_fd());
        own.extend(&self.access_log);
        own.extend(self.folder);
        own
    }

    /// The same for a worker, whose lines have their other ends here.
    pub(super) fn own_descriptors_beside(&self, lines: &ControlSocket) -> OwnDescriptors {
        let mut own = self.own_descriptors();
        lines.list_descriptors(&mut own);
        own
    }
}
