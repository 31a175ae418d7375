//! What can be in a slot. How one follows another is [`crate::supervisor::slot`]'s.

use std::time::Instant;

use super::{BeforeHang, KillReason};
use crate::system::pid::Pid;

/// What is in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Nobody, and nobody is wanted.
    Empty,
    /// Nobody until then.
    Backoff {
        /// When the next one is spawned.
        until: Instant,
    },
    /// A process was asked for; whether fork(2) made one is not known yet.
    Spawning,
    /// A process that loads the application.
    Starting {
        /// Its process.
        pid: Pid,
        /// When it must be ready.
        deadline: Instant,
        /// Whether that was put off once, so that it can tell where it is.
        is_late: bool,
    },
    /// A process that was told to leave before it said that it can serve.
    ///
    /// It may be unable to hear, so it is not waited for long. But it may have begun to serve at the same
    /// moment: then it has all the time that a draining worker has.
    Recalled {
        /// Its process.
        pid: Pid,
        /// When it is killed, if it is not ready by then.
        kill_at: Instant,
        /// If it is: when it is told to leave after the running request.
        ready_quick_at: Instant,
        /// If it is: when it is killed.
        ready_kill_at: Instant,
    },
    /// A process that said it cannot boot and is about to end.
    Failing {
        /// Its process.
        pid: Pid,
        /// When it is killed if it is still there.
        kill_at: Instant,
    },
    /// A worker that serves.
    Ready {
        /// Its process.
        pid: Pid,
        /// Since when.
        since: Instant,
        /// Whether it has been ready for [`SERVED_AFTER`](super::SERVED_AFTER), and
        /// [`WorkerSlot::has_served`](super::WorkerSlot::has_served) has said so.
        has_served: bool,
    },
    /// A worker that was told to finish what it took and leave.
    Draining {
        /// Its process.
        pid: Pid,
        /// When it is told to leave after the running request.
        quick_at: Instant,
        /// When it is killed.
        kill_at: Instant,
    },
    /// A worker that was told to leave after the running request.
    Quitting {
        /// Its process.
        pid: Pid,
        /// When it is killed.
        kill_at: Instant,
    },
    /// A worker that hangs: it was asked where, and is about to be killed.
    Hung {
        /// Its process.
        pid: Pid,
        /// When it is killed.
        kill_at: Instant,
        /// What it goes back to if it goes on before that.
        before: BeforeHang,
    },
    /// A process that SIGKILL was sent to; its end was not seen yet.
    Killed {
        /// Its process.
        pid: Pid,
        /// Why.
        reason: KillReason,
    },
}
