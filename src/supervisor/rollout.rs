//! The rolling restart, which replaces workers one at a time, for a reload or to recycle a worker.
//!
//! There is one spare place besides the slots. A new worker boots there while the old one goes on serving. When the new
//! one is ready, the two change places, and the old one drains in the spare place until it has exited. A worker whose
//! exit takes long gives up the spare place earlier (`exiting`). So the number of ready workers never decreases, and
//! there is never more than one additional process that serves.
//!
//! | rollout | event | actions | next |
//! |---|---|---|---|
//! | Idle | HUP | read the configuration | Configuring |
//! | Configuring | it cannot be used | end: misconfigured | Idle |
//! | Configuring | it can be used | spawn the canary | Canary |
//! | Canary | HUP | drain the canary; read the configuration once it is gone | Idle |
//! | Canary | it ends, or is not ready in time | end: canary failed | Idle |
//! | Canary | it has served for [`PROBATION`], or is ready with `--reload` | adopt its generation; it takes its slot | Rolling |
//! | Rolling | no worker of another generation is left | end: done | Idle |
//! | Rolling | two crashes of the generation within [`CRASH_WINDOW`] | go back to the old one | RollingBack |
//! | RollingBack | no worker of another generation is left | end: halted | Idle |
//!
//! While the server is stopping or paused, no rollout runs. A HUP that comes too early is remembered.

use std::time::{Duration, Instant};

use arctos_worker::shared::identity::{Generation, SlotId};

use super::{Action, Budget, Pace, Phase, Policy, ReloadOutcome, Supervisor};
use crate::supervisor::log_event::LogEvent;
use crate::supervisor::slot::{Ending, SlotState, WorkerSlot};
use crate::system::pid::Pid;

/// How long a canary serves before the others follow it, unless the code is under development.
pub const PROBATION: Duration = Duration::from_secs(1);
/// Two workers of a new generation that crash within this time halt its rollout.
pub const CRASH_WINDOW: Duration = Duration::from_secs(10);

/// The progress of a rollout.
#[derive(Clone, Debug)]
pub(super) enum Rollout {
    /// No rollout is running.
    Idle,
    /// The new configuration is being read.
    Configuring,
    /// One worker of the new generation boots, or serves beside the old ones.
    Canary {
        /// The new generation.
        generation: Generation,
        /// The configuration that is adopted once the canary has passed its probation.
        policy: Policy,
        /// When the canary became ready.
        ready_since: Option<Instant>,
        /// The total time that earlier canaries served. They crashed in the same requests as the old workers.
        served: Duration,
    },
    /// One slot after another is replaced.
    Rolling {
        /// The generation to go back to.
        before: Generation,
        /// The configuration to go back to.
        policy_before: Policy,
        /// When a worker of the new generation last crashed.
        last_crash: Option<Instant>,
    },
    /// One slot after another goes back to the old generation.
    RollingBack,
}

/// The process in the spare place.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    /// The stand-in for its slot.
    pub(super) place: WorkerSlot,
    pub(super) role: Role,
}

/// The use of the spare place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// The first worker of a new generation.
    Canary,
    /// A new worker, which takes its slot as soon as it is ready.
    Replacement,
    /// A worker that exits, because it was replaced or is not wanted any more.
    Exiting,
}

/// The progress of a reload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadStep {
    /// The first worker of the new generation boots, or serves beside the old ones.
    Canary,
    /// The other workers are being replaced.
    Rolling,
    /// All workers go back to the old generation.
    RollingBack,
}

impl Supervisor {
    /// The new generation and the progress of a reload, if one is running.
    pub fn reloading(&self) -> Option<(Generation, ReloadStep)> {
        match self.rollout {
            Rollout::Idle | Rollout::Configuring => None,
            Rollout::Canary { generation, .. } => Some((generation, ReloadStep::Canary)),
            Rollout::Rolling { .. } => Some((self.generation, ReloadStep::Rolling)),
            Rollout::RollingBack => Some((self.generation, ReloadStep::RollingBack)),
        }
    }

