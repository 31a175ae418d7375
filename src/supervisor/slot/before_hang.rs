//! The state that a worker which hangs returns to if it goes on.

use std::time::Instant;

/// The state of a worker before it hung, which it returns to if it goes on. Commands change it in the meantime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeforeHang {
    /// As [`SlotState::Ready`](super::SlotState::Ready).
    Ready {
        /// When it became ready.
        since: Instant,
        /// Whether it had been ready for long enough to have served.
        has_served: bool,
    },
    /// As [`SlotState::Draining`](super::SlotState::Draining).
    Draining {
        /// When it is told to exit after the running request.
        quick_at: Instant,
        /// When it is killed.
        kill_at: Instant,
    },
    /// As [`SlotState::Quitting`](super::SlotState::Quitting).
    Quitting {
        /// When it is killed.
        kill_at: Instant,
    },
}

impl BeforeHang {
    /// As [`WorkerSlot::drain`](super::WorkerSlot::drain).
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

    /// As [`WorkerSlot::quit`](super::WorkerSlot::quit).
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
