//! The states of a slot. The transitions are in [`crate::supervisor::slot`].

use std::time::Instant;

use super::KillReason;
use super::before_hang::BeforeHang;
use crate::system::pid::Pid;

/// The state of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// There is no process, and none is wanted.
    Empty,
    /// There is no process until then.
    Backoff {
        /// When the next worker is spawned.
        until: Instant,
    },
    /// A process was requested; whether fork(2) made one is not known yet.
    Spawning,
    /// A process that loads the application.
    Starting {
        /// Its process.
        pid: Pid,
        /// When it must be ready.
        deadline: Instant,
        /// Whether the deadline was postponed once, so that it can dump its stack.
        is_late: bool,
    },
    /// A process that was told to exit before it was ready.
    ///
    /// It may be unable to read the command, so it does not get long. But it may have begun to serve at the same moment:
    /// then it has all the time of a draining worker.
    Recalled {
        /// Its process.
        pid: Pid,
        /// When it is killed, if it is not ready by then.
        kill_at: Instant,
        /// If it is ready: when it is told to exit after the running request.
        ready_quick_at: Instant,
        /// If it is ready: when it is killed.
        ready_kill_at: Instant,
    },
    /// A process that cannot boot and is about to exit.
    Failing {
        /// Its process.
        pid: Pid,
        /// When it is killed if it has not exited.
        kill_at: Instant,
    },
    /// A worker that serves.
    Ready {
        /// Its process.
        pid: Pid,
        /// When it became ready.
        since: Instant,
        /// Whether it has been ready for [`SERVED_AFTER`](super::SERVED_AFTER), and
        /// [`WorkerSlot::has_served`](super::WorkerSlot::has_served) has said so.
        has_served: bool,
    },
    /// A worker that was told to finish what it accepted and exit.
    Draining {
        /// Its process.
        pid: Pid,
        /// When it is told to exit after the running request.
        quick_at: Instant,
        /// When it is killed.
        kill_at: Instant,
    },
    /// A worker that was told to exit after the running request.
    Quitting {
        /// Its process.
        pid: Pid,
        /// When it is killed.
        kill_at: Instant,
    },
    /// A worker that hangs: it was made to dump its stack, and is about to be killed.
    Hung {
        /// Its process.
        pid: Pid,
        /// When it is killed.
        kill_at: Instant,
        /// The state that it returns to if it goes on before that.
        before: BeforeHang,
    },
    /// A process that was killed and not reaped yet.
    Killed {
        /// Its process.
        pid: Pid,
        /// Why it was killed.
        reason: KillReason,
    },
}
