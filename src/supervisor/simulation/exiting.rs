//! Nothing that serves is dismissed quickly: a worker that was ever ready has the whole of a graceful stop
//! to finish what it took.

use super::*;

/// What a process was told, and what it is worth.
#[derive(Default)]
pub(super) struct ExitState {
    /// It has said that it can serve, be it after it was told to leave.
    pub(super) has_been_ready: bool,
    /// It was found hanging.
    pub(super) is_hung: bool,
    /// When it was told to drain.
    pub(super) since: Option<Instant>,
}

impl World {
    /// A process is told to leave quickly, or killed.
    pub(super) fn check_patience(&self, pid: Pid) {
        let leaving = &self.processes[&pid.0].leaving;
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
        if !leaving.has_been_ready || leaving.is_hung || self.interrupted || gives_up {
            return;
        }
        // A stop counts from its own beginning, whoever is told later.
        let since = leaving.since.into_iter().chain(self.stopping_since).min();
        let since = since.expect("nobody had told it to leave");
        let whole = self.policy.graceful * 49 / 50;
        let patience = whole - self.policy.quick.min(whole / 4);
        let had = self.now - since;
        assert!(had >= patience, "{pid:?} serves, and had {had:?} of {patience:?}");
    }
}
