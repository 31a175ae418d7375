//! The state to which a worker that hangs returns if it goes on.

use std::time::Instant;

/// The state of a worker before it hung. The worker returns to it if it goes on; commands may change it until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BeforeHang {
    /// See [`SlotState::Ready`](super::SlotState::Ready).
    Ready {
        /// When the worker became ready.
        since: Instant,
        /// Whether the worker had been ready for long enough to count as having served.
        has_served: bool,
    },
    /// See [`SlotState::Draining`](super::SlotState::Draining).
    Draining {
        /// When the worker is ordered to exit after the running request.
        quick_at: Instant,
        /// When the process is killed.
        kill_at: Instant,
    },
    /// See [`SlotState::Quitting`](super::SlotState::Quitting).
    Quitting {
        /// When the process is killed.
        kill_at: Instant,
    },
}

impl BeforeHang {
    /// Applies [`WorkerSlot::drain`](super::WorkerSlot::drain) to this state.
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

    /// Applies [`WorkerSlot::quit`](super::WorkerSlot::quit) to this state.
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
