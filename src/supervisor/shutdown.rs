//! Graceful shutdown, which finishes in-flight requests, and quick shutdown: the commands to workers, their deadlines,
//! and the verdict of the server.

use std::time::{Duration, Instant};

use arctos_worker::shared::scoreboard::Command;

use super::{Action, Pace, Phase, Policy, Supervisor, Verdict};
use crate::supervisor::slot::KillReason;

/// Time limit for the exit of workers when the server gives up. Together with the limit for a worker that cannot boot,
/// it is below 2 s.
pub(super) const GIVE_UP_TIME: Duration = Duration::from_secs(1);

/// The two deadlines of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) quick_at: Instant,
    pub(super) kill_at: Instant,
}

impl Budget {
    /// Returns the deadlines of a graceful stop that begins now. The last fiftieth is reserved for reaping, so that the
    /// supervisor has exited, too, when the time limit expires and a service manager would kill it.
    pub(super) fn graceful(policy: &Policy, now: Instant) -> Self {
        let kill_after = policy.graceful * 49 / 50;
        let quick_after = kill_after - policy.quick.min(kill_after / 4);
        Self { quick_at: now + quick_after, kill_at: now + kill_after }
    }

    /// Returns the deadlines of a stop in which workers finish only the running request.
    pub(super) fn quick(now: Instant, patience: Duration) -> Self {
        Self { quick_at: now, kill_at: now + patience }
    }
}

impl Supervisor {
    pub(super) fn give_up(&mut self, verdict: Verdict, now: Instant) {
        let budget = Budget::quick(now, GIVE_UP_TIME);
        self.begin_stop(budget);
        self.exit(Pace::Quick, budget, verdict, now);
    }

    /// Handles TERM.
    pub(super) fn terminate(&mut self, now: Instant) {
        match self.phase {
            Phase::Serving { .. } | Phase::Returning if !self.policy.drain_delay.is_zero() => {
                let budget = Budget::graceful(&self.policy, now);
                self.begin_stop(budget);
                let staffed = self.places().filter(|place| place.is_staffed());
                let pids: Vec<_> = staffed.filter_map(|place| place.pid()).collect();
                for pid in pids {
                    self.actions.push_back(Action::Command { pid, command: Command::LameDuck });
                }
                let until = (now + self.policy.drain_delay).min(budget.quick_at);
                self.phase = Phase::LameDuck { until, budget };
            }
            Phase::Canary
            | Phase::Filling
            | Phase::Serving { .. }
            | Phase::Returning
            | Phase::Paused
            | Phase::LameDuck { .. }
            | Phase::Exiting { .. }
            | Phase::Finished => self.stop_gracefully(now),
        }
    }

    /// Handles QUIT.
    pub(super) fn stop_gracefully(&mut self, now: Instant) {
        match self.phase {
            Phase::Canary
            | Phase::Filling
            | Phase::Serving { .. }
            | Phase::Returning
            | Phase::Paused => {
                let budget = Budget::graceful(&self.policy, now);
                self.begin_stop(budget);
                self.exit(Pace::Graceful, budget, Verdict::Asked, now);
            }
            Phase::LameDuck { budget, .. } => {
                self.exit(Pace::Graceful, budget, Verdict::Asked, now);
            }
            Phase::Exiting { .. } | Phase::Finished => {}
        }
    }

    /// Handles INT.
    pub(super) fn interrupt(&mut self, now: Instant) {
        let budget = Budget::quick(now, self.policy.quick);
        match self.phase {
            Phase::Canary
            | Phase::Filling
            | Phase::Serving { .. }
            | Phase::Returning
            | Phase::Paused => {
                self.begin_stop(budget);
                self.exit(Pace::Quick, budget, Verdict::Asked, now);
            }
            Phase::LameDuck { budget: before, .. } => {
                let budget = Budget { kill_at: budget.kill_at.min(before.kill_at), ..budget };
                self.exit(Pace::Quick, budget, Verdict::Asked, now);
            }
            Phase::Exiting { pace: Pace::Graceful, budget: before, verdict } => {
                let kill_at = budget.kill_at.min(before.kill_at);
                let budget = Budget { quick_at: now, kill_at };
                self.phase = Phase::Exiting { pace: Pace::Quick, budget, verdict };
                self.stop_all(Pace::Quick, budget, now);
            }
            Phase::Exiting { pace: Pace::Quick, verdict, .. } => {
                let budget = Budget { quick_at: now, kill_at: now };
                self.phase = Phase::Exiting { pace: Pace::Quick, budget, verdict };
                for index in 0..self.place_count() {
                    self.kill(index, KillReason::Overdue);
                }
            }
            Phase::Finished => {}
        }
    }

    /// Handles WINCH: all workers exit, and the listeners stay open.
    pub(super) fn pause(&mut self, now: Instant) {
        match self.phase {
            Phase::Serving { .. } | Phase::Returning => {
                self.abandon_rollout();
                self.withdraw_spawns(|_| true);
                self.phase = Phase::Paused;
                self.stop_all(Pace::Graceful, Budget::graceful(&self.policy, now), now);
            }
            Phase::Canary
            | Phase::Filling
            | Phase::Paused
            | Phase::LameDuck { .. }
            | Phase::Exiting { .. }
            | Phase::Finished => {}
        }
    }

    /// Withdraws actions that were not carried out yet, and reports that the stop has begun.
    fn begin_stop(&mut self, budget: Budget) {
        self.abandon_rollout();
        self.withdraw_spawns(|_| true);
        self.cancel_preparations(|_| true);
        self.actions.push_back(Action::ReportStopping { deadline: budget.kill_at });
    }

    /// Closes the queues and sends the command to all workers. The order matters: no new connection may enter a queue
    /// while the workers empty it, and the queue exists as long as any process has the listener open.
    fn exit(&mut self, pace: Pace, budget: Budget, verdict: Verdict, now: Instant) {
        self.phase = Phase::Exiting { pace, budget, verdict };
        self.actions.push_back(Action::CloseQueues);
        self.stop_all(pace, budget, now);
        self.actions.push_back(Action::DropListeners);
    }

    fn stop_all(&mut self, pace: Pace, budget: Budget, now: Instant) {
        for index in 0..self.place_count() {
            self.stop_worker(index, pace, budget, now);
        }
    }
}

#[cfg(test)]
mod tests;
