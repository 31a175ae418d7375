//! Checks how fast workers that never serve may follow each other in a slot.

use super::*;

/// A time below every delay except the first one, with jitter.
const TIGHT: Duration = Duration::from_millis(450);

/// The start times of the workers of each slot since failures were last forgotten.
#[derive(Default)]
pub(super) struct Pacing(BTreeMap<u16, Vec<Instant>>);

impl Pacing {
    /// Forgets failures, because a worker has served or an operator has intervened.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    pub(super) fn spawned(&mut self, slot: SlotId, now: Instant) {
        let spawns = self.0.entry(slot.0).or_default();
        spawns.retain(|at| now - *at < TIGHT);
        spawns.push(now);
        // A second worker may follow the first one at once, but no third.
        assert!(spawns.len() <= 2, "slot {} spins", slot.0);
    }
}

impl World {
    /// Notes events that reset the backoffs. This may be generous, because the tests of the slot check the exact rule.
    pub(super) fn pace(&mut self, event: &Event) {
        let mut forgets = matches!(event, Event::OperatorCommand(_) | Event::Configured { .. });
        if let Event::Exited { details, .. } = event {
            forgets |= details.had_request;
        }
        for process in self.processes.values_mut() {
            let has_served =
                |since: Instant| since + crate::supervisor::slot::SERVED_AFTER <= self.now;
            if process.ready_since.take_if(|since| has_served(*since)).is_some() {
                forgets = true;
            }
        }
        if forgets {
            self.pacing.forget();
        }
    }

    /// Checks that a slot that should have a worker has one, or has a time for the next spawn; and that some slot is
    /// tried soon while fewer than half of the workers are ready.
    pub(super) fn check_waits(&self) {
        let machine = &self.machine;
        let longest = Duration::from_millis(5_500);
        let wanted = &machine.slots[..usize::from(machine.target)];
        let is_serving = matches!(machine.phase, Phase::Filling | Phase::Serving { .. });
        // If a canary and an exiting worker use both entries of a slot, its own worker waits for one of them.
        let has_block = |slot: &&WorkerSlot| {
            let index = usize::from(slot.id().0);
            machine.side_taken(index, Some(index)).is_ok()
        };
        let waits = wanted.iter().filter(|slot| slot.is_vacant()).filter(has_block);
        let waits: Vec<_> = waits.collect();
        if !is_serving || waits.is_empty() {
            return;
        }
        for slot in &waits {
            let until = slot.deadline().expect("a worker is needed");
            assert!(until <= self.now + longest, "slot {} waits too long", slot.id().0);
        }
        let ready_count = wanted.iter().filter(|slot| slot.is_ready()).count();
        if ready_count * 2 < wanted.len() {
            let soon = self.now + ms(500);
            assert!(waits.iter().any(|slot| slot.deadline() <= Some(soon)), "no slot is tried");
        }
    }
}
