//! One worker's place: what lives there, how its lives follow each other, and how fast.
//!
//! Owns the life of a slot and its backoff. Knows no process, no clock and no other slot: `now` comes
//! in, states go out; [`crate::supervisor`] decides what is wanted and asks for the transitions.
//! It is cut this way because everything that must hold for one slot (never two processes, never more
//! than [`SPAWNS_A_MINUTE`] spawns a minute) is then visible in one file.
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
//! | Starting, Ready, Draining | [`drain`](WorkerSlot::drain) | Draining |
//! | Starting, Ready, Draining, Quitting | [`quit`](WorkerSlot::quit) | Quitting |
//! | Ready, Draining, Quitting | [`condemn`](WorkerSlot::condemn) | Condemned |
//! | Starting, Failing, Ready, Draining, Quitting, Condemned | [`kill`](WorkerSlot::kill) | Killed |
//! | Starting, Failing, Ready, Condemned, Killed while booting or for hanging | [`exited`](WorkerSlot::exited) | Backoff |
//! | Draining, Quitting, Killed while leaving | [`exited`](WorkerSlot::exited) | Empty |
//!
//! Whatever is not in the table changes nothing. While one worker replaces another, a second
//! [`WorkerSlot`] stands in for the slot ([`understudy`](WorkerSlot::understudy)), and the two
//! [`change_places`](WorkerSlot::change_places) when the new one is ready.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arctos_worker::identity::{Generation, SlotId};
use arctos_worker::metrics::Side;

/// Most spawns of one slot in any minute, whatever its workers do.
pub const SPAWNS_A_MINUTE: usize = 8;
const MINUTE: Duration = Duration::from_secs(60);
/// A worker that was ready for so long has shown that it can work: its failures are forgotten.
const HEALTH: Duration = Duration::from_secs(60);
/// Wait after the first, second, .. failure in a row, before jitter; the last one from then on.
const DELAYS_MS: [u64; 8] = [0, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000];

/// A process, as the kernel numbers it. Not nix's type, which can be asked for the caller's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

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
pub enum Lapse {
    /// A worker that should have been ready by now.
    Boot,
    /// The same, after its moment to tell where it is.
    Late,
    /// A worker that said it cannot boot and should have gone by now.
    Failing,
    /// A draining worker: the time for the quick stop has come.
    Drain,
    /// A quitting worker: it is killed.
    Quit,
    /// A worker that hangs, and has had its moment to tell where.
    Hung,
}

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Nobody, and nobody is wanted.
    Empty,
    /// Nobody until then.
    Backoff {
        /// When the next one is spawned.
        until: Instant,
    },
    /// A process was asked for; whether fork(2) made one is not known yet.
    Spawning,
    /// A process that loads the application.
    Starting {
        /// Its process.
        pid: Pid,
        /// When it must be ready.
        deadline: Instant,
        /// Whether that was put off once, so that it can tell where it is.
        is_late: bool,
    },
    /// A process that said it cannot boot and is about to end.
    Failing {
        /// Its process.
        pid: Pid,
        /// When it is killed if it is still there.
        kill_at: Instant,
    },
    /// A worker that serves.
    Ready {
        /// Its process.
        pid: Pid,
        /// Since when.
        since: Instant,
    },
    /// A worker that was told to finish what it took and leave.
    Draining {
        /// Its process.
        pid: Pid,
        /// When it is told to leave after the running request.
        quick_at: Instant,
        /// When it is killed.
        kill_at: Instant,
    },
    /// A worker that was told to leave after the running request.
    Quitting {
        /// Its process.
        pid: Pid,
        /// When it is killed.
        kill_at: Instant,
    },
    /// A worker that hangs: it was asked where, and is about to be killed.
    Condemned {
        /// Its process.
        pid: Pid,
        /// When it is killed.
        kill_at: Instant,
    },
    /// A process that SIGKILL was sent to; its end was not seen yet.
    Killed {
        /// Its process.
        pid: Pid,
        /// Why.
        reason: KillReason,
    },
}

/// The random part of waiting, so that slots that fail together do not return together.
///
/// splitmix64: a seed in, the same numbers out, so that a simulation can be replayed.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A sequence for this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number of the sequence.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `wait`, up to a tenth shorter or longer.
    pub fn spread(&mut self, wait: Duration) -> Duration {
        let thousandths = 900 + self.draw() % 201;
        wait * thousandths as u32 / 1000
    }
}

