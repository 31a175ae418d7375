//! The supervisor as a pure machine: events come in, actions go out.
//!
//! Owns which workers there should be, when the server counts as ready, how it stops and what exit
//! code it ends with. Does no I/O, reads no clock, starts nothing: [`crate::monitor`] is the shell
//! that feeds it and carries its actions out. So every order of deaths, signals and delays can be
//! played through in a test. The life of one slot is [`crate::slot`]'s.
//!
//! | phase | event | actions | next |
//! |---|---|---|---|
//! | Piloting | start | spawn the first two | Piloting |
//! | Piloting | one is ready | spawn the rest | Filling |
//! | Filling | all are ready at the same time | report ready | Serving |
//! | Piloting, Filling | a worker cannot boot, or fork fails | report, stop quickly | Leaving (3 or 4) |
//! | Serving | a worker ends | spawn after its backoff | Serving |
//! | Serving | nobody ready for [`CRASH_LOOP`] | stop quickly | Leaving (5) |
//! | Serving | TERM, with a drain delay | announce to all | Announcing |
//! | Serving | TERM without one; QUIT | close the door, drain all | Leaving (0) |
//! | Piloting, Filling | TERM, QUIT | close the door, drain all | Leaving (0) |
//! | Announcing | the delay is over, TERM, QUIT, or nobody is left | close the door, drain all | Leaving (0) |
//! | Piloting .. Announcing | INT | close the door, quit all | Leaving (0) |
//! | Leaving, gracefully | INT | quit all | Leaving, quickly |
//! | Leaving, quickly | INT | kill all | Leaving, quickly |
//! | Leaving | the last process is gone | finish | Finished |
//!
//! In Announcing, Leaving and Finished nothing is spawned. Deadlines that cost a worker its life are
//! judged on [`Event::Tick`] alone, so the shell can leave a round out after it was suspended itself.
//!
//! Processes are addressed by pid, never by slot: a late event finds nobody, and a slot can come to
//! hold two processes (one that drains, one that replaces it) without a change of these types.

mod action;
mod event;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use arctos_worker::identity::{Generation, SlotId};
use arctos_worker::metrics::Command;

use crate::notice::Notice;
use crate::slot::{Ending, ExitStatus, Jitter, KillReason, Lapse, Pid, SlotState, WorkerSlot};
pub use action::{Action, Verdict};
pub use event::{Event, Wish};

/// Without a ready worker for so long (or for the boot timeout, if that is longer) the server gives up.
pub const CRASH_LOOP: Duration = Duration::from_secs(60);
/// Workers that boot before all others, so that a broken application prints one traceback, not N.
const PILOTS: u16 = 2;
/// How long a worker that said it cannot boot may take to end: an application that left a thread
/// running at its failed import would hold it for ever.
const FAILING_PATIENCE: Duration = Duration::from_millis(500);
/// How long workers may take to leave when the server gives up. With [`FAILING_PATIENCE`] below 2 s.
const GIVING_UP_PATIENCE: Duration = Duration::from_secs(1);

/// What the machine is told to do and to allow.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Workers at start.
    pub workers: u16,
    /// Most workers there is room for.
    pub ceiling: u16,
    /// From fork to ready.
    pub boot: Duration,
    /// The whole of a graceful stop.
    pub graceful: Duration,
    /// A quick stop.
    pub quick: Duration,
    /// On TERM: how long to go on accepting before the door closes.
    pub drain_delay: Duration,
}

/// The two times by which a stop is paced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Budget {
    quick_at: Instant,
    kill_at: Instant,
}

impl Budget {
    /// A graceful stop that begins now. The last fiftieth is kept for reaping, so that the supervisor
    /// too is gone when the whole is used up: what waits for it kills at that moment.
    fn graceful(policy: &Policy, now: Instant) -> Self {
        let kill_after = policy.graceful * 49 / 50;
        let quick_after = kill_after - policy.quick.min(kill_after / 4);
        Self { quick_at: now + quick_after, kill_at: now + kill_after }
    }

    /// A stop that asks nobody to finish more than the running request.
    fn quick(now: Instant, patience: Duration) -> Self {
        Self { quick_at: now, kill_at: now + patience }
    }
}