    /// Handles HUP.
    pub(super) fn reload(&mut self, now: Instant) {
        match self.phase {
            Phase::Canary | Phase::Filling | Phase::Serving { .. } | Phase::Returning => {
                self.is_reload_wanted = true;
                if let Rollout::Canary { generation, .. } = self.rollout {
                    if self.spare_serves() {
                        self.resume(); // The canary may take long to exit.
                    }
                    self.discard(generation);
                    self.rollout = Rollout::Idle;
                    // The canary may already serve, on probation. Then it drains like any other worker.
                    self.stop_spare(now);
                }
            }
            Phase::Paused => {
                self.is_reload_wanted = true;
                // If the spare place or both entries of the canary's slot are in use, there is no room for a canary
                // until one of them is free.
                let has_room = self.spare.is_none() && self.side_taken(0, None).is_ok();
                self.phase = match has_room {
                    true => Phase::Returning,
                    false => Phase::Serving { unready_since: None },
                };
            }
            Phase::LameDuck { .. } | Phase::Exiting { .. } | Phase::Finished => {}
        }
    }

    /// Lets a server that was paused return to service without a canary.
    fn resume(&mut self) {
        if self.phase == Phase::Returning {
            self.phase = Phase::Serving { unready_since: None };
        }
    }

    /// Handles the new configuration; `None` if it cannot be used.
    pub(super) fn configured(&mut self, policy: Option<Policy>) {
        match (&self.rollout, policy) {
            (Rollout::Configuring, Some(policy)) => {
                let generation = self.last_generation;
                self.rollout = Rollout::Canary {
                    generation,
                    policy,
                    ready_since: None,
                    served: Duration::ZERO,
                };
                let place = self.slots[0].replacement();
                self.spare = Some(Spare { place, role: Role::Canary });
            }
            (Rollout::Configuring, None) => self.end_rollout(ReloadOutcome::Misconfigured),
            (
                Rollout::Idle
                | Rollout::Canary { .. }
                | Rollout::Rolling { .. }
                | Rollout::RollingBack,
                Some(_) | None,
            ) => {}
        }
    }

    /// Marks a worker that has reached one of its limits for recycling.
    pub(super) fn recycle_worker(&mut self, pid: Pid) {
        let is_serving = |slot: &WorkerSlot| slot.is_ready() && slot.pid() == Some(pid);
        if self.slots.iter().any(is_serving) && !self.recycling.contains(&pid) {
            self.recycling.push(pid);
        }
    }

    /// Recycles the worker of a slot for an operator. A worker that does not serve is exiting or booting anyway.
    pub(super) fn recycle_slot(&mut self, slot: SlotId) {
        if let Some(pid) = self.slots.get(usize::from(slot.0)).and_then(WorkerSlot::pid) {
            self.recycle_worker(pid);
        }
    }

    /// When the rollout has to advance.
    pub(super) fn rollout_deadline(&self) -> Option<Instant> {
        match self.rollout {
            Rollout::Canary { ready_since, served, ref policy, .. } => {
                let left = policy.probation.saturating_sub(served);
                ready_since.filter(|_| self.spare_serves()).map(|since| since + left)
            }
            Rollout::Idle
            | Rollout::Configuring
            | Rollout::Rolling { .. }
            | Rollout::RollingBack => self.next_replacement.filter(|_| self.candidate().is_some()),
        }
    }

    /// Whether the process in the spare place serves, and does not hang.
    fn spare_serves(&self) -> bool {
        self.spare.as_ref().is_some_and(|spare| spare.place.is_ready())
    }

    /// Handles a process in the spare place that has become ready.
    pub(super) fn spare_ready(&mut self, now: Instant) {
        let Some(spare) = &self.spare else { return };
        match (spare.role, &mut self.rollout) {
            (Role::Canary, Rollout::Canary { ready_since, .. }) => *ready_since = Some(now),
            (Role::Replacement, _) => self.hand_over(now),
            (Role::Canary | Role::Exiting, _) => {}
        }
    }

