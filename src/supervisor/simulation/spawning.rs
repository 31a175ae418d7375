//! Simulates the workers that the state machine requests. They appear at once, or when a zygote answers.

use super::*;

impl World {
    pub(super) fn spawn(&mut self, slot: SlotId, side: Side, generation: Generation) {
        assert!(!self.asked && self.stopping_since.is_none(), "a spawn while stopping");
        let alive = self.processes.values().map(|process| (process.slot, process.side));
        let coming = self.orders.iter().map(|order| (order.slot, order.side));
        let places: Vec<_> = alive.chain(coming).collect();
        assert!(!places.contains(&(slot, side)), "two in one entry");
        let serve = self.processes.values().filter(|process| !process.is_over);
        let coming = self.orders.iter().map(|order| order.slot);
        let slots: Vec<_> = serve.map(|process| process.slot).chain(coming).collect();
        let is_double = |slot: &SlotId| slots.iter().filter(|other| *other == slot).count() > 1;
        let is_second = slots.contains(&slot);
        assert!(!is_second || !slots.iter().any(is_double), "more than one process too many");
        // An operator requests a stand-in, so only the spawns of the slot itself are paced.
        if generation == self.in_service && !is_second {
            self.pacing.spawned(slot, self.now);
        }
        if self.chance(2) {
            self.disturb_inside(); // This adds an event between the action and its outcome.
        }
        self.prepared.check_spawn(generation);
        let zygote = self.prepared.zygote_of(generation);
        let order = Order { slot, side, generation, zygote, is_retired: false };
        let pid = Pid(self.next_pid);
        let event = if self.chance(self.failure_percent / 8) {
            Event::SpawnFailed { slot, side, verdict: Verdict::NotBooted }
        } else {
            self.next_pid += 1;
            Event::Started { slot, side, pid }
        };
        if zygote.is_some() {
            let wait = self.up_to(3_000);
            self.orders.push(order);
            self.coming.push((self.now + wait, event));
            return;
        }
        if let Event::Started { .. } = event {
            self.appears(order, pid);
        }
        self.machine.handle(event, self.now);
    }

    pub(super) fn appears(&mut self, order: Order, pid: Pid) {
        let Order { slot, side, generation, is_retired, .. } = order;
        let process = Process {
            slot,
            side,
            generation,
            command: None,
            is_ready: false,
            ready_since: None,
            was_ready: false,
            exit: ExitState::default(),
            is_killed: false,
            is_over: false,
            is_retired,
        };
        self.round.start(pid);
        self.processes.insert(pid.0, process);
        self.draw_fate(pid);
    }

    pub(super) fn answered(&mut self, slot: SlotId, side: Side) -> Option<Order> {
        let index = self.orders.iter().position(|it| it.slot == slot && it.side == side)?;
        Some(self.orders.swap_remove(index))
    }

    /// Ends the zygote of these orders. Orders that it did not receive yet fail, and the one that it has is answered
    /// soon.
    pub(super) fn withdraw(&mut self, is_withdrawn: impl Fn(&Order) -> bool) {
        let (withdrawn, kept) = self.orders.iter().partition(|order| is_withdrawn(order));
        self.orders = kept;
        let mut withdrawn: Vec<Order> = withdrawn;
        let soon = self.now + self.policy.quick;
        if let Some(known) = withdrawn.pop() {
            self.orders.push(known);
            for (at, event) in &mut self.coming {
                if is_answer(event, &known) {
                    *at = soon.min(*at);
                }
            }
        }
        for order in withdrawn {
            self.fail_order(&order);
        }
    }

    pub(super) fn fail_order(&mut self, order: &Order) {
        self.coming.retain(|(_, event)| !is_answer(event, order));
        let (slot, side) = (order.slot, order.side);
        let event = Event::SpawnFailed { slot, side, verdict: Verdict::NotBooted };
        self.machine.handle(event, self.now);
    }
}

fn is_answer(event: &Event, to: &Order) -> bool {
    match event {
        Event::Started { slot, side, .. } | Event::SpawnFailed { slot, side, .. } => {
            (*slot, *side) == (to.slot, to.side)
        }
        Event::OnStartStarted { .. }
        | Event::OnStartNotStarted { .. }
        | Event::ZygoteStarted { .. }
        | Event::ZygoteNotStarted { .. }
        | Event::ZygoteReady { .. }
        | Event::ZygoteLost { .. }
        | Event::Ready { .. }
        | Event::Failing { .. }
        | Event::Hung { .. }
        | Event::GoesOn { .. }
        | Event::LoopEnded { .. }
        | Event::LimitReached { .. }
        | Event::Exited { .. }
        | Event::Configured { .. }
        | Event::OperatorCommand(_)
        | Event::Tick => false,
    }
}