/// How long a slot stays vacant after a failure, and how often it may spawn at all.
#[derive(Clone, Debug, Default)]
struct Backoff {
    /// Failures since the last healthy worker.
    failures_count: usize,
    /// The last [`SPAWNS_A_MINUTE`] spawns, oldest first.
    spawns: VecDeque<Instant>,
}

impl Backoff {
    fn spawned(&mut self, now: Instant) {
        if self.spawns.len() == SPAWNS_A_MINUTE {
            self.spawns.pop_front();
        }
        self.spawns.push_back(now);
    }

    /// Counts a failure; returns when to try again.
    fn failed(&mut self, now: Instant, jitter: &mut Jitter) -> Instant {
        let step = self.failures_count.min(DELAYS_MS.len() - 1);
        self.failures_count += 1;
        self.earliest(now + jitter.spread(Duration::from_millis(DELAYS_MS[step])))
    }

    /// `wanted`, or later if the spawns of the last minute are used up.
    fn earliest(&self, wanted: Instant) -> Instant {
        match self.spawns.front() {
            Some(oldest) if self.spawns.len() == SPAWNS_A_MINUTE => wanted.max(*oldest + MINUTE),
            Some(_) | None => wanted,
        }
    }
}

/// A place for one worker; see the module for its life.
#[derive(Clone, Debug)]
pub struct WorkerSlot {
    id: SlotId,
    state: SlotState,
    /// The block of the present process, or of the last one.
    side: Side,
    /// Of the present process, or of the last one.
    generation: Generation,
    backoff: Backoff,
}

impl WorkerSlot {
    /// An empty slot.
    pub fn new(id: SlotId) -> Self {
        let generation = Generation(0);
        Self { id, state: SlotState::Empty, side: Side::B, generation, backoff: Backoff::default() }
    }

    /// A stand-in beside the process that is here: it is spawned at once, in the other block. Neither
    /// the limit of spawns nor the backoff applies to it: it is an operator's wish, not a failure's echo.
    pub fn understudy(&self) -> Self {
        Self { side: self.side, ..Self::new(self.id) }
    }

    /// Its understudy's process serves here from now on, and the understudy has what was here.
    pub fn change_places(&mut self, understudy: &mut Self) {
        std::mem::swap(&mut self.state, &mut understudy.state);
        std::mem::swap(&mut self.side, &mut understudy.side);
        std::mem::swap(&mut self.generation, &mut understudy.generation);
    }

