//! Handles the end of a process, and decides how soon a slot gets its next worker.
//!
//! A worker that has served is always replaced at once: nothing suggests that the next one cannot serve, and a slot
//! that waits is lost capacity. The same is true of a worker that died in its first request, because a request that
//! crashes workers may have been the first one in the queue. Only workers that never served delay the next one, which
//! will probably fail for the same reason ([`exited`](super::slot::WorkerSlot::exited)). These delays end early when
//! the cause may be gone, and while fewer than half of the workers are ready.

use std::time::{Duration, Instant};

use super::{ExitDetails, Phase, ProcessRole, Supervisor, Verdict};
use crate::supervisor::log_event::LogEvent;
use crate::supervisor::slot::{Ending, ExitStatus, SlotState};
use crate::system::pid::Pid;

/// The interval between two attempts in any slots while fewer than half of the workers are ready.
const PACE: Duration = Duration::from_millis(500);

impl Supervisor {
    /// Handles the end of a child that was reaped, according to its role.
    pub(super) fn exited(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        details: ExitDetails,
        now: Instant,
    ) {
        match self.role_of(pid) {
            Some(ProcessRole::Worker) => self.worker_exited(pid, status, details, now),
            Some(ProcessRole::OnStart) => self.on_start_exited(details.report),
            Some(ProcessRole::Zygote) => self.zygote_exited(pid, now),
            None => self.log(LogEvent::OrphanReaped { pid, status }),
        }
    }

    fn worker_exited(&mut self, pid: Pid, status: ExitStatus, details: ExitDetails, now: Instant) {
        let Some(index) = self.index_of(pid) else { return };
        let spare = self.spare.as_mut().map(|spare| &mut spare.place);
        let places = self.slots.iter_mut().chain(spare).chain(&mut self.exiting);
        let Some(place) = places.into_iter().nth(index) else { return };
        let (id, side, generation) = (place.id(), place.side(), place.generation());
        let ExitDetails { report, had_request, was_in_request, is_baseline, answered } = details;
        let Some(ending) = place.exited(had_request, now, &mut self.jitter) else { return };
        self.log(LogEvent::Ended {
            slot: id,
            side,
            pid,
            generation,
            status,
            ending,
            is_baseline,
            answered,
        });
        match ending {
            Ending::Asked => {}
            Ending::Died | Ending::Hung | Ending::BootFailed => {
                if had_request {
                    self.reset_backoffs(now);
                }
                if !is_baseline && ending.is_failure(status, was_in_request) {
                    self.record_crash(generation, now);
                }
            }
        }
        if ending == Ending::BootFailed {
            match (self.phase, report) {
                (Phase::Exiting { .. } | Phase::Finished, _) | (_, None) => {}
                (_, Some(report)) => {
                    self.log(LogEvent::BootReport { slot: id, pid, generation, report })
                }
            }
        }
        if self.is_spare(index) {
            self.spare_exited(ending, is_baseline, now);
        } else if ending == Ending::BootFailed {
            self.boot_failed(
                match status {
                    ExitStatus::Code(4) => Verdict::NotImportable,
                    ExitStatus::Code(_) | ExitStatus::Signal(_) => Verdict::NotBooted,
                },
                now,
            );
        }
        self.forget_exited();
    }

    /// Handles a worker that could not boot. Before the first full set of workers that ends the server, later it
    /// doesn't.
    pub(super) fn boot_failed(&mut self, verdict: Verdict, now: Instant) {
        match self.phase {
            Phase::Canary | Phase::Filling => self.give_up(verdict, now),
            Phase::Serving { .. }
            | Phase::Paused
            | Phase::Returning
            | Phase::LameDuck { .. }
            | Phase::Exiting { .. }
            | Phase::Finished => {}
        }
    }

    /// Checks whether workers have been ready for so long that they count as having served.
    pub(super) fn note_service(&mut self, now: Instant) {
        let spare = self.spare.iter_mut().map(|spare| &mut spare.place);
        let places = self.slots.iter_mut().chain(spare);
        if places.filter_map(|place| place.has_served(now).then_some(())).count() > 0 {
            self.reset_backoffs(now);
        }
    }

    /// Forgets earlier failures, because a worker has served or an operator has intervened.
    pub(super) fn reset_backoffs(&mut self, now: Instant) {
        for slot in &mut self.slots {
            slot.forget_failures(now);
        }
        self.next_replacement = None;
    }

    /// While fewer than half of the workers are ready, the slot with the shortest wait is tried [`PACE`] after the last
    /// attempt, however often it has failed, because the cause may be gone.
    pub(super) fn hasten_one(&mut self, now: Instant) {
        let wanted = &self.slots[..usize::from(self.target)];
        let ready_count = wanted.iter().filter(|slot| slot.is_ready()).count();
        if ready_count * 2 >= wanted.len() {
            return;
        }
        let waits = |index: &usize| {
            let is_in_backoff = matches!(wanted[*index].state(), SlotState::Backoff { .. });
            is_in_backoff && !self.waits_for_entry(*index)
        };
        let next = (0..wanted.len()).filter(waits).min_by_key(|index| wanted[*index].deadline());
        if let Some(index) = next {
            self.slots[index].hasten(self.last_spawn.map_or(now, |last| last + PACE));
        }
    }
}
