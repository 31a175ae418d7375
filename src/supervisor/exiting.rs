//! Workers whose loop has ended and whose process stays until its threads have finished. They serve no requests.
//!
//! An ordinary exit is waited for: the shell reports the end of a loop only when the process has not exited within two
//! seconds ([`crate::supervisor::health::has_ended_loop`]). Such a worker gives up its slot, or the spare place, and
//! gets a place of its own here. So a thread that does not end delays neither a reload nor the replacement of a worker
//! that exits by itself.
//! Each keeps its entry until it is reaped, and a slot has two: so at most one exiting worker is beside the process of
//! each slot. A slot of which both entries are in use waits, while the others go on.

use std::time::{Duration, Instant};

use arctos_worker::shared::scoreboard::Side;

use super::{ReloadOutcome, Role, Rollout, STACK_DUMP_TIME, Spare, Supervisor};
use crate::supervisor::slot::WorkerSlot;
use crate::system::pid::Pid;

/// Time limit for the exit of a worker that exits by itself, where a graceful stop may take less. What delays it is
/// found and named before that, because it hangs at its exit.
const PATIENCE: Duration = Duration::from_secs(10);

impl Supervisor {
    /// The loop of a worker has ended. This may be reported repeatedly until its process is reaped.
    pub(super) fn loop_ended(&mut self, pid: Pid, had_request: bool, now: Instant) {
        let kill_at = now + self.policy.graceful.max(PATIENCE) + 2 * STACK_DUMP_TIME;
        let Some(index) = self.index_of(pid) else { return };
        let is_spare = self.is_spare(index);
        let Some(place) = self.place_mut(index) else { return };
        let is_unasked = place.loop_ended(had_request, kill_at, now);
        if is_unasked && had_request {
            self.reset_backoffs(now);
        }
        if is_unasked && is_spare {
            self.canary_left(now);
        }
        self.detach(index, now);
    }

    /// The canary exits by itself: other workers of its generation would, too.
    fn canary_left(&mut self, now: Instant) {
        if let Rollout::Canary { generation, .. } = self.rollout {
            self.discard(generation);
            self.end_rollout(ReloadOutcome::CanaryFailed);
        }
        self.stop_spare(now);
    }

    /// Frees the place of a process whose loop has ended, if its slot has an entry for the next one.
    fn detach(&mut self, index: usize, now: Instant) {
        if index < self.slots.len() {
            let has_room = Side::BOTH.iter().any(|side| !self.is_taken(index, *side, None));
            let slot = &mut self.slots[index];
            if has_room && slot.is_exiting() {
                let exiting = slot.detach(now, &mut self.jitter);
                self.exiting.push(exiting);
            }
        } else if self.is_spare(index) {
            let is_over =
                |spare: &mut Spare| spare.role == Role::Exiting && spare.place.is_exiting();
            self.exiting.extend(self.spare.take_if(is_over).map(|spare| spare.place));
        }
    }

    /// An exiting worker was reaped.
    pub(super) fn forget_exited(&mut self) {
        self.exiting.retain(|place| !place.is_vacant());
    }

    /// Whether an entry of the slot of this index is in use, by another place than this one.
    pub(super) fn is_taken(&self, slot: usize, side: Side, except: Option<usize>) -> bool {
        self.places().enumerate().any(|(index, place)| {
            Some(index) != except
                && usize::from(place.id().0) == slot
                && place.side() == side
                && !place.is_vacant()
        })
    }

    /// The entry of this slot that is in use by another place than this one; `Err` where both are.
    pub(super) fn side_taken(
        &self,
        slot: usize,
        except: Option<usize>,
    ) -> Result<Option<Side>, Full> {
        let is_taken = |side| self.is_taken(slot, side, except);
        match (is_taken(Side::A), is_taken(Side::B)) {
            (true, true) => Err(Full),
            (true, false) => Ok(Some(Side::A)),
            (false, true) => Ok(Some(Side::B)),
            (false, false) => Ok(None),
        }
    }

    /// Whether a worker can be started beside the one in this slot.
    pub(super) fn has_room_beside(&self, slot: &WorkerSlot) -> bool {
        !self.exiting.iter().any(|exiting| exiting.id() == slot.id())
    }
}

/// Both entries of a slot are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;