    /// The understudy could not boot: when to try the next one.
    pub fn understudy_failed(&mut self, now: Instant, jitter: &mut Jitter) -> Instant {
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

    /// The block of the present process, or of the last one.
    ///
    /// Each spawn takes the side that the one before did not use. A block is therefore written anew
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
            | SlotState::Failing { pid, .. }
            | SlotState::Ready { pid, .. }
            | SlotState::Draining { pid, .. }
            | SlotState::Quitting { pid, .. }
            | SlotState::Condemned { pid, .. }
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

    /// Whether it has a worker, ready or on the way to it, that nobody has told to leave.
    pub fn is_staffed(&self) -> bool {
        matches!(self.state, SlotState::Starting { .. } | SlotState::Ready { .. })
    }

    /// When something must happen here at the latest.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            SlotState::Empty
            | SlotState::Spawning
            | SlotState::Ready { .. }
            | SlotState::Killed { .. } => None,
            SlotState::Backoff { until } => Some(until),
            SlotState::Starting { deadline, .. } => Some(deadline),
            SlotState::Draining { quick_at, kill_at, .. } => Some(quick_at.min(kill_at)),
            SlotState::Failing { kill_at, .. }
            | SlotState::Quitting { kill_at, .. }
            | SlotState::Condemned { kill_at, .. } => Some(kill_at),
        }
    }

    /// Whose time is up.
    pub fn lapse(&self, now: Instant) -> Option<Lapse> {
        match self.state {
            SlotState::Starting { deadline, is_late, .. } if deadline <= now => {
                Some(if is_late { Lapse::Late } else { Lapse::Boot })
            }
            SlotState::Failing { kill_at, .. } if kill_at <= now => Some(Lapse::Failing),
            SlotState::Draining { quick_at, kill_at, .. } if quick_at.min(kill_at) <= now => {
                Some(Lapse::Drain)
            }
            SlotState::Quitting { kill_at, .. } if kill_at <= now => Some(Lapse::Quit),
            SlotState::Condemned { kill_at, .. } if kill_at <= now => Some(Lapse::Hung),
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Starting { .. }
            | SlotState::Failing { .. }
            | SlotState::Ready { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. }
            | SlotState::Condemned { .. }
            | SlotState::Killed { .. } => None,
        }
    }

    /// A worker is wanted here, as soon as the limit of spawns allows.
    pub fn fill(&mut self, now: Instant) {
        if self.state == SlotState::Empty {
            self.state = SlotState::Backoff { until: self.backoff.earliest(now) };
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
                self.backoff.spawned(now);
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
            | SlotState::Failing { .. }
            | SlotState::Ready { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. }
            | SlotState::Condemned { .. }
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

    /// The worker says it can serve. Whether that is news.
    pub fn ready(&mut self, now: Instant) -> bool {
        if let SlotState::Starting { pid, .. } = self.state {
            self.state = SlotState::Ready { pid, since: now };
            return true;
        }
        false
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

    /// The worker is told to finish what it took; an earlier time given before stays. Whether that is
    /// news to it.
    pub fn drain(&mut self, quick_at: Instant, kill_at: Instant) -> bool {
        match self.state {
            SlotState::Starting { pid, .. } | SlotState::Ready { pid, .. } => {
                self.state = SlotState::Draining { pid, quick_at, kill_at };
                true
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
            SlotState::Condemned { pid, kill_at: kill } => {
                self.state = SlotState::Condemned { pid, kill_at: kill.min(kill_at) };
                false
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
            SlotState::Draining { pid, kill_at: kill, .. } => {
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
            SlotState::Condemned { pid, kill_at: kill } => {
                self.state = SlotState::Condemned { pid, kill_at: kill.min(kill_at) };
                false
            }
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Killed { .. } => false,
        }
    }

    /// The worker hangs: it is asked where, and has until `kill_at` to be killed. Its process, if that
    /// is news.
    pub fn condemn(&mut self, kill_at: Instant) -> Option<Pid> {
        match self.state {
            SlotState::Ready { pid, .. } => {
                self.state = SlotState::Condemned { pid, kill_at };
                Some(pid)
            }
            SlotState::Draining { pid, kill_at: kill, .. }
            | SlotState::Quitting { pid, kill_at: kill } => {
                self.state = SlotState::Condemned { pid, kill_at: kill.min(kill_at) };
                Some(pid)
            }
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Starting { .. }
            | SlotState::Failing { .. }
            | SlotState::Condemned { .. }
            | SlotState::Killed { .. } => None,
        }
    }

    /// SIGKILL is sent; the process to send it to, unless it was sent before.
    pub fn kill(&mut self, reason: KillReason) -> Option<Pid> {
        match self.state {
            SlotState::Starting { pid, .. }
            | SlotState::Failing { pid, .. }
            | SlotState::Ready { pid, .. }
            | SlotState::Draining { pid, .. }
            | SlotState::Quitting { pid, .. }
            | SlotState::Condemned { pid, .. } => {
                self.state = SlotState::Killed { pid, reason };
                Some(pid)
            }
            SlotState::Empty
            | SlotState::Backoff { .. }
            | SlotState::Spawning
            | SlotState::Killed { .. } => None,
        }
    }

    /// The process was reaped; what that means. `None` when there was none.
    pub fn exited(&mut self, now: Instant, jitter: &mut Jitter) -> Option<Ending> {
        let ending = match self.state {
            SlotState::Empty | SlotState::Backoff { .. } | SlotState::Spawning => return None,
            SlotState::Starting { .. } | SlotState::Failing { .. } => Ending::BootFailed,
            SlotState::Ready { since, .. } => {
                if now.saturating_duration_since(since) >= HEALTH {
                    self.backoff.failures_count = 0;
                }
                Ending::Died
            }
            SlotState::Condemned { .. } => Ending::Hung,
            SlotState::Draining { .. } | SlotState::Quitting { .. } => Ending::Asked,
            SlotState::Killed { reason, .. } => match reason {
                KillReason::BootTimeout | KillReason::BootFailed => Ending::BootFailed,
                KillReason::Hung => Ending::Hung,
                KillReason::Overdue => Ending::Asked,
            },
        };
        self.state = match ending {
            Ending::BootFailed | Ending::Died | Ending::Hung => {
                SlotState::Backoff { until: self.backoff.failed(now, jitter) }
            }
            Ending::Asked => SlotState::Empty,
        };
        Some(ending)
    }
}

#[cfg(test)]
mod tests;
