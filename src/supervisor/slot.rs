//! One worker slot: its state machine and its restart backoff.
//!
//! A slot knows no process, no clock and no other slot: `now` comes in, states go out; [`crate::supervisor`] decides
//! what is wanted and asks for the transitions. So everything that must hold for one slot (never two processes, no
//! wait after a worker that served) is visible in one file.
//!
//! | state | event | next |
//! |---|---|---|
//! | Empty | [`fill`](WorkerSlot::fill) | Backoff |
//! | Backoff | [`spawn_when_due`](WorkerSlot::spawn_when_due) | Spawning |
//! | Backoff | [`retire`](WorkerSlot::retire) | Empty |
//! | Spawning | [`started`](WorkerSlot::started) | Starting |
//! | Spawning | [`spawn_failed`](WorkerSlot::spawn_failed) | Backoff |
//! | Spawning | [`withdraw`](WorkerSlot::withdraw) | Empty |
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
//! What is not in the table changes nothing. While one worker replaces another, a second [`WorkerSlot`] stands in for
//! the slot ([`replacement`](WorkerSlot::replacement)), and the two [`change_places`](WorkerSlot::change_places) when
//! the new one is ready.

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

/// A worker that was ready for this long has served, whether or not it was given a request.
pub const SERVED_AFTER: Duration = Duration::from_secs(1);

/// How a process ended, as reported by wait(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it; a number, because real-time signals have no name.
    Signal(i32),
}

/// Why a worker is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillReason {
    /// It was not ready in time.
    BootTimeout,
    /// It reported that it cannot boot, and did not exit.
    BootFailed,
    /// It was told to exit, and its time has expired.
    Overdue,
    /// It hung: in a request, or its loop did not turn.
    Hung,
}

/// What the end of a worker means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It was never ready, and was not asked to exit.
    BootFailed,
    /// It was ready, and was not asked to exit.
    Died,
    /// It hung, and was killed for it.
    Hung,
    /// It was asked to exit.
    Asked,
}

/// Which deadline has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// A worker is not ready in time.
    Boot,
    /// A worker is not ready in time, and has had its moment to dump its stack.
    Late,
    /// A worker that cannot boot has not exited in time.
    Failing,
    /// A draining worker is to exit after the running request.
    Drain,
    /// A quitting worker, or one that was told to exit before it was ready, is killed.
    Quit,
    /// A worker that hangs has had its moment to dump its stack.
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
    /// The worker exits without having been asked to.
    unasked: Option<Unasked>,
}

impl WorkerSlot {
    /// An empty slot.
    pub fn new(id: SlotId) -> Self {
        let generation = Generation(0);
        let (state, backoff) = (SlotState::Empty, Backoff::default());
        let (side, was_served, unasked) = (Side::B, false, None);
        Self { id, state, side, generation, backoff, was_served, unasked }
    }

    /// A stand-in beside the current process: it is spawned at once, in the other entry. No backoff applies to it,
    /// because an operator asked for it and no failure caused it.
    pub fn replacement(&self) -> Self {
        Self { side: self.side, ..Self::new(self.id) }
    }

    /// The process of its replacement serves here from now on, and the replacement has the old process.
    pub fn change_places(&mut self, replacement: &mut Self) {
        std::mem::swap(&mut self.state, &mut replacement.state);
        std::mem::swap(&mut self.side, &mut replacement.side);
        std::mem::swap(&mut self.generation, &mut replacement.generation);
        std::mem::swap(&mut self.unasked, &mut replacement.unasked);
    }

    /// The replacement could not boot. Returns when to try the next one.
    pub fn replacement_failed(&mut self, now: Instant, jitter: &mut Jitter) -> Instant {
        self.backoff.failed(now, jitter)
    }

    /// Its index.
    pub fn id(&self) -> SlotId {
        self.id
    }

    /// Its state.
    pub fn state(&self) -> SlotState {
        self.state
    }

    /// The entry of the current process, or of the last one.
    ///
    /// Each spawn takes the side that the last one did not use. An entry is therefore reused only at the second spawn
    /// after its last worker was reaped: what a dead worker left (its request line, its last counts) can be read while
    /// the next one boots, and a process that the dead one had forked cannot overwrite the entry of the next one.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The generation of the current process, or of the last one; 0 before the first.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The process in it, if there is one.
    pub fn pid(&self) -> Option<Pid> {
        match self.state {
            SlotState::Empty | SlotState::Backoff { .. } | SlotState::Spawning => None,
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

    /// Whether there is no process and none was asked for.
    pub fn is_vacant(&self) -> bool {
        matches!(self.state, SlotState::Empty | SlotState::Backoff { .. })
    }

    /// Whether there is no process, and none is wanted.
    pub fn is_unused(&self) -> bool {
        self.state == SlotState::Empty
    }

    /// Whether its worker serves and was not told to exit.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, SlotState::Ready { .. })
    }

    /// Whether a worker of this slot has ever served.
    pub fn was_served(&self) -> bool {
        self.was_served
    }

    /// Whether it has a worker that serves, will serve or hangs, and that was not told to exit.
    pub fn is_staffed(&self) -> bool {
        matches!(
            self.state,
            SlotState::Starting { .. }
                | SlotState::Ready { .. }
                | SlotState::Hung { before: BeforeHang::Ready { .. }, .. }
        )
    }

    /// When something must happen here at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        self.next_expiry().map(|(at, _)| at)
    }

    /// What has expired.
    pub fn expired(&self, now: Instant) -> Option<Expired> {
        self.next_expiry().filter(|(at, _)| *at <= now).and_then(|(_, expired)| expired)
    }

