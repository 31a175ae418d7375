//! The transitions of a worker that hangs, and of one that goes on.

use std::time::Instant;

use super::{BeforeHang, SlotState, WorkerSlot};
use crate::system::pid::Pid;

impl WorkerSlot {
    /// Whether the worker hangs and is about to be killed for that.
    pub fn is_hung(&self) -> bool {
        matches!(self.state, SlotState::Hung { .. })
    }

    /// Marks the worker as hung. It is made to dump its stack, and killed at `kill_at`. Returns its process the first
    /// time.
    pub fn mark_hung(&mut self, kill_at: Instant) -> Option<Pid> {
        let (pid, kill, before) = if let SlotState::Ready { pid, since, has_served } = self.state {
            (pid, kill_at, BeforeHang::Ready { since, has_served })
        } else if let SlotState::Draining { pid, quick_at, kill_at } = self.state {
            (pid, kill_at, BeforeHang::Draining { quick_at, kill_at })
        } else if let SlotState::Quitting { pid, kill_at } = self.state {
            (pid, kill_at, BeforeHang::Quitting { kill_at })
        } else {
            return None;
        };
        self.state = SlotState::Hung { pid, kill_at: kill.min(kill_at), before };
        Some(pid)
    }

    /// Returns a worker that goes on to its earlier state, or to the state of a command that it received in the
    /// meantime. Returns whether there was such a worker.
    pub fn recover(&mut self) -> bool {
        let SlotState::Hung { pid, before, .. } = self.state else { return false };
        self.state = match before {
            BeforeHang::Ready { since, has_served } => SlotState::Ready { pid, since, has_served },
            BeforeHang::Draining { quick_at, kill_at } => {
                SlotState::Draining { pid, quick_at, kill_at }
            }
            BeforeHang::Quitting { kill_at } => SlotState::Quitting { pid, kill_at },
        };
        true
    }
}
