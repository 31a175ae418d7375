//! A worker whose loop has ended. It serves no more requests, but its process remains until its exit hooks and its
//! threads have finished. The slot does not wait for that.

use std::time::Instant;

use super::{BeforeHang, Ending, ExitStatus, Jitter, SERVED_AFTER, SlotState, WorkerSlot};
use crate::system::pid::Pid;

impl Ending {
    /// Whether this end is evidence against the code. A worker that was not asked to exit and that ended with status 0
    /// outside of a request was sent TERM directly, or recycled itself.
    pub fn is_failure(self, status: ExitStatus, was_in_request: bool) -> bool {
        match (self, status) {
            (Self::Asked, _) => false,
            (Self::Died, ExitStatus::Code(0)) => was_in_request,
            (Self::Died, ExitStatus::Code(_) | ExitStatus::Signal(_))
            | (Self::BootFailed | Self::Hung, _) => true,
        }
    }
}

/// Details of a worker that ended its loop without having been asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unasked {
    /// Whether the worker had served before that.
    pub(super) had_served: bool,
}

impl WorkerSlot {
    /// Records that the loop of the worker has ended. A worker that was not asked to exit has until `kill_at`.
    /// `had_request` says whether it had received a request. Returns whether it was not asked to exit.
    pub fn loop_ended(&mut self, had_request: bool, kill_at: Instant, now: Instant) -> bool {
        let draining = |pid: Pid| SlotState::Draining { pid, quick_at: kill_at, kill_at };
        let (since, next) = if let SlotState::Ready { pid, since, .. } = self.state {
            (since, draining(pid))
        } else if let SlotState::Hung {
            pid,
            kill_at: kill,
            before: BeforeHang::Ready { since, .. },
        } = self.state
        {
            let before = BeforeHang::Draining { quick_at: kill_at, kill_at };
            (since, SlotState::Hung { pid, kill_at: kill, before })
        } else {
            return false;
        };
        let had_served = had_request || now.saturating_duration_since(since) >= SERVED_AFTER;
        self.unasked = Some(Unasked { had_served });
        self.state = next;
        true
    }

    /// Whether the worker is exiting, so that the slot does not have to wait for it.
    pub fn is_exiting(&self) -> bool {
        let is_told = |before| !matches!(before, BeforeHang::Ready { .. });
        matches!(self.state, SlotState::Draining { .. } | SlotState::Quitting { .. })
            || matches!(self.state, SlotState::Hung { before, .. } if is_told(before))
    }

    /// Moves the exiting process to a separate place, which is returned. This slot is then free for the next worker, as
    /// after the end of the process.
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
