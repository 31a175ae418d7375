//! The states of a slot. The transitions are in [`crate::supervisor::slot`].

use std::time::Instant;

use arctos_worker::shared::scoreboard::Side;

use super::KillReason;
use super::before_hang::BeforeHang;
use crate::system::pid::Pid;

/// The state of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// There is no process, and none is needed.
    Empty,
    /// There is no process, and the next one is delayed.
    Backoff {
        /// When the next worker is spawned.
        until: Instant,
    },
    /// A process was requested, and whether it exists is not known yet.
    Spawning {
        /// The entry of the last process.
        last_side: Side,
        /// Whether the slot was given up in the meantime, so that the process is asked to exit once it exists.
        is_dismissed: bool,
    },
    /// A process that loads the application.
    Starting {
        /// The process of the slot.
        pid: Pid,
        /// When the process must be ready.
        deadline: Instant,
        /// Whether the deadline was postponed once, so that the process can dump its stack.
        is_late: bool,
    },
    /// A process that was asked to exit before it was ready.
    ///
    /// The process may be unable to read the command, so it gets little time. But it may also have begun to serve at
    /// the same moment. Then it has as much time as a draining worker.
    Recalled {
        /// The process of the slot.
        pid: Pid,
        /// When the process is killed, unless it is ready by then.
        kill_at: Instant,
        /// When the process is ordered to exit after the running request, if it is ready.
        ready_quick_at: Instant,
        /// When the process is killed, if it is ready.
        ready_kill_at: Instant,
    },
    /// A process that cannot boot and is about to exit.
    Failing {
        /// The process of the slot.
        pid: Pid,
        /// When the process is killed, unless it has exited.
        kill_at: Instant,
    },
    /// A worker that serves.
    Ready {
        /// The process of the slot.
        pid: Pid,
        /// When the worker became ready.
        since: Instant,
        /// Whether the worker has been ready for [`SERVED_AFTER`](super::SERVED_AFTER), and
        /// [`WorkerSlot::has_served`](super::WorkerSlot::has_served) has returned true.
        has_served: bool,
    },
    /// A worker that was asked to finish its accepted work and exit.
    Draining {
        /// The process of the slot.
        pid: Pid,
        /// When the worker is ordered to exit after the running request.
        quick_at: Instant,
        /// When the process is killed.
        kill_at: Instant,
    },
    /// A worker that was asked to exit after the running request.
    Quitting {
        /// The process of the slot.
        pid: Pid,
        /// When the process is killed.
        kill_at: Instant,
    },
    /// A worker that hangs. It was made to dump its stack, and is about to be killed.
    Hung {
        /// The process of the slot.
        pid: Pid,
        /// When the process is killed.
        kill_at: Instant,
        /// The state to which the worker returns if it goes on before that.
        before: BeforeHang,
    },
    /// A process that was killed and is not reaped yet.
    Killed {
        /// The process of the slot.
        pid: Pid,
        /// The reason why the process was killed.
        reason: KillReason,
    },
}
