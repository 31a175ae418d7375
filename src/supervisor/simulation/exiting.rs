//! No worker that serves is stopped quickly: a worker that was ever ready has the whole of a graceful stop to finish
//! what it accepted.

use super::*;

/// How far a process is from its exit.
#[derive(Default)]
pub(super) struct ExitState {
    /// It has been ready, perhaps after it was told to exit.
    pub(super) has_been_ready: bool,
    /// It hangs.
    pub(super) is_hung: bool,
    /// When it was told to drain.
    pub(super) since: Option<Instant>,
}

impl World {
    /// A process is told to exit quickly, or is killed.
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
        // A stop counts from its own beginning, whenever a worker is told.
        let since = exit.since.into_iter().chain(self.stopping_since).min();
        let since = since.expect("nobody had told it to leave");
        let whole = self.policy.graceful * 49 / 50;
        let patience = whole - self.policy.quick.min(whole / 4);
        let had = self.now - since;
        assert!(had >= patience, "{pid:?} serves, and had {had:?} of {patience:?}");
    }
}
