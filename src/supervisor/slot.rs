//! One worker slot: its state machine and its restart backoff.
//!
//! A slot uses no process, no clock and no other slot: `now` comes in, and states go out. [`crate::supervisor`]
//! decides what is needed and requests the transitions. The invariants of one slot (never two processes, no delay after
//! a worker that served) are therefore visible in one file.
//!
//! | state | event | next |
//! |---|---|---|
//! | Empty | [`fill`](WorkerSlot::fill) | Backoff |
//! | Backoff | [`spawn_when_due`](WorkerSlot::spawn_when_due) | Spawning |
//! | Backoff | [`retire`](WorkerSlot::retire) | Empty |
//! | Spawning | [`started`](WorkerSlot::started) | Starting |
//! | Spawning | [`spawn_failed`](WorkerSlot::spawn_failed) | Backoff |
//! | Spawning | [`withdraw`](WorkerSlot::withdraw) | Empty |
//! | Spawning | [`dismiss`](WorkerSlot::dismiss) | Spawning, not wanted any more |
//! | Starting | [`ready`](WorkerSlot::ready) | Ready |
//! | Starting | [`failing`](WorkerSlot::failing) | Failing |
//! | Starting | [`drain`](WorkerSlot::drain) | Recalled |
//! | Recalled | [`ready`](WorkerSlot::ready) | Draining |
//! | Ready, Draining | [`drain`](WorkerSlot::drain) | Draining |
//! | Starting, Recalled, Ready, Draining, Quitting | [`quit`](WorkerSlot::quit) | Quitting |
//! | Ready, Draining, Quitting | [`mark_hung`](WorkerSlot::mark_hung) | Hung |
//! | Hung | [`recover`](WorkerSlot::recover) | Ready, Draining or Quitting |
//! | Ready | [`loop_ended`](WorkerSlot::loop_ended) | Draining, without having been asked to |
//! | Draining, Quitting, Hung after them | [`detach`](WorkerSlot::detach) | Empty, or Backoff if unasked |
//! | Starting, Recalled, Failing, Ready, Draining, Quitting, Hung | [`kill`](WorkerSlot::kill) | Killed |
//! | Starting, Failing, Ready, Hung, Killed while booting or for hanging | [`exited`](WorkerSlot::exited) | Backoff |
//! | Recalled, Draining, Quitting, Killed while exiting | [`exited`](WorkerSlot::exited) | Empty |
//!
//! Combinations that are not in the table change nothing. While one worker replaces another, a second [`WorkerSlot`]
//! stands in for the slot ([`replacement`](WorkerSlot::replacement)), and the two
//! [`change_places`](WorkerSlot::change_places) when the new worker is ready.

mod backoff;
mod before_hang;
mod exiting;
mod hung;
mod state;

use std::time::{Duration, Instant};

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::Side;

use crate::system::pid::Pid;

use backoff::Backoff;
pub use backoff::Jitter;
pub use before_hang::BeforeHang;
use exiting::Unasked;
pub use state::SlotState;

/// A worker that was ready for this long counts as having served, whether or not it received a request.
pub const SERVED_AFTER: Duration = Duration::from_secs(1);

/// How a process ended, as reported by wait(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// The process exited with this code.
    Code(i32),
    /// The signal with this number killed the process. Real-time signals have no name.
    Signal(i32),
}

/// The reason why a worker is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// The worker was not ready in time.
    BootTimeout,
    /// The worker reported that it cannot boot, and did not exit.
    BootFailed,
    /// The worker did not exit in time after a command.
    Overdue,
    /// The worker hung in a request, in its exit, or because its loop made no progress.
    Hung,
}

/// The meaning of the end of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The worker was never ready, and was not asked to exit.
    BootFailed,
    /// The worker was ready, and was not asked to exit.
    Died,
    /// The worker hung, and was killed for that.
    Hung,
    /// The worker was asked to exit.
    Asked,
}

