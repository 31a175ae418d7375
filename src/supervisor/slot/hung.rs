//! A worker that hangs: the state that it was in, and the way back to it.

use std::time::Instant;

use super::{BeforeHang, SlotState, WorkerSlot};
use crate::system::pid::Pid;

impl WorkerSlot {
    /// Whether its worker hangs, and is about to be killed for it.
    pub fn is_hung(&self) -> bool {
        matches!(self.state, SlotState::Hung { .. })
    }

    /// The worker hangs: it is made to dump its stack, and killed at `kill_at`. Returns its process the first time.
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

    /// The worker that hung goes on: it returns to its earlier state, or to what it was told in the meantime. Returns
    /// whether there was one.
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
