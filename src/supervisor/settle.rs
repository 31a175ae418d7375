//! The consequences of the states of the slots, which are the same after every event: phases advance, workers are
//! spawned, a stop finishes.

use std::time::Instant;

use super::preparation::Spawn;
use super::rollout::{Role, Rollout};
use super::{Action, Phase, Supervisor};
use crate::supervisor::slot::WorkerSlot;

impl Supervisor {
    /// Applies these consequences. Called after each event.
    pub(super) fn settle(&mut self, now: Instant) {
        self.fail_refused_spawns(now);
        self.note_service(now);
        self.advance_phase(now);
        self.advance_rollout(now);
        self.fail_refused_spawns(now); // The end of a rollout may have given up more spawns.
        for index in 0..self.slots.len() {
            let wanted = self.wants(self.slots[index].id().0);
            let (generation, taken) = (self.generation, self.side_taken(index, Some(index)));
            let slot = &mut self.slots[index];
            if !wanted {
                slot.retire();
                continue;
            }
            let Ok(taken) = taken else { continue }; // The slot waits for an entry, and keeps its backoff.
            slot.fill(now);
            if let Some(side) = slot.spawn_when_due(generation, taken, now) {
                let slot = slot.id();
                self.last_spawn = Some(now);
                self.request_spawn(Spawn { slot, side, generation });
            }
        }
        self.hasten_one(now);
        self.spawn_spare(now);
        // Without a worker, the drain delay has no purpose.
        if let Phase::LameDuck { .. } = self.phase
            && self.places().all(WorkerSlot::is_vacant)
        {
            self.stop_gracefully(now);
        }
        if let Phase::Exiting { verdict, .. } = self.phase
            && self.places().all(WorkerSlot::is_vacant)
        {
            self.phase = Phase::Finished;
            self.actions.push_back(Action::Finish(verdict));
        }
    }

    fn spawn_spare(&mut self, now: Instant) {
        let Some(id) = self.spare.as_ref().map(|spare| spare.place.id()) else { return };
        // At the same moment, its slot may have lost its process and requested another one.
        let taken = self.side_taken(usize::from(id.0), Some(self.slots.len()));
        let (Some(spare), Ok(taken)) = (&mut self.spare, taken) else { return };
        let generation = match (spare.role, &self.rollout) {
            (Role::Canary, Rollout::Canary { generation, .. }) => *generation,
            (Role::Replacement, _) => self.generation,
            (Role::Canary | Role::Exiting, _) => return,
        };
        if spare.place.pid().is_none() {
            spare.place.fill(now);
            if let Some(side) = spare.place.spawn_when_due(generation, taken, now) {
                let slot = spare.place.id();
                self.request_spawn(Spawn { slot, side, generation });
            }
        }
    }

    fn advance_phase(&mut self, now: Instant) {
        if self.phase == Phase::Canary && self.slots.iter().any(WorkerSlot::is_ready) {
            self.phase = Phase::Filling;
        }
        let wanted = &self.slots[..usize::from(self.target)];
        let has_come = |slot: &WorkerSlot| slot.is_ready() || slot.was_served();
        if self.phase == Phase::Filling && wanted.iter().all(has_come) {
            self.phase = Phase::Serving { unready_since: None };
            self.actions.push_back(Action::ReportReady);
        }
        if let Phase::Serving { unready_since } = self.phase {
            let unready_since = match self.places().any(WorkerSlot::is_ready) {
                true => None,
                false => unready_since.or(Some(now)),
            };
            self.phase = Phase::Serving { unready_since };
        }
    }
}