    /// The deadline of the state, and what expires then; `None` where nothing has to be done about it.
    fn next_expiry(&self) -> Option<(Instant, Option<Expired>)> {
        match self.state {
            SlotState::Empty
            | SlotState::Spawning
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

    /// A worker is wanted here, now.
    pub fn fill(&mut self, now: Instant) {
        if self.state == SlotState::Empty {
            self.state = SlotState::Backoff { until: now };
        }
    }

    /// Spawns the next worker at this time, unless it is due earlier.
    pub fn hasten(&mut self, at: Instant) {
        if let SlotState::Backoff { until } = &mut self.state {
            *until = at.min(*until);
        }
    }

    /// Forgets earlier failures: the next worker is spawned now.
    pub fn forget_failures(&mut self, now: Instant) {
        self.backoff.forget();
        self.hasten(now);
    }

    /// Whether the worker has been ready for [`SERVED_AFTER`]. True once per worker.
    pub fn has_served(&mut self, now: Instant) -> bool {
        let SlotState::Ready { since, has_served, .. } = &mut self.state else { return false };
        let is_due = *since + SERVED_AFTER <= now;
        self.was_served |= is_due;
        is_due && !std::mem::replace(has_served, true)
    }

    /// No worker is wanted here any more. A living one is told by [`WorkerSlot::drain`].
    pub fn retire(&mut self) {
        if matches!(self.state, SlotState::Backoff { .. }) {
            self.state = SlotState::Empty;
        }
    }

    /// Begins a spawn if it is due. Returns the side that it takes: the other one, unless a second process of this slot
    /// uses that.
    pub fn spawn_when_due(
        &mut self,
        generation: Generation,
        taken: Option<Side>,
        now: Instant,
    ) -> Option<Side> {
        if !matches!(self.state, SlotState::Backoff { until } if until <= now) {
            return None;
        }
        if taken != Some(self.side.other()) {
            self.side = self.side.other();
        }
        self.generation = generation;
        self.state = SlotState::Spawning;
        Some(self.side)
    }

    /// The spawn was taken back before the shell saw it.
    pub fn withdraw(&mut self) {
        if self.state == SlotState::Spawning {
            self.state = SlotState::Empty;
        }
    }

    /// The spawn started a process. Returns whether one was expected.
    pub fn started(&mut self, pid: Pid, deadline: Instant) -> bool {
        let expected = self.state == SlotState::Spawning;
        if expected {
            self.state = SlotState::Starting { pid, deadline, is_late: false };
        }
        expected
    }

    /// The spawn failed, which is a failure like any other. Returns whether one was expected.
    pub fn spawn_failed(&mut self, now: Instant, jitter: &mut Jitter) -> bool {
        let expected = self.state == SlotState::Spawning;
        if expected {
            self.state = SlotState::Backoff { until: self.backoff.failed(now, jitter) };
        }
        expected
    }

    /// The worker can serve. Returns whether it goes on.
    pub fn ready(&mut self, now: Instant) -> bool {
        if let SlotState::Recalled { pid, ready_quick_at, ready_kill_at, .. } = self.state {
            self.state =
                SlotState::Draining { pid, quick_at: ready_quick_at, kill_at: ready_kill_at };
        }
        let SlotState::Starting { pid, .. } = self.state else { return false };
        self.state = SlotState::Ready { pid, since: now, has_served: false };
        true
    }

    /// The worker is late: it is made to dump its stack, and has until `kill_at` to be ready. Returns its process the
    /// first time.
    pub fn late(&mut self, kill_at: Instant) -> Option<Pid> {
        let SlotState::Starting { pid, is_late: false, .. } = self.state else { return None };
        self.state = SlotState::Starting { pid, deadline: kill_at, is_late: true };
        Some(pid)
    }

    /// The worker cannot boot. It has until `kill_at` to exit by itself.
    pub fn failing(&mut self, kill_at: Instant) {
        if let SlotState::Starting { pid, .. } = self.state {
            self.state = SlotState::Failing { pid, kill_at };
        }
    }

    /// Tells the worker to finish what it accepted. An earlier deadline stays. A worker that does not serve yet has until
    /// `soon`. Returns whether it has to be told.
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
            | SlotState::Spawning
            | SlotState::Quitting { .. }
            | SlotState::Killed { .. } => false,
        }
    }

    /// Tells the worker to exit after the running request. An earlier deadline stays. Returns whether it has to be told.
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
            | SlotState::Spawning
            | SlotState::Killed { .. } => false,
        }
    }

    /// The process is killed. Returns it, unless it was killed before.
    pub fn kill(&mut self, reason: KillReason) -> Option<Pid> {
        if matches!(self.state, SlotState::Killed { .. }) {
            return None;
        }
        let pid = self.pid()?;
        self.state = SlotState::Killed { pid, reason };
        Some(pid)
    }

    /// The process was reaped. Returns what that means, or `None` when there was no process. `had_request` says whether
    /// it was given a request.
    pub fn exited(
        &mut self,
        had_request: bool,
        now: Instant,
        jitter: &mut Jitter,
    ) -> Option<Ending> {
        let mut has_served = had_request;
        let unasked = self.unasked.take();
        let ending = match self.state {
            SlotState::Empty | SlotState::Backoff { .. } | SlotState::Spawning => return None,
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
            // A worker hangs in a request that it was given, beyond its timeout: it has served.
            Ending::Hung => self.follow_death(true, now, jitter),
            Ending::Asked => self.state = SlotState::Empty,
        }
        Some(ending)
    }

    /// The worker was not asked to exit: decides when the next one is spawned.
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
