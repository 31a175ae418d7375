//! A worker whose loop is over: it serves nobody any more, but its process stays until its exit hooks and its
//! threads have finished. Its slot does not wait for that.

use std::time::Instant;

use super::{BeforeHang, Ending, ExitStatus, Jitter, SERVED_AFTER, SlotState, WorkerSlot};
use crate::system::pid::Pid;

impl Ending {
    /// Whether it speaks against the code: a worker that nobody had asked to leave and that ended with status
    /// 0 and without a request was sent TERM directly, or recycled itself.
    pub fn is_failure(self, status: ExitStatus, was_in_request: bool) -> bool {
        match (self, status) {
            (Self::Asked, _) => false,
            (Self::Died, ExitStatus::Code(0)) => was_in_request,
            (Self::Died, ExitStatus::Code(_) | ExitStatus::Signal(_))
            | (Self::BootFailed | Self::Hung, _) => true,
        }
    }
}

/// A worker that ended its loop although nobody had asked it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unasked {
    /// Whether it had served before that.
    pub(super) had_served: bool,
}

impl WorkerSlot {
    /// The loop of its worker is over. One that was not asked to leave has until `kill_at` to end.
    /// `had_request` is whether it was given a request. Whether it was not asked to.
    pub fn loop_ended(&mut self, had_request: bool, kill_at: Instant, now: Instant) -> bool {
        let draining = |pid: Pid| SlotState::Draining { pid, quick_at: kill_at, kill_at };
        let (since, next) = match self.state {
            SlotState::Ready { pid, since, .. } => (since, draining(pid)),
            SlotState::Hung { pid, kill_at: kill, before: BeforeHang::Ready { since, .. } } => {
                let before = BeforeHang::Draining { quick_at: kill_at, kill_at };
                (since, SlotState::Hung { pid, kill_at: kill, before })
            }
            SlotState::Hung {
                before: BeforeHang::Draining { .. } | BeforeHang::Quitting { .. },
                ..
            }
            | SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Starting { .. }
            | SlotState::Recalled { .. }
            | SlotState::Failing { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. }
            | SlotState::Killed { .. } => return false,
        };
        let had_served = had_request || now.saturating_duration_since(since) >= SERVED_AFTER;
        self.unasked = Some(Unasked { had_served });
        self.state = next;
        true
    }

    /// Whether its worker is on its way out and can be followed without being waited for.
    pub fn is_exiting(&self) -> bool {
        match self.state {
            SlotState::Draining { .. } | SlotState::Quitting { .. } => true,
            SlotState::Hung { before, .. } => !matches!(before, BeforeHang::Ready { .. }),
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Starting { .. }
            | SlotState::Recalled { .. }
            | SlotState::Failing { .. }
            | SlotState::Ready { .. }
            | SlotState::Killed { .. } => false,
        }
    }

    /// The process that leaves gets a seat of its own, which is returned, and this slot is free for the next
    /// one, as after its end.
    pub fn detach(&mut self, now: Instant, jitter: &mut Jitter) -> Self {
        let mut exiting =
            Self { side: self.side, generation: self.generation, ..Self::new(self.id) };
        std::mem::swap(&mut self.state, &mut exiting.state);
        exiting.unasked = self.unasked.take();
        if let Some(Unasked { had_served }) = exiting.unasked {
            self.follow_death(had_served, now, jitter);
        }
        exiting
    }
}