    /// Handles the end of the process in the spare place.
    pub(super) fn spare_exited(&mut self, ending: Ending, is_baseline: bool, now: Instant) {
        let Some(spare) = self.spare.take() else { return };
        match (spare.role, &mut self.rollout) {
            // The time that it served counts, because the next canary may not live longer.
            (Role::Canary, Rollout::Canary { ready_since: ready_since @ Some(_), served, .. })
                if is_baseline =>
            {
                let since = ready_since.take().unwrap_or(now);
                *served = served.saturating_add(now.saturating_duration_since(since));
                let place = self.slots[0].replacement();
                self.spare = Some(Spare { place, role: Role::Canary });
            }
            (Role::Canary, Rollout::Canary { generation, .. }) => {
                let generation = *generation;
                self.discard(generation);
                self.end_rollout(ReloadOutcome::CanaryFailed);
            }
            (Role::Replacement, _) if ending != Ending::Asked => {
                let slot = &mut self.slots[usize::from(spare.place.id().0)];
                self.next_replacement = Some(slot.replacement_failed(now, &mut self.jitter));
            }
            (Role::Canary | Role::Replacement | Role::Exiting, _) => {}
        }
    }

    /// Records the crash of a worker of the generation that is being rolled out.
    pub(super) fn record_crash(&mut self, generation: Generation, now: Instant) {
        if generation != self.generation {
            return;
        }
        let Rollout::Rolling { before, policy_before, last_crash } = &mut self.rollout else {
            return;
        };
        let is_second = last_crash
            .replace(now)
            .is_some_and(|last| now.saturating_duration_since(last) < CRASH_WINDOW);
        if is_second {
            let (bad, good, policy) = (self.generation, *before, policy_before.clone());
            self.generation = good;
            self.rollout = Rollout::RollingBack;
            self.actions.push_back(Action::Adopt { generation: good });
            self.log(LogEvent::RolloutHalted { generation: bad });
            // A replacement that is still booting would take the place of a good worker.
            let is_bad =
                |spare: &&Spare| spare.role == Role::Replacement && spare.place.generation() == bad;
            if self.spare.as_ref().filter(is_bad).is_some() {
                self.stop_spare(now);
            }
            self.adopt(policy, now);
        }
    }

    /// Advances the rollout as far as the states allow: begins a reload, promotes the canary, replaces workers, ends.
    pub(super) fn advance_rollout(&mut self, now: Instant) {
        let is_serving = matches!(self.phase, Phase::Serving { .. } | Phase::Returning);
        if let Some(spare) = &self.spare
            && spare.place.is_vacant()
            && (spare.role == Role::Exiting || !is_serving)
        {
            self.spare = None;
        }
        if !is_serving {
            return;
        }
        if let Rollout::Canary { ready_since: Some(since), served, policy, .. } = &self.rollout
            && *since + policy.probation.saturating_sub(*served) <= now
            && self.spare_serves()
        {
            self.promote_canary(now);
        }
        self.recycling.retain(|pid| {
            let serves = |slot: &WorkerSlot| slot.is_ready() && slot.pid() == Some(*pid);
            self.slots.iter().any(serves)
        });
        if self.spare.is_some() {
            return;
        }
        let is_over = !self.slots[..usize::from(self.target)].iter().any(|s| self.is_outdated(s));
        match self.rollout {
            Rollout::Rolling { .. } if is_over => self.end_rollout(ReloadOutcome::Done),
            Rollout::RollingBack if is_over => self.end_rollout(ReloadOutcome::Halted),
            Rollout::Idle
            | Rollout::Configuring
            | Rollout::Canary { .. }
            | Rollout::Rolling { .. }
            | Rollout::RollingBack => {}
        }
        if self.is_reload_wanted && matches!(self.rollout, Rollout::Idle) {
            self.is_reload_wanted = false;
            self.rollout = Rollout::Configuring;
            self.last_generation = Generation(self.last_generation.0.wrapping_add(1));
            let generation = self.last_generation;
            self.actions.push_back(Action::Configure { generation });
        }
        if self.next_replacement.is_none_or(|at| at <= now)
            && let Some(index) = self.candidate()
        {
            self.next_replacement = None;
            let place = self.slots[index].replacement();
            self.spare = Some(Spare { place, role: Role::Replacement });
        }
    }