/// How a stop is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Graceful,
    Quick,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The first two boot; none was ready yet.
    Piloting,
    /// The rest boot; there was no full set yet.
    Filling,
    /// There was a full set.
    Serving { unready_since: Option<Instant> },
    /// The stop has begun, the door is open.
    Announcing { until: Instant, budget: Budget },
    /// The door is closed.
    Leaving { pace: Pace, budget: Budget, verdict: Verdict },
    /// [`Action::Finish`] was given.
    Finished,
}

/// See the module.
pub struct Supervisor {
    policy: Policy,
    phase: Phase,
    generation: Generation,
    /// Slots below this index are to have a worker.
    target: u16,
    /// At least `target`; a slot once made stays, and with it the memory of its last spawns.
    slots: Vec<WorkerSlot>,
    jitter: Jitter,
    actions: VecDeque<Action>,
}

impl Supervisor {
    /// A server that starts now. `seed` decides the jitter of backoffs.
    pub fn start(policy: Policy, seed: u64, now: Instant) -> Self {
        let target = policy.workers.min(policy.ceiling).max(1);
        let mut supervisor = Self {
            phase: Phase::Piloting,
            generation: Generation(1),
            target,
            slots: (0..target).map(|index| WorkerSlot::new(SlotId(index))).collect(),
            jitter: Jitter::new(seed),
            actions: VecDeque::new(),
            policy,
        };
        supervisor.settle(now);
        supervisor
    }

