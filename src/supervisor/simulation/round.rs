//! Simulates that the shell passes several events to the state machine before it carries out any action.

use super::*;

/// The processes that came or went in this round. The actions of the round may not take them into account yet.
#[derive(Default)]
pub(super) struct Round {
    started: Vec<Pid>,
    /// Each process that was reaped, with its slot if it was a worker.
    reaped: Vec<(Pid, Option<SlotId>)>,
}

impl Round {
    pub(super) fn start(&mut self, pid: Pid) {
        self.started.push(pid);
    }

    pub(super) fn reap(&mut self, pid: Pid, slot: Option<SlotId>) {
        self.reaped.push((pid, slot));
    }

    pub(super) fn has_started(&self, pid: Pid) -> bool {
        self.started.contains(&pid)
    }

    pub(super) fn has_reaped(&self, pid: Pid) -> bool {
        self.reaped.iter().any(|(reaped, _)| *reaped == pid)
    }

    /// Whether a worker may be stopped although its slot has no other one that is ready: it was stopped before it was
    /// ready, or because of one that has died since.
    pub(super) fn explains(&self, pid: Pid, slot: SlotId) -> bool {
        self.has_started(pid) || self.reaped.iter().any(|(_, of)| *of == Some(slot))
    }
}

impl World {
    /// Delivers an event, and perhaps others that are due, in one round. Then carries out the actions.
    pub(super) fn deliver(&mut self, event: Event) {
        self.pass(event);
        while self.chance(50)
            && let Some(event) = self.take_due()
        {
            self.pass(event);
        }
        if self.chance(3) {
            self.disturb_inside();
        }
        if self.chance(3) {
            self.pass(Event::Tick);
        }
        self.carry_out();
        self.round = Round::default();
    }

    pub(super) fn take_due(&mut self) -> Option<Event> {
        let is_due = |(at, _): &(Instant, Event)| *at <= self.now;
        let index = self.coming.iter().position(is_due)?;
        Some(self.coming.swap_remove(index).1)
    }

    /// Closes the sockets of a slot. Workers that were requested before have duplicates that the supervisor cannot close.
    pub(super) fn retire(&mut self, retired: SlotId) {
        assert!(!self.listeners_dropped);
        for process in self.processes.values_mut() {
            process.is_retired |= process.slot == retired;
        }
        for order in &mut self.orders {
            order.is_retired |= order.slot == retired;
        }
    }
}
