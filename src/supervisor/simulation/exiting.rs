//! Checks that no worker that serves is stopped too early: a worker that was ever ready has the whole time of a
//! graceful stop to finish its accepted work.

use super::*;

/// The progress of a process toward its exit.
#[derive(Default)]
pub(super) struct ExitState {
    /// Whether the process has been ready, perhaps after it was ordered to exit.
    pub(super) has_been_ready: bool,
    /// Whether the process hangs.
    pub(super) is_hung: bool,
    /// When the process was ordered to drain.
    pub(super) since: Option<Instant>,
}

impl World {
    /// Checks a process that is ordered to exit quickly, or is killed.
    pub(super) fn check_patience(&self, pid: Pid) {
        let exit = &self.processes[&pid.0].exit;
        let gives_up = match self.machine.phase {
            Phase::Exiting { verdict, .. } => verdict != Verdict::Asked,
            Phase::Canary
            | Phase::Filling
            | Phase::Serving { .. }
            | Phase::Paused
            | Phase::Returning
            | Phase::LameDuck { .. }
            | Phase::Finished => false,
        };
        if !exit.has_been_ready || exit.is_hung || self.interrupted || gives_up {
            return;
        }
        // The time of a stop counts from its beginning, even for a worker that gets its command later.
        let since = exit.since.into_iter().chain(self.stopping_since).min();
        let since = since.expect("the process was ordered to exit");
        let whole = self.policy.graceful * 49 / 50;
        let patience = whole - self.policy.quick.min(whole / 4);
        let had = self.now - since;
        assert!(had >= patience, "{pid:?} serves, and had {had:?} of {patience:?}");
    }
}
