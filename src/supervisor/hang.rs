//! Workers that hang: they are made to dump their stack, and killed unless they go on.

use std::time::{Duration, Instant};

use super::{Action, Supervisor};
use crate::supervisor::log_event::LogEvent;
use crate::supervisor::slot::WorkerSlot;
use crate::system::pid::Pid;

/// How long a worker that hangs has to dump its stack, and to go on after all, before it is killed.
pub const STACK_DUMP_TIME: Duration = Duration::from_secs(1);

impl Supervisor {
    /// A worker hangs: it is made to dump its stack, and killed after that.
    pub(super) fn hung(&mut self, pid: Pid, now: Instant) {
        let Some(index) = self.index_of(pid) else { return };
        let Some(place) = self.place_mut(index) else { return };
        let (slot, side, generation) = (place.id(), place.side(), place.generation());
        if place.mark_hung(now + STACK_DUMP_TIME).is_some() {
            self.log(LogEvent::Hung { slot, side, pid, generation });
            self.actions.push_back(Action::DumpStack { pid });
        }
    }

    /// A worker that goes on is not killed: it was busy, and what it accepted would be lost with it.
    pub(super) fn goes_on(&mut self, pid: Pid) {
        let Some(index) = self.index_of(pid) else { return };
        let Some(place) = self.place_mut(index) else { return };
        let (slot, generation) = (place.id(), place.generation());
        if place.recover() {
            self.log(LogEvent::GoesOn { slot, pid, generation });
        }
    }

    /// Whether a process is about to be killed because it hangs.
    pub fn is_hung(&self, pid: Pid) -> bool {
        self.places().any(|place| place.pid() == Some(pid) && WorkerSlot::is_hung(place))
    }

    /// A worker is not ready in time. It has a moment to dump its stack.
    pub(super) fn boot_late(&mut self, index: usize, now: Instant) {
        let Some(place) = self.place_mut(index) else { return };
        let (slot, generation) = (place.id(), place.generation());
        let Some(pid) = place.late(now + STACK_DUMP_TIME) else { return };
        let limit = self.policy.boot;
        self.log(LogEvent::NotReady { slot, pid, generation, limit });
        self.actions.push_back(Action::DumpStack { pid });
    }
}
