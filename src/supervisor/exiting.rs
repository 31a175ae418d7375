//! Workers whose loop has ended and whose process remains until its threads have finished. They serve no requests.
//!
//! The slot waits for an ordinary exit: the shell reports the end of a loop only if the process has not exited within
//! two seconds ([`crate::supervisor::health::has_ended_loop`]). Such a worker then gives up its slot, or the spare
//! place, and gets a separate place here. A thread that does not end therefore delays neither a reload nor the
//! replacement of a worker that exits by itself.
//!
//! Each exiting worker keeps its scoreboard entry until it is reaped. A slot has two entries, so it has at most one
//! exiting worker besides its current process. If both entries of a slot are in use, that slot waits, while the others
//! go on.

use std::time::{Duration, Instant};

use arctos_worker::shared::scoreboard::Side;

use super::{ReloadOutcome, Role, Rollout, STACK_DUMP_TIME, Spare, Supervisor};
use crate::supervisor::slot::WorkerSlot;
use crate::system::pid::Pid;

/// Minimum time limit for the exit of a worker that exits by itself, even if a graceful stop has a shorter one. The
/// hang check logs the cause of the delay earlier than that.
const PATIENCE: Duration = Duration::from_secs(10);

impl Supervisor {
    /// Handles the end of a worker's loop. This may be reported repeatedly until its process is reaped.
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

    /// Ends a reload whose canary exits by itself, because other workers of its generation would do so, too.
    fn canary_left(&mut self, now: Instant) {
        if let Rollout::Canary { generation, .. } = self.rollout {
            self.discard(generation);
            self.end_rollout(ReloadOutcome::CanaryFailed);
        }
        self.stop_spare(now);
    }

    /// Frees the place of a process whose loop has ended, if its slot has a free entry for the next worker.
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

    /// Removes the exiting workers that were reaped.
    pub(super) fn forget_exited(&mut self) {
        self.exiting.retain(|place| !place.is_vacant());
    }

    /// Whether this entry of the slot with this index is in use by a place other than `except`.
    pub(super) fn is_taken(&self, slot: usize, side: Side, except: Option<usize>) -> bool {
        self.places().enumerate().any(|(index, place)| {
            Some(index) != except
                && usize::from(place.id().0) == slot
                && place.side() == side
                && !place.is_vacant()
        })
    }

    /// The entry of this slot that a place other than `except` uses; `Err` if both are in use.
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

    /// Whether the slot with this index has no worker and cannot get one, because other places use both of its entries.
    /// Its backoff goes on meanwhile.
    pub(super) fn waits_for_entry(&self, index: usize) -> bool {
        let is_vacant = self.slots.get(index).is_some_and(WorkerSlot::is_vacant);
        is_vacant && self.side_taken(index, Some(index)).is_err()
    }

    /// Whether a worker can be started beside the one in this slot.
    pub(super) fn has_room_beside(&self, slot: &WorkerSlot) -> bool {
        !self.exiting.iter().any(|exiting| exiting.id() == slot.id())
    }
}

/// Both entries of a slot are in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;