/// The deadline that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// A worker is not ready in time.
    Boot,
    /// A worker is not ready in time, and has had time to dump its stack.
    Late,
    /// A worker that cannot boot has not exited in time.
    Failing,
    /// A draining worker has to exit after the running request.
    Drain,
    /// A quitting worker, or one that was asked to exit before it was ready, has to be killed.
    Quit,
    /// A worker that hangs has had time to dump its stack.
    Hung,
}

/// A place for one worker. The module describes its states.
#[derive(Clone, Debug)]
pub struct WorkerSlot {
    id: SlotId,
    state: SlotState,
    /// The entry of the current process, or of the last one.
    side: Side,
    /// The generation of the current process, or of the last one.
    generation: Generation,
    backoff: Backoff,
    /// Whether a worker of this slot has ever served and ended, or served for long.
    was_served: bool,
    /// Set while the worker exits without having been asked to.
    unasked: Option<Unasked>,
}

impl WorkerSlot {
    /// Returns an empty slot.
    pub fn new(id: SlotId) -> Self {
        let generation = Generation(0);
        let (state, backoff) = (SlotState::Empty, Backoff::default());
        let (side, was_served, unasked) = (Side::B, false, None);
        Self { id, state, side, generation, backoff, was_served, unasked }
    }

    /// Returns a stand-in beside the current process. Its worker is spawned at once, with the other entry. No backoff
    /// applies, because no failure caused it.
    pub fn replacement(&self) -> Self {
        Self { side: self.side, ..Self::new(self.id) }
    }

    /// Exchanges the process of this slot with that of its replacement.
    pub fn change_places(&mut self, replacement: &mut Self) {
        std::mem::swap(&mut self.state, &mut replacement.state);
        std::mem::swap(&mut self.side, &mut replacement.side);
        std::mem::swap(&mut self.generation, &mut replacement.generation);
        std::mem::swap(&mut self.unasked, &mut replacement.unasked);
    }

    /// Records that the replacement could not boot. Returns when to try the next one.
    pub fn replacement_failed(&mut self, now: Instant, jitter: &mut Jitter) -> Instant {
        self.backoff.failed(now, jitter)
    }

    /// The index of the slot.
    pub fn id(&self) -> SlotId {
        self.id
    }

    /// The state of the slot.
    pub fn state(&self) -> SlotState {
        self.state
    }

    /// The entry of the current process, or of the last one.
    ///
    /// Each spawn takes the side that the last one did not use. An entry is therefore reused only at the second spawn
    /// after its last worker was reaped. The request line and the last counts of a dead worker can be read while the
    /// next one boots, and a process that the dead worker had forked cannot overwrite the entry of the next worker.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The generation of the current process, or of the last one; 0 before the first.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The process in the slot, if there is one.
    pub fn pid(&self) -> Option<Pid> {
        match self.state {
            SlotState::Empty | SlotState::Backoff { .. } | SlotState::Spawning { .. } => None,
            SlotState::Starting { pid, .. }
            | SlotState::Recalled { pid, .. }
            | SlotState::Failing { pid, .. }
            | SlotState::Ready { pid, .. }
            | SlotState::Draining { pid, .. }
            | SlotState::Quitting { pid, .. }
            | SlotState::Hung { pid, .. }
            | SlotState::Killed { pid, .. } => Some(pid),
        }
    }

    /// Whether there is no process and none was requested.
    pub fn is_vacant(&self) -> bool {
        matches!(self.state, SlotState::Empty | SlotState::Backoff { .. })
    }

    /// Whether a process was requested, and whether it exists is not known yet.
    pub fn is_spawning(&self) -> bool {
        matches!(self.state, SlotState::Spawning { .. })
    }

    /// Whether there is no process, and none is needed.
    pub fn is_unused(&self) -> bool {
        self.state == SlotState::Empty
    }