    /// The next thing to do; `None` until another event.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Event::Tick`] is due at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        let of_phase = match self.phase {
            Phase::Piloting | Phase::Filling | Phase::Leaving { .. } | Phase::Finished => None,
            Phase::Serving { unready_since } => {
                unready_since.map(|since| since + self.crash_loop())
            }
            Phase::Announcing { until, .. } => Some(until),
        };
        self.slots.iter().filter_map(WorkerSlot::deadline).chain(of_phase).min()
    }

    /// Workers that are wanted, for whoever shows it.
    pub fn target(&self) -> u16 {
        self.target
    }

    /// The slots, for whoever shows them.
    pub fn slots(&self) -> &[WorkerSlot] {
        &self.slots
    }

    /// Takes one event in; what follows from it is in [`Supervisor::next_action`].
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Started { slot, pid } => self.started(slot, pid, now),
            Event::SpawnFailed { slot } => self.spawn_failed(slot, now),
            Event::Ready { pid } => self.ready(pid, now),
            Event::Failing { pid } => {
                if let Some(slot) = self.slot_of(pid) {
                    slot.failing(now + FAILING_PATIENCE);
                }
            }
            Event::Exited { pid, status, report } => self.exited(pid, status, report, now),
            Event::Wish(wish) => match wish {
                Wish::Terminate => self.terminate(now),
                Wish::Quit => self.stop_gracefully(now),
                Wish::Interrupt => self.interrupt(now),
                Wish::More => self.more(),
                Wish::Fewer => self.fewer(now),
            },
            Event::Tick => self.judge(now),
        }
        self.settle(now);
    }

    fn crash_loop(&self) -> Duration {
        CRASH_LOOP.max(self.policy.boot)
    }

    fn slot_of(&mut self, pid: Pid) -> Option<&mut WorkerSlot> {
        self.slots.iter_mut().find(|slot| slot.pid() == Some(pid))
    }

    fn tell(&mut self, notice: Notice) {
        self.actions.push_back(Action::Tell(notice));
    }

    /// Whether there should be a worker in the slot of this index, now.
    fn wants(&self, index: u16) -> bool {
        match self.phase {
            Phase::Piloting => index < self.target.min(PILOTS),
            Phase::Filling | Phase::Serving { .. } => index < self.target,
            Phase::Announcing { .. } | Phase::Leaving { .. } | Phase::Finished => false,
        }
    }

    fn started(&mut self, id: SlotId, pid: Pid, now: Instant) {
        let deadline = now + self.policy.boot;
        let Some(slot) = self.slots.get_mut(usize::from(id.0)) else { return };
        if !slot.started(pid, deadline) {
            return;
        }
        self.tell(Notice::Started { slot: id, pid, generation: self.generation });
        match self.phase {
            Phase::Piloting | Phase::Filling | Phase::Serving { .. } if self.wants(id.0) => {}
            Phase::Piloting | Phase::Filling | Phase::Serving { .. } => {
                let budget = Budget::graceful(&self.policy, now);
                self.dismiss(usize::from(id.0), Pace::Graceful, budget, now);
            }
            Phase::Announcing { .. } => {
                self.actions.push_back(Action::Command { pid, command: Command::Announce });
            }
            Phase::Leaving { pace, budget, .. } => {
                self.dismiss(usize::from(id.0), pace, budget, now);
            }
            Phase::Finished => {}
        }
    }

    fn spawn_failed(&mut self, id: SlotId, now: Instant) {
        let Some(slot) = self.slots.get_mut(usize::from(id.0)) else { return };
        if slot.spawn_failed(now, &mut self.jitter) {
            self.boot_failed(Verdict::NotBooted, now);
        }
    }

    fn ready(&mut self, pid: Pid, now: Instant) {
        let Some(slot) = self.slot_of(pid) else { return };
        if slot.ready(now) {
            let id = slot.id();
            self.tell(Notice::Ready { slot: id, pid, generation: self.generation });
        }
    }

    fn exited(&mut self, pid: Pid, status: ExitStatus, report: Option<String>, now: Instant) {
        let Some(index) = self.slots.iter().position(|slot| slot.pid() == Some(pid)) else {
            return; // An adopted orphan: reaped, and nothing to us, whatever its status.
        };
        let slot = &mut self.slots[index];
        let (id, side) = (slot.id(), slot.side());
        let Some(ending) = slot.exited(now, &mut self.jitter) else { return };
        let generation = self.generation;
        self.tell(Notice::Ended { slot: id, side, pid, generation, status, ending });
        if ending != Ending::BootFailed {
            return;
        }
        match (self.phase, report) {
            (Phase::Leaving { .. } | Phase::Finished, _) | (_, None) => {}
            (_, Some(report)) => {
                self.tell(Notice::BootReport { slot: id, pid, generation, report })
            }
        }
        self.boot_failed(
            match status {
                ExitStatus::Code(4) => Verdict::NotImportable,
                ExitStatus::Code(_) | ExitStatus::Signal(_) => Verdict::NotBooted,
            },
            now,
        );
    }

    /// A worker could not boot: before the first full set that ends the server, later it does not.
    fn boot_failed(&mut self, verdict: Verdict, now: Instant) {
        match self.phase {
            Phase::Piloting | Phase::Filling => self.give_up(verdict, now),
            Phase::Serving { .. }
            | Phase::Announcing { .. }
            | Phase::Leaving { .. }
            | Phase::Finished => {}
        }
    }

    fn give_up(&mut self, verdict: Verdict, now: Instant) {
        let budget = Budget::quick(now, GIVING_UP_PATIENCE);
        self.begin_stop(budget);
        self.leave(Pace::Quick, budget, verdict, now);
    }

    fn terminate(&mut self, now: Instant) {
        match self.phase {
            Phase::Serving { .. } if !self.policy.drain_delay.is_zero() => {
                let budget = Budget::graceful(&self.policy, now);
                self.begin_stop(budget);
                let staffed = self.slots.iter().filter(|slot| slot.is_staffed());
                for pid in staffed.filter_map(WorkerSlot::pid) {
                    self.actions.push_back(Action::Command { pid, command: Command::Announce });
                }
                let until = (now + self.policy.drain_delay).min(budget.quick_at);
                self.phase = Phase::Announcing { until, budget };
            }
            Phase::Piloting
            | Phase::Filling
            | Phase::Serving { .. }
            | Phase::Announcing { .. }
            | Phase::Leaving { .. }
            | Phase::Finished => self.stop_gracefully(now),
        }
    }

    fn stop_gracefully(&mut self, now: Instant) {
        match self.phase {
            Phase::Piloting | Phase::Filling | Phase::Serving { .. } => {
                let budget = Budget::graceful(&self.policy, now);
                self.begin_stop(budget);
                self.leave(Pace::Graceful, budget, Verdict::Asked, now);
            }
            Phase::Announcing { budget, .. } => {
                self.leave(Pace::Graceful, budget, Verdict::Asked, now);
            }
            Phase::Leaving { .. } | Phase::Finished => {}
        }
    }

    fn interrupt(&mut self, now: Instant) {
        let budget = Budget::quick(now, self.policy.quick);
        match self.phase {
            Phase::Piloting | Phase::Filling | Phase::Serving { .. } => {
                self.begin_stop(budget);
                self.leave(Pace::Quick, budget, Verdict::Asked, now);
            }
            Phase::Announcing { .. } => self.leave(Pace::Quick, budget, Verdict::Asked, now),
            Phase::Leaving { pace: Pace::Graceful, budget: before, verdict } => {
                let kill_at = budget.kill_at.min(before.kill_at);
                let budget = Budget { quick_at: now, kill_at };
                self.phase = Phase::Leaving { pace: Pace::Quick, budget, verdict };
                self.dismiss_all(Pace::Quick, budget, now);
            }
            Phase::Leaving { pace: Pace::Quick, verdict, .. } => {
                let budget = Budget { quick_at: now, kill_at: now };
                self.phase = Phase::Leaving { pace: Pace::Quick, budget, verdict };
                for index in 0..self.slots.len() {
                    self.kill(index, KillReason::Overdue);
                }
            }
            Phase::Finished => {}
        }
    }

    /// Takes back what was not carried out yet, and says that the end has begun.
    fn begin_stop(&mut self, budget: Budget) {
        let slots = &mut self.slots;
        self.actions.retain(|action| match action {
            Action::Spawn { slot, .. } => {
                slots[usize::from(slot.0)].withdraw();
                false
            }
            Action::Command { .. }
            | Action::Kill { .. }
            | Action::ReportReady
            | Action::ReportStopping { .. }
            | Action::CloseDoor
            | Action::Retire { .. }
            | Action::DropListeners
            | Action::Tell(_)
            | Action::Finish(_) => true,
        });
        self.actions.push_back(Action::ReportStopping { deadline: budget.kill_at });
    }

    /// Closes the door and tells everybody. Order matters: no new connection may enter the queue
    /// before the workers empty it, and the queue lives as long as somebody holds the listener.
    fn leave(&mut self, pace: Pace, budget: Budget, verdict: Verdict, now: Instant) {
        self.phase = Phase::Leaving { pace, budget, verdict };
        self.actions.push_back(Action::CloseDoor);
        self.dismiss_all(pace, budget, now);
        self.actions.push_back(Action::DropListeners);
    }

    fn dismiss_all(&mut self, pace: Pace, budget: Budget, now: Instant) {
        for index in 0..self.slots.len() {
            self.dismiss(index, pace, budget, now);
        }
    }

    /// Tells the worker of a slot to leave. One that is not ready yet serves nobody and may not hear
    /// us: it gets the patience of a quick stop.
    fn dismiss(&mut self, index: usize, pace: Pace, budget: Budget, now: Instant) {
        let soon = budget.kill_at.min(now + self.policy.quick);
        let slot = &mut self.slots[index];
        let Some(pid) = slot.pid() else { return };
        let (is_news, command) = match (pace, slot.state()) {
            (Pace::Graceful, SlotState::Starting { .. }) => {
                (slot.drain(soon, soon), Command::Drain)
            }
            (Pace::Graceful, _) => (slot.drain(budget.quick_at, budget.kill_at), Command::Drain),
            (Pace::Quick, _) => (slot.quit(budget.kill_at), Command::Quick),
        };
        if is_news {
            self.actions.push_back(Action::Command { pid, command });
        }
    }

    fn kill(&mut self, index: usize, reason: KillReason) {
        let slot = &mut self.slots[index];
        let (id, side) = (slot.id(), slot.side());
        let Some(pid) = slot.kill(reason) else { return };
        self.tell(Notice::Killed { slot: id, side, pid, generation: self.generation, reason });
        self.actions.push_back(Action::Kill { pid });
    }

    fn more(&mut self) {
        match self.phase {
            Phase::Piloting | Phase::Filling | Phase::Serving { .. } => {
                if self.target == self.policy.ceiling {
                    self.tell(Notice::AtCeiling { workers: self.target });
                    return;
                }
                if self.slots.len() == usize::from(self.target) {
                    self.slots.push(WorkerSlot::new(SlotId(self.target)));
                }
                self.target += 1;
                self.tell(Notice::Scaled { workers: self.target });
            }
            Phase::Announcing { .. } | Phase::Leaving { .. } | Phase::Finished => {}
        }
    }

    fn fewer(&mut self, now: Instant) {
        match self.phase {
            Phase::Piloting | Phase::Filling | Phase::Serving { .. } => {
                if self.target == 1 {
                    self.tell(Notice::AtFloor);
                    return;
                }
                self.target -= 1;
                self.tell(Notice::Scaled { workers: self.target });
                let budget = Budget::graceful(&self.policy, now);
                self.dismiss(usize::from(self.target), Pace::Graceful, budget, now);
                self.actions.push_back(Action::Retire { slot: SlotId(self.target) });
            }
            Phase::Announcing { .. } | Phase::Leaving { .. } | Phase::Finished => {}
        }
    }

    /// Whose time is up?
    fn judge(&mut self, now: Instant) {
        for index in 0..self.slots.len() {
            match self.slots[index].lapse(now) {
                Some(Lapse::Boot) => {
                    self.kill(index, KillReason::BootTimeout);
                    self.boot_failed(Verdict::NotBooted, now);
                }
                Some(Lapse::Failing) => self.kill(index, KillReason::BootFailed),
                Some(Lapse::Drain) => {
                    let slot = &mut self.slots[index];
                    let Some(pid) = slot.pid() else { continue };
                    slot.quit(now + self.policy.quick); // No later than the time it already has.
                    self.actions.push_back(Action::Command { pid, command: Command::Quick });
                }
                Some(Lapse::Quit) => self.kill(index, KillReason::Overdue),
                None => {}
            }
        }
        match self.phase {
            Phase::Serving { unready_since: Some(since) } if since + self.crash_loop() <= now => {
                self.tell(Notice::CrashLoop { unready: now.saturating_duration_since(since) });
                self.give_up(Verdict::CrashLoop, now);
            }
            Phase::Announcing { until, .. } if until <= now => self.stop_gracefully(now),
            Phase::Piloting
            | Phase::Filling
            | Phase::Serving { .. }
            | Phase::Announcing { .. }
            | Phase::Leaving { .. }
            | Phase::Finished => {}
        }
    }

    /// What follows from the states, whatever the event was.
    fn settle(&mut self, now: Instant) {
        self.advance_phase(now);
        for index in 0..self.slots.len() {
            let wanted = self.wants(self.slots[index].id().0);
            let slot = &mut self.slots[index];
            match wanted {
                true => slot.fill(now),
                false => slot.retire(),
            }
            if let Some(side) = slot.spawn_when_due(now) {
                let slot = slot.id();
                let generation = self.generation;
                self.actions.push_back(Action::Spawn { slot, side, generation });
            }
        }
        // A worker that the drain delay has outlived leaves nothing to announce to.
        if let Phase::Announcing { .. } = self.phase
            && self.slots.iter().all(WorkerSlot::is_vacant)
        {
            self.stop_gracefully(now);
        }
        if let Phase::Leaving { verdict, .. } = self.phase
            && self.slots.iter().all(WorkerSlot::is_vacant)
        {
            self.phase = Phase::Finished;
            self.actions.push_back(Action::Finish(verdict));
        }
    }

    fn advance_phase(&mut self, now: Instant) {
        if self.phase == Phase::Piloting && self.slots.iter().any(WorkerSlot::is_ready) {
            self.phase = Phase::Filling;
        }
        let wanted = &self.slots[..usize::from(self.target)];
        if self.phase == Phase::Filling && wanted.iter().all(WorkerSlot::is_ready) {
            self.phase = Phase::Serving { unready_since: None };
            self.actions.push_back(Action::ReportReady);
        }
        if let Phase::Serving { unready_since } = self.phase {
            let unready_since = match self.slots.iter().any(WorkerSlot::is_ready) {
                true => None,
                false => unready_since.or(Some(now)),
            };
            self.phase = Phase::Serving { unready_since };
        }
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
