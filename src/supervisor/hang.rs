//! Workers that hang. They are made to dump their stack, and are killed unless they go on.

use std::time::{Duration, Instant};

use super::{Action, Supervisor};
use crate::supervisor::log_event::LogEvent;
use crate::supervisor::slot::WorkerSlot;
use crate::system::pid::Pid;

/// How long a worker that hangs has, before it is killed, to dump its stack or to go on after all.
pub const STACK_DUMP_TIME: Duration = Duration::from_secs(1);

impl Supervisor {
    /// Makes a worker that hangs dump its stack. It is killed after that, unless it goes on.
    pub(super) fn hung(&mut self, pid: Pid, now: Instant) {
        let Some(index) = self.index_of(pid) else { return };
        let Some(place) = self.place_mut(index) else { return };
        let (slot, side, generation) = (place.id(), place.side(), place.generation());
        if place.mark_hung(now + STACK_DUMP_TIME).is_some() {
            self.log(LogEvent::Hung { slot, side, pid, generation });
            self.actions.push_back(Action::DumpStack { pid });
        }
    }

    /// Keeps a worker that goes on: it was only busy, and its connections would be lost with it.
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

    /// Makes a worker that is not ready in time dump its stack. It is killed a moment later, unless it is ready by
    /// then.
    pub(super) fn boot_late(&mut self, index: usize, now: Instant) {
        let Some(place) = self.place_mut(index) else { return };
        let (slot, generation) = (place.id(), place.generation());
        let Some(pid) = place.late(now + STACK_DUMP_TIME) else { return };
        let limit = self.policy.boot;
        self.log(LogEvent::NotReady { slot, pid, generation, limit });
        self.actions.push_back(Action::DumpStack { pid });
    }
}