    /// Whether the worker serves and was not asked to exit.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, SlotState::Ready { .. })
    }

    /// Whether a worker of this slot has ever served.
    pub fn was_served(&self) -> bool {
        self.was_served
    }

    /// Whether the slot has a worker that serves, will serve or hangs, and that was not asked to exit.
    pub fn is_staffed(&self) -> bool {
        matches!(
            self.state,
            SlotState::Starting { .. }
                | SlotState::Ready { .. }
                | SlotState::Hung { before: BeforeHang::Ready { .. }, .. }
        )
    }

    /// The next deadline of the slot.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_expiry().map(|(at, _)| at)
    }

    /// Returns the deadline that has expired, if one has.
    pub fn expired(&self, now: Instant) -> Option<Expired> {
        self.next_expiry().filter(|(at, _)| *at <= now).and_then(|(_, expired)| expired)
    }

    /// The deadline of the state, and what expires then; the latter is `None` for a deadline that needs no action.
    fn next_expiry(&self) -> Option<(Instant, Option<Expired>)> {
        match self.state {
            SlotState::Empty
            | SlotState::Spawning { .. }
            | SlotState::Ready { has_served: true, .. }
            | SlotState::Killed { .. } => None,
            SlotState::Ready { since, has_served: false, .. } => Some((since + SERVED_AFTER, None)),
            SlotState::Backoff { until } => Some((until, None)),
            SlotState::Starting { deadline, is_late: false, .. } => {
                Some((deadline, Some(Expired::Boot)))
            }
            SlotState::Starting { deadline, is_late: true, .. } => {
                Some((deadline, Some(Expired::Late)))
            }
            SlotState::Draining { quick_at, kill_at, .. } => {
                Some((quick_at.min(kill_at), Some(Expired::Drain)))
            }
            SlotState::Failing { kill_at, .. } => Some((kill_at, Some(Expired::Failing))),
            SlotState::Recalled { kill_at, .. } | SlotState::Quitting { kill_at, .. } => {
                Some((kill_at, Some(Expired::Quit)))
            }
            SlotState::Hung { kill_at, .. } => Some((kill_at, Some(Expired::Hung))),
        }
    }

    /// Requests a worker for this slot, now.
    pub fn fill(&mut self, now: Instant) {
        if self.state == SlotState::Empty {
            self.state = SlotState::Backoff { until: now };
        }
    }

    /// Makes the next spawn due at this time, unless it is due earlier.
    pub fn hasten(&mut self, at: Instant) {
        if let SlotState::Backoff { until } = &mut self.state {
            *until = at.min(*until);
        }
    }

    /// Forgets earlier failures, so that the next spawn is due now.
    pub fn forget_failures(&mut self, now: Instant) {
        self.backoff.forget();
        self.hasten(now);
    }

    /// Whether the worker has been ready for [`SERVED_AFTER`]. Returns true only once per worker.
    pub fn has_served(&mut self, now: Instant) -> bool {
        let SlotState::Ready { since, has_served, .. } = &mut self.state else { return false };
        let is_due = *since + SERVED_AFTER <= now;
        self.was_served |= is_due;
        is_due && !std::mem::replace(has_served, true)
    }

    /// Empties the slot unless it has a worker. [`WorkerSlot::drain`] stops a worker.
    pub fn retire(&mut self) {
        if matches!(self.state, SlotState::Backoff { .. }) {
            self.state = SlotState::Empty;
        }
    }

    /// Begins a spawn if it is due. Returns the side that it takes: the other one, unless a second process of this slot
    /// uses that side.
    pub fn spawn_when_due(
        &mut self,
        generation: Generation,
        taken: Option<Side>,
        now: Instant,
    ) -> Option<Side> {
        if !matches!(self.state, SlotState::Backoff { until } if until <= now) {
            return None;
        }
        let last_side = self.side;
        if taken != Some(last_side.other()) {
            self.side = last_side.other();
        }
        self.generation = generation;
        self.state = SlotState::Spawning { last_side, is_dismissed: false };
        Some(self.side)
    }

    /// Withdraws a spawn that the shell has not seen yet. Its entry was not used, so the next spawn can take it.
    pub fn withdraw(&mut self) {
        if let SlotState::Spawning { last_side, .. } = self.state {
            self.side = last_side;
            self.state = SlotState::Empty;
        }
    }

    /// Marks a spawn that the shell has seen. Its process gets the listeners of a slot that is given up, so it cannot
    /// serve even if the slot is wanted again by then.
    pub fn dismiss(&mut self) {
        if let SlotState::Spawning { is_dismissed, .. } = &mut self.state {
            *is_dismissed = true;
        }
    }

    /// Whether a process was requested that is not wanted any more.
    pub fn is_dismissed(&self) -> bool {
        matches!(self.state, SlotState::Spawning { is_dismissed: true, .. })
    }

    /// Records that the spawn started a process. Returns whether one was expected.
    pub fn started(&mut self, pid: Pid, deadline: Instant) -> bool {
        let expected = self.is_spawning();
        if expected {
            self.state = SlotState::Starting { pid, deadline, is_late: false };
        }
        expected
    }

    /// Records that the spawn failed, which counts like any other failure. Returns whether a spawn was expected.
    pub fn spawn_failed(&mut self, now: Instant, jitter: &mut Jitter) -> bool {
        let expected = self.is_spawning();
        if expected {
            self.state = SlotState::Backoff { until: self.backoff.failed(now, jitter) };
        }
        expected
    }

    /// Records that the worker can serve. Returns whether it has become ready.
    pub fn ready(&mut self, now: Instant) -> bool {
        if let SlotState::Recalled { pid, ready_quick_at, ready_kill_at, .. } = self.state {
            self.state =
                SlotState::Draining { pid, quick_at: ready_quick_at, kill_at: ready_kill_at };
        }
        let SlotState::Starting { pid, .. } = self.state else { return false };
        self.state = SlotState::Ready { pid, since: now, has_served: false };
        true
    }

    /// Gives a late worker until `kill_at` to dump its stack and become ready. Returns its process the first time.
    pub fn late(&mut self, kill_at: Instant) -> Option<Pid> {
        let SlotState::Starting { pid, is_late: false, .. } = self.state else { return None };
        self.state = SlotState::Starting { pid, deadline: kill_at, is_late: true };
        Some(pid)
    }

    /// Gives a worker that cannot boot until `kill_at` to exit by itself.
    pub fn failing(&mut self, kill_at: Instant) {
        if let SlotState::Starting { pid, .. } = self.state {
            self.state = SlotState::Failing { pid, kill_at };
        }
    }

    /// Makes the worker drain. An earlier deadline stays. A worker that does not serve yet has until `soon`. Returns
    /// whether the worker needs the command.
    pub fn drain(&mut self, soon: Instant, quick_at: Instant, kill_at: Instant) -> bool {
        match self.state {
            SlotState::Ready { pid, .. } => {
                self.state = SlotState::Draining { pid, quick_at, kill_at };
                true
            }
            SlotState::Starting { pid, .. } => {
                self.state = SlotState::Recalled {
                    pid,
                    kill_at: soon.min(kill_at),
                    ready_quick_at: quick_at,
                    ready_kill_at: kill_at,
                };
                true
            }
            SlotState::Recalled { pid, kill_at: kill, ready_quick_at, ready_kill_at } => {
                self.state = SlotState::Recalled {
                    pid,
                    kill_at: kill.min(soon).min(kill_at),
                    ready_quick_at: ready_quick_at.min(quick_at),
                    ready_kill_at: ready_kill_at.min(kill_at),
                };
                false
            }
            SlotState::Draining { pid, quick_at: quick, kill_at: kill } => {
                self.state = SlotState::Draining {
                    pid,
                    quick_at: quick.min(quick_at),
                    kill_at: kill.min(kill_at),
                };
                false
            }
            SlotState::Failing { pid, kill_at: kill } => {
                self.state = SlotState::Failing { pid, kill_at: kill.min(kill_at) };
                false
            }
            SlotState::Hung { pid, kill_at: kill, mut before } => {
                let is_news = before.drain(quick_at, kill_at);
                self.state = SlotState::Hung { pid, kill_at: kill.min(kill_at), before };
                is_news
            }
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning { .. }
            | SlotState::Quitting { .. }
            | SlotState::Killed { .. } => false,
        }
    }

    /// Makes the worker exit after the running request. An earlier deadline stays. Returns whether the worker needs the
    /// command.
    pub fn quit(&mut self, kill_at: Instant) -> bool {
        match self.state {
            SlotState::Starting { pid, .. } | SlotState::Ready { pid, .. } => {
                self.state = SlotState::Quitting { pid, kill_at };
                true
            }
            SlotState::Recalled { pid, kill_at: kill, .. }
            | SlotState::Draining { pid, kill_at: kill, .. } => {
                self.state = SlotState::Quitting { pid, kill_at: kill.min(kill_at) };
                true
            }
            SlotState::Quitting { pid, kill_at: kill } => {
                self.state = SlotState::Quitting { pid, kill_at: kill.min(kill_at) };
                false
            }
            SlotState::Failing { pid, kill_at: kill } => {
                self.state = SlotState::Failing { pid, kill_at: kill.min(kill_at) };
                false
            }
            SlotState::Hung { pid, kill_at: kill, mut before } => {
                let is_news = before.quit(kill_at);
                self.state = SlotState::Hung { pid, kill_at: kill.min(kill_at), before };
                is_news
            }
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning { .. }
            | SlotState::Killed { .. } => false,
        }
    }

    /// Marks the process as killed. Returns it, unless it was killed before.
    pub fn kill(&mut self, reason: KillReason) -> Option<Pid> {
        if matches!(self.state, SlotState::Killed { .. }) {
            return None;
        }
        let pid = self.pid()?;
        self.state = SlotState::Killed { pid, reason };
        Some(pid)
    }

    /// Records that the process was reaped. Returns the meaning of its end, or `None` if there was no process.
    /// `had_request` says whether it had received a request.
    pub fn exited(
        &mut self,
        had_request: bool,
        now: Instant,
        jitter: &mut Jitter,
    ) -> Option<Ending> {
        let mut has_served = had_request;
        let unasked = self.unasked.take();
        let ending = match self.state {
            SlotState::Empty | SlotState::Backoff { .. } | SlotState::Spawning { .. } => {
                return None;
            }
            SlotState::Starting { .. } | SlotState::Failing { .. } => Ending::BootFailed,
            SlotState::Ready { since, .. } => {
                has_served |= now.saturating_duration_since(since) >= SERVED_AFTER;
                Ending::Died
            }
            SlotState::Hung { .. } => Ending::Hung,
            SlotState::Recalled { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. } => match unasked {
                Some(Unasked { had_served }) => {
                    has_served |= had_served;
                    Ending::Died
                }
                None => Ending::Asked,
            },
            SlotState::Killed { reason, .. } => match reason {
                KillReason::BootTimeout | KillReason::BootFailed => Ending::BootFailed,
                KillReason::Hung => Ending::Hung,
                KillReason::Overdue => Ending::Asked,
            },
        };
        match ending {
            Ending::BootFailed => self.follow_death(false, now, jitter),
            Ending::Died => self.follow_death(has_served, now, jitter),
            // The worker hung in a request, so it had received one and has served.
            Ending::Hung => self.follow_death(true, now, jitter),
            Ending::Asked => self.state = SlotState::Empty,
        }
        Some(ending)
    }

    /// Decides when the next worker is spawned after one that was not asked to exit.
    fn follow_death(&mut self, has_served: bool, now: Instant, jitter: &mut Jitter) {
        let until = if has_served {
            self.was_served = true;
            self.backoff.forget();
            now
        } else {
            self.backoff.failed(now, jitter)
        };
        self.state = SlotState::Backoff { until };
    }
}

#[cfg(test)]
mod tests;