    /// Returns the slot whose worker is replaced next.
    fn candidate(&self) -> Option<usize> {
        let serving = &self.slots[..usize::from(self.target)];
        let rolls = match self.rollout {
            Rollout::Rolling { .. } | Rollout::RollingBack => true,
            Rollout::Idle => false,
            Rollout::Configuring | Rollout::Canary { .. } => return None,
        };
        let is_worn =
            |slot: &WorkerSlot| slot.pid().is_some_and(|pid| self.recycling.contains(&pid));
        serving.iter().position(|slot| {
            let is_due = (rolls && self.is_outdated(slot)) || is_worn(slot);
            slot.is_ready() && is_due && self.has_room_beside(slot)
        })
    }

    /// Whether a slot has, or is about to have, a process of the wrong generation.
    fn is_outdated(&self, slot: &WorkerSlot) -> bool {
        let is_taken = slot.pid().is_some() || slot.is_spawning();
        is_taken && slot.generation() != self.generation
    }

    /// Begins to replace all workers, because the canary has passed its probation.
    fn promote_canary(&mut self, now: Instant) {
        let idle = Rollout::Idle;
        let Rollout::Canary { generation, policy, .. } = std::mem::replace(&mut self.rollout, idle)
        else {
            return;
        };
        let (before, policy_before) = (self.generation, self.policy.clone());
        self.rollout = Rollout::Rolling { before, policy_before, last_crash: None };
        self.generation = generation;
        self.resume();
        self.actions.push_back(Action::Adopt { generation });
        self.hand_over(now);
        self.adopt(policy, now);
    }

    /// Adopts a configuration. The number of workers changes only if it is configured differently, so that a reload
    /// does not undo an operator's TTIN or TTOU.
    fn adopt(&mut self, policy: Policy, now: Instant) {
        self.reset_backoffs(now); // The failures were those of other code.
        let workers = policy.workers.min(policy.ceiling).max(1);
        let is_news = workers != self.policy.workers;
        self.policy = policy;
        if is_news {
            self.scale(workers, now);
        }
    }

    /// Moves the process in the spare place to its slot, and stops the old one.
    fn hand_over(&mut self, now: Instant) {
        let Some(spare) = &mut self.spare else { return };
        let Some(slot) = self.slots.get_mut(usize::from(spare.place.id().0)) else { return };
        slot.change_places(&mut spare.place);
        spare.role = Role::Exiting;
        self.stop_spare(now);
    }

    /// Stops the process in the spare place.
    pub(super) fn stop_spare(&mut self, now: Instant) {
        let Some(spare) = &mut self.spare else { return };
        spare.role = Role::Exiting;
        // There is no process yet. It is stopped once it has started.
        if let SlotState::Backoff { .. } | SlotState::Empty = spare.place.state() {
            self.spare = None;
            return;
        }
        let (soon, budget) = (self.policy.quick, Budget::graceful(&self.policy, now));
        let action = super::stop_command(&mut spare.place, soon, Pace::Graceful, budget, now);
        self.actions.extend(action);
    }

    /// Gives up the configuration of a canary and the preparation of its generation.
    pub(super) fn discard(&mut self, generation: Generation) {
        self.actions.push_back(Action::Discard { generation });
        self.cancel_preparations(|other| other == generation);
    }

    pub(super) fn end_rollout(&mut self, outcome: ReloadOutcome) {
        self.rollout = Rollout::Idle;
        self.resume();
        let current = self.generation;
        self.cancel_preparations(|generation| generation != current);
        self.actions.push_back(Action::ReloadEnded { outcome });
    }

    /// Gives up the rollout, because the server stops or is paused.
    pub(super) fn abandon_rollout(&mut self) {
        if let Rollout::Canary { generation, .. } = self.rollout {
            self.discard(generation);
            // The process may still start, because its zygote answers the order that it has.
            if let Some(spare) = &mut self.spare {
                spare.role = Role::Exiting;
            }
        }
        match self.rollout {
            Rollout::Idle if !self.is_reload_wanted => {}
            Rollout::Idle
            | Rollout::Configuring
            | Rollout::Canary { .. }
            | Rollout::Rolling { .. }
            | Rollout::RollingBack => self.end_rollout(ReloadOutcome::Abandoned),
        }
        self.is_reload_wanted = false;
    }
}
