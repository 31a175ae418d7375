//! One worker's place: what lives there, how its lives follow each other, and how fast.
//!
//! Owns the life of a slot and its backoff. Knows no process, no clock and no other slot: `now` comes
//! in, states go out; [`crate::supervisor`] decides what is wanted and asks for the transitions.
//! It is cut this way because everything that must hold for one slot (never two processes, no wait after
//! a worker that served) is then visible in one file.
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
//! | Recalled, Draining, Quitting, Killed while leaving | [`exited`](WorkerSlot::exited) | Empty |
//!
//! Whatever is not in the table changes nothing. While one worker replaces another, a second
//! [`WorkerSlot`] stands in for the slot ([`replacement`](WorkerSlot::replacement)), and the two
//! [`change_places`](WorkerSlot::change_places) when the new one is ready.

mod backoff;
mod exiting;
mod hung;
mod state;

use std::time::{Duration, Instant};

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::Side;

use crate::system::pid::Pid;

use backoff::Backoff;
pub use backoff::Jitter;
use exiting::Unasked;
pub use hung::BeforeHang;
pub use state::SlotState;

/// A worker that was ready for this long has served, whether or not a request came.
pub const SERVED_AFTER: Duration = Duration::from_secs(1);

/// How a process ended, as wait(2) tells it.
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
    /// It did not become ready in time.
    BootTimeout,
    /// It said that it cannot boot, and stayed.
    BootFailed,
    /// It was told to leave, and its time is up.
    Overdue,
    /// It hung: in a request, or its loop did not turn.
    Hung,
}

/// What the end of a worker means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It never became ready, and nobody had asked it to leave.
    BootFailed,
    /// It was ready, and nobody had asked it to leave.
    Died,
    /// It hung, and was killed for it.
    Hung,
    /// It was asked to leave.
    Asked,
}

/// Whose time is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// A worker that should have been ready by now.
    Boot,
    /// The same, after its moment to tell where it is.
    Late,
    /// A worker that said it cannot boot and should have gone by now.
    Failing,
    /// A draining worker: the time for the quick stop has come.
    Drain,
    /// A quitting worker, or one that was told to leave before it was ready: it is killed.
    Quit,
    /// A worker that hangs, and has had its moment to tell where.
    Hung,
}

/// A place for one worker; see the module for its details.
#[derive(Clone, Debug)]
pub struct WorkerSlot {
    id: SlotId,
    state: SlotState,
    /// The entry of the present process, or of the last one.
    side: Side,
    /// Of the present process, or of the last one.
    generation: Generation,
    backoff: Backoff,
    /// Whether a worker of this slot has ever served and died, or served for long.
    was_served: bool,
    /// Of a worker that leaves by itself.
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

    /// A stand-in beside the process that is here: it is spawned at once, in the other entry. The backoff
    /// does not apply to it: it is an operator's wish, not a failure's echo.
    pub fn replacement(&self) -> Self {
        Self { side: self.side, ..Self::new(self.id) }
    }

    /// Its replacement's process serves here from now on, and the replacement has what was here.
    pub fn change_places(&mut self, replacement: &mut Self) {
        std::mem::swap(&mut self.state, &mut replacement.state);
        std::mem::swap(&mut self.side, &mut replacement.side);
        std::mem::swap(&mut self.generation, &mut replacement.generation);
        std::mem::swap(&mut self.unasked, &mut replacement.unasked);
    }

    /// The replacement could not boot: when to try the next one.
    pub fn replacement_failed(&mut self, now: Instant, jitter: &mut Jitter) -> Instant {
        self.backoff.failed(now, jitter)
    }

    /// Its index.
    pub fn id(&self) -> SlotId {
        self.id
    }

    /// What is in it.
    pub fn state(&self) -> SlotState {
        self.state
    }

    /// The entry of the present process, or of the last one.
    ///
    /// Each spawn takes the side that the one before did not use. A entry is therefore written anew
    /// only at the second spawn after its last occupant was reaped: what a dead worker left (its
    /// request line, its last counts) can be read while its successor boots, and a process that the
    /// dead one had forked cannot scribble over its successor.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The generation of the present process, or of the last one; 0 before the first.
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

