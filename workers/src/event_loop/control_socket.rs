//! The control socket after its end of file: is the supervisor gone, or only the connection to it?
//!
//! | state | event | next |
//! |---|---|---|
//! | Open | end of file | Ended |
//! | Ended | the supervisor has exited | Resolved, [`ControlLoss::Orphaned`] |
//! | Ended | the parent is still another process after [`GRACE`] | Resolved, [`ControlLoss::Orphaned`] |
//! | Ended | the supervisor still runs after [`GRACE`] | Resolved, [`ControlLoss::Disconnected`] |
//!
//! Pure: time is an argument.

use std::time::{Duration, Instant};

use crate::process::supervisor_process::Presence;

/// How long a supervisor may still seem to run after the end of file. The kernel closes the files of a process
/// before it reports its exit, and under load the latter may come a little later.
const GRACE: Duration = Duration::from_secs(1);
/// How often the worker checks meanwhile.
const CHECK_INTERVAL: Duration = Duration::from_millis(10);

/// The state of a worker's control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlSocket {
    Open,
    Ended { since: Instant },
    Resolved { since: Instant },
}

/// What the end of the control socket meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ControlLoss {
    /// The supervisor is gone: nobody else looks after what the workers share.
    Orphaned,
    /// The supervisor runs, but has given this worker up or cannot reach it. The worker does not touch what the
    /// workers share.
    Disconnected,
}

impl ControlSocket {
    /// Reads end of file.
    pub(super) fn end(&mut self, now: Instant) {
        match self {
            Self::Open => *self = Self::Ended { since: now },
            Self::Ended { .. } | Self::Resolved { .. } => {}
        }
    }

    /// Checks whether the supervisor is gone, if the socket has ended. Returns what its end meant, once.
    pub(super) fn resolve(
        &mut self,
        presence: impl FnOnce() -> Presence,
        now: Instant,
    ) -> Option<ControlLoss> {
        let Self::Ended { since } = *self else { return None };
        let loss = match presence() {
            Presence::Gone => ControlLoss::Orphaned,
            Presence::Alive | Presence::Uncertain if now < since + GRACE => return None,
            Presence::Uncertain => ControlLoss::Orphaned,
            Presence::Alive => ControlLoss::Disconnected,
        };
        *self = Self::Resolved { since: now };
        Some(loss)
    }

    /// When to check again.
    pub(super) fn next_deadline(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Ended { .. } => Some(now + CHECK_INTERVAL),
            Self::Open | Self::Resolved { .. } => None,
        }
    }

    /// Since when the supervisor does not look after this worker.
    pub(super) fn lost_at(self) -> Option<Instant> {
        match self {
            Self::Open => None,
            Self::Ended { since } | Self::Resolved { since } => Some(since),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exited_supervisor_is_reported_once() {
        let now = Instant::now();
        let mut socket = ControlSocket::Open;
        assert_eq!(socket.resolve(|| Presence::Gone, now), None, "an open socket is not checked");
        socket.end(now);
        assert_eq!(socket.resolve(|| Presence::Gone, now), Some(ControlLoss::Orphaned));
        socket.end(now);
        assert_eq!(socket.resolve(|| Presence::Gone, now), None);
        assert_eq!(socket.next_deadline(now), None);
    }

    #[test]
    fn a_supervisor_that_exits_a_moment_after_its_socket_is_gone_all_the_same() {
        let now = Instant::now();
        let mut socket = ControlSocket::Open;
        socket.end(now);
        assert_eq!(socket.resolve(|| Presence::Alive, now), None);
        assert_eq!(socket.next_deadline(now), Some(now + CHECK_INTERVAL));
        let loss = socket.resolve(|| Presence::Gone, now + CHECK_INTERVAL);
        assert_eq!(loss, Some(ControlLoss::Orphaned));
    }

    /// Without a pidfd, the worker of a zygote is at first the child of the process between them.
    #[test]
    fn another_parent_means_that_the_supervisor_is_gone_only_after_a_while() {
        let now = Instant::now();
        let mut socket = ControlSocket::Open;
        socket.end(now);
        let early = now + GRACE - CHECK_INTERVAL;
        assert_eq!(socket.resolve(|| Presence::Uncertain, early), None);
        let mut becomes_child = socket;
        let loss = becomes_child.resolve(|| Presence::Alive, now + GRACE);
        assert_eq!(loss, Some(ControlLoss::Disconnected));
        let loss = socket.resolve(|| Presence::Uncertain, now + GRACE);
        assert_eq!(loss, Some(ControlLoss::Orphaned));
    }

    #[test]
    fn a_supervisor_that_goes_on_running_has_only_lost_the_connection() {
        let now = Instant::now();
        let mut socket = ControlSocket::Open;
        socket.end(now);
        assert_eq!(socket.resolve(|| Presence::Alive, now + GRACE - CHECK_INTERVAL), None);
        let loss = socket.resolve(|| Presence::Alive, now + GRACE);
        assert_eq!(loss, Some(ControlLoss::Disconnected));
        assert_eq!(socket.resolve(|| Presence::Gone, now + GRACE), None);
    }
}
