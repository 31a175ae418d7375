//! A worker that hangs: the state that it was in, and the way back to it.

use std::time::Instant;

use super::{SlotState, WorkerSlot};
use crate::system::pid::Pid;

/// The state of a worker before it hung, which it returns to if it goes on. Commands change it in the meantime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeforeHang {
    /// As [`SlotState::Ready`].
    Ready {
        /// When it became ready.
        since: Instant,
        /// Whether it had been ready for long enough to have served.
        has_served: bool,
    },
    /// As [`SlotState::Draining`].
    Draining {
        /// When it is told to exit after the running request.
        quick_at: Instant,
        /// When it is killed.
        kill_at: Instant,
    },
    /// As [`SlotState::Quitting`].
    Quitting {
        /// When it is killed.
        kill_at: Instant,
    },
}

impl BeforeHang {
    /// As [`WorkerSlot::drain`].
    pub(super) fn drain(&mut self, quick_at: Instant, kill_at: Instant) -> bool {
        match self {
            Self::Ready { .. } => {
                *self = Self::Draining { quick_at, kill_at };
                true
            }
            Self::Draining { quick_at: quick, kill_at: kill } => {
                *self =
                    Self::Draining { quick_at: quick_at.min(*quick), kill_at: kill_at.min(*kill) };
                false
            }
            Self::Quitting { .. } => false,
        }
    }

    /// As [`WorkerSlot::quit`].
    pub(super) fn quit(&mut self, kill_at: Instant) -> bool {
        match self {
            Self::Ready { .. } => {
                *self = Self::Quitting { kill_at };
                true
            }
            Self::Draining { kill_at: kill, .. } => {
                *self = Self::Quitting { kill_at: kill_at.min(*kill) };
                true
            }
            Self::Quitting { kill_at: kill } => {
                *self = Self::Quitting { kill_at: kill_at.min(*kill) };
                false
            }
        }
    }
}

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
