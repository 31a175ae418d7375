//! A worker that hangs: what it was before, what it is told meanwhile, and how it gets out of it.

use std::time::Instant;

use super::{SlotState, WorkerSlot};
use crate::system::pid::Pid;

/// What a worker that hangs was, and is again if it goes on. It is told to leave all the same meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeforeHang {
    /// As [`SlotState::Ready`].
    Ready {
        /// Since when.
        since: Instant,
        /// Whether its time to have served was up.
        has_served: bool,
    },
    /// As [`SlotState::Draining`].
    Draining {
        /// When it is told to leave after the running request.
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

    /// The worker hangs: it is asked where, and has until `kill_at` to be killed. Its process, if that
    /// is news.
    pub fn mark_hung(&mut self, kill_at: Instant) -> Option<Pid> {
        match self.state {
            SlotState::Ready { pid, since, has_served } => {
                let before = BeforeHang::Ready { since, has_served };
                self.state = SlotState::Hung { pid, kill_at, before };
                Some(pid)
            }
            SlotState::Draining { pid, quick_at, kill_at: kill } => {
                let before = BeforeHang::Draining { quick_at, kill_at: kill };
                self.state = SlotState::Hung { pid, kill_at: kill.min(kill_at), before };
                Some(pid)
            }
            SlotState::Quitting { pid, kill_at: kill } => {
                let before = BeforeHang::Quitting { kill_at: kill };
                self.state = SlotState::Hung { pid, kill_at: kill.min(kill_at), before };
                Some(pid)
            }
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Starting { .. }
            | SlotState::Recalled { .. }
            | SlotState::Failing { .. }
            | SlotState::Hung { .. }
            | SlotState::Killed { .. } => None,
        }
    }

    /// The worker that hung goes on: it is again what it was, or what it was told to be meanwhile. Whether
    /// there was one.
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