    /// Whether nobody is there, and nobody is wanted.
    pub fn is_unused(&self) -> bool {
        self.state == SlotState::Empty
    }

    /// Whether its worker serves and is meant to go on.
    pub fn is_ready(&self) -> bool {
        matches!(self.state, SlotState::Ready { .. })
    }

    /// Whether a worker of this slot has ever served.
    pub fn was_served(&self) -> bool {
        self.was_served
    }

    /// Whether it has a worker, ready or on the way to it, or hanging, that nobody has told to leave.
    pub fn is_staffed(&self) -> bool {
        match self.state {
            SlotState::Starting { .. } | SlotState::Ready { .. } => true,
            SlotState::Hung { before, .. } => matches!(before, BeforeHang::Ready { .. }),
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Recalled { .. }
            | SlotState::Failing { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. }
            | SlotState::Killed { .. } => false,
        }
    }

    /// When something must happen here at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            SlotState::Empty
            | SlotState::Spawning
            | SlotState::Ready { has_served: true, .. }
            | SlotState::Killed { .. } => None,
            SlotState::Ready { since, has_served: false, .. } => Some(since + SERVED_AFTER),
            SlotState::Backoff { until } => Some(until),
            SlotState::Starting { deadline, .. } => Some(deadline),
            SlotState::Draining { quick_at, kill_at, .. } => Some(quick_at.min(kill_at)),
            SlotState::Recalled { kill_at, .. }
            | SlotState::Failing { kill_at, .. }
            | SlotState::Quitting { kill_at, .. }
            | SlotState::Hung { kill_at, .. } => Some(kill_at),
        }
    }

    /// Whose time is up.
    pub fn expired(&self, now: Instant) -> Option<Expired> {
        match self.state {
            SlotState::Starting { deadline, is_late, .. } if deadline <= now => {
                Some(if is_late { Expired::Late } else { Expired::Boot })
            }
            SlotState::Failing { kill_at, .. } if kill_at <= now => Some(Expired::Failing),
            SlotState::Draining { quick_at, kill_at, .. } if quick_at.min(kill_at) <= now => {
                Some(Expired::Drain)
            }
            SlotState::Recalled { kill_at, .. } | SlotState::Quitting { kill_at, .. }
                if kill_at <= now =>
            {
                Some(Expired::Quit)
            }
            SlotState::Hung { kill_at, .. } if kill_at <= now => Some(Expired::Hung),
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Starting { .. }
            | SlotState::Recalled { .. }
            | SlotState::Failing { .. }
            | SlotState::Ready { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. }
            | SlotState::Hung { .. }
            | SlotState::Killed { .. } => None,
        }
    }

    /// A worker is wanted here, now.
    pub fn fill(&mut self, now: Instant) {
        if self.state == SlotState::Empty {
            self.state = SlotState::Backoff { until: now };
        }
    }

    /// The next worker comes at this time, unless it comes earlier.
    pub fn hasten(&mut self, at: Instant) {
        if let SlotState::Backoff { until } = &mut self.state {
            *until = at.min(*until);
        }
    }

    /// Whatever failed before is forgotten: the next worker comes now.
    pub fn forget_failures(&mut self, now: Instant) {
        self.backoff.forget();
        self.hasten(now);
    }

    /// Whether the worker has been ready for [`SERVED_AFTER`]; true once in its details.
    pub fn has_served(&mut self, now: Instant) -> bool {
        match &mut self.state {
            SlotState::Ready { since, has_served, .. } => {
                let is_due = *since + SERVED_AFTER <= now;
                self.was_served |= is_due;
                is_due && !std::mem::replace(has_served, true)
            }
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Starting { .. }
            | SlotState::Recalled { .. }
            | SlotState::Failing { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. }
            | SlotState::Hung { .. }
            | SlotState::Killed { .. } => false,
        }
    }

    /// No worker is wanted here any more; a living one is told by [`WorkerSlot::drain`].
    pub fn retire(&mut self) {
        if matches!(self.state, SlotState::Backoff { .. }) {
            self.state = SlotState::Empty;
        }
    }

    /// Starts a spawn if its time has come; the side it takes: the other one, unless a second process
    /// of this slot lives there.
    pub fn spawn_when_due(
        &mut self,
        generation: Generation,
        taken: Option<Side>,
        now: Instant,
    ) -> Option<Side> {
        match self.state {
            SlotState::Backoff { until } if until <= now => {
                if taken != Some(self.side.other()) {
                    self.side = self.side.other();
                }
                self.generation = generation;
                self.state = SlotState::Spawning;
                Some(self.side)
            }
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Starting { .. }
            | SlotState::Recalled { .. }
            | SlotState::Failing { .. }
            | SlotState::Ready { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. }
            | SlotState::Hung { .. }
            | SlotState::Killed { .. } => None,
        }
    }

    /// The spawn was taken back before anybody saw it.
    pub fn withdraw(&mut self) {
        if self.state == SlotState::Spawning {
            self.state = SlotState::Empty;
        }
    }

    /// The spawn made a process. Whether it was expected.
    pub fn started(&mut self, pid: Pid, deadline: Instant) -> bool {
        let expected = self.state == SlotState::Spawning;
        if expected {
            self.state = SlotState::Starting { pid, deadline, is_late: false };
        }
        expected
    }

    /// The spawn made nothing: a failure like any other. Whether it was expected.
    pub fn spawn_failed(&mut self, now: Instant, jitter: &mut Jitter) -> bool {
        let expected = self.state == SlotState::Spawning;
        if expected {
            self.state = SlotState::Backoff { until: self.backoff.failed(now, jitter) };
        }
        expected
    }

    /// The worker says it can serve. Whether it is to go on.
    pub fn ready(&mut self, now: Instant) -> bool {
        match self.state {
            SlotState::Starting { pid, .. } => {
                self.state = SlotState::Ready { pid, since: now, has_served: false };
                true
            }
            SlotState::Recalled { pid, ready_quick_at, ready_kill_at, .. } => {
                self.state =
                    SlotState::Draining { pid, quick_at: ready_quick_at, kill_at: ready_kill_at };
                false
            }
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Failing { .. }
            | SlotState::Ready { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. }
            | SlotState::Hung { .. }
            | SlotState::Killed { .. } => false,
        }
    }

    /// The worker is asked where it is, and has until `kill_at` to be ready all the same. Its process, if
    /// that is news.
    pub fn late(&mut self, kill_at: Instant) -> Option<Pid> {
        let SlotState::Starting { pid, is_late: false, .. } = self.state else { return None };
        self.state = SlotState::Starting { pid, deadline: kill_at, is_late: true };
        Some(pid)
    }

    /// The worker says it cannot boot; it has until `kill_at` to end by itself.
    pub fn failing(&mut self, kill_at: Instant) {
        if let SlotState::Starting { pid, .. } = self.state {
            self.state = SlotState::Failing { pid, kill_at };
        }
    }

    /// The worker is told to finish what it took; an earlier time given before stays. One that does not
    /// serve yet has until `soon`. Whether that is news to it.
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

    /// The worker is told to leave after the running request; an earlier time given before stays.
    /// Whether that is news to it.
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

    /// SIGKILL is sent; the process to send it to, unless it was sent before.
    pub fn kill(&mut self, reason: KillReason) -> Option<Pid> {
        match self.state {
            SlotState::Starting { pid, .. }
            | SlotState::Recalled { pid, .. }
            | SlotState::Failing { pid, .. }
            | SlotState::Ready { pid, .. }
            | SlotState::Draining { pid, .. }
            | SlotState::Quitting { pid, .. }
            | SlotState::Hung { pid, .. } => {
                self.state = SlotState::Killed { pid, reason };
                Some(pid)
            }
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Killed { .. } => None,
        }
    }

    /// The process was reaped; what that means. `had_request` is whether it was given a request.
    /// `None` when there was no process.
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
            // A worker hangs in a request that it was given, after its time-out: it has served.
            Ending::Hung => self.follow_death(true, now, jitter),
            Ending::Asked => self.state = SlotState::Empty,
        }
        Some(ending)
    }

    /// Nobody had asked its worker to leave: when the next one comes.
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
