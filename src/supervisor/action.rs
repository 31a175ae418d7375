//! What the machine wants done. See [`crate::supervisor`].

use std::time::Instant;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::{Command, Side};

use crate::supervisor::log_event::LogEvent;
use crate::system::pid::Pid;

/// What is to be done, in this order.
#[derive(Debug)]
pub enum Action {
    /// Start a worker, and answer with [`Event::Started`] or [`Event::SpawnFailed`].
    Spawn {
        /// Where.
        slot: SlotId,
        /// In which entry.
        side: Side,
        /// Of which load of the code.
        generation: Generation,
    },
    /// Tell a worker.
    Command {
        /// Whom.
        pid: Pid,
        /// What.
        command: Command,
    },
    /// SIGKILL for a worker and the processes it started.
    Kill {
        /// Whom.
        pid: Pid,
    },
    /// Make a worker that hangs say where.
    DumpStack {
        /// Whom.
        pid: Pid,
    },
    /// Read the configuration anew, and answer with [`Event::Configured`] before anything else.
    Configure {
        /// For which generation.
        generation: Generation,
    },
    /// The configuration of this generation is the one that holds.
    Adopt {
        /// Which.
        generation: Generation,
    },
    /// The configuration of this generation is not needed any more.
    Discard {
        /// Which.
        generation: Generation,
    },
    /// A reload has come to its end.
    ReloadEnded {
        /// How.
        outcome: ReloadOutcome,
    },
    /// The first full set is ready: say so to the world.
    ReportReady,
    /// The stop has begun: say so to the world.
    ReportStopping {
        /// When the last worker is killed, if nothing hastens it.
        deadline: Instant,
    },
    /// No new connection enters the queue: listen(2) with a backlog of 0.
    CloseDoor,
    /// A slot is given up, and its worker told: close the listeners that are this slot's alone.
    Retire {
        /// Which.
        slot: SlotId,
    },
    /// The workers know: close the supervisor's own listeners.
    DropListeners,
    /// Tell the log.
    Log(LogEvent),
    /// All is over.
    Finish(Verdict),
}

/// How a reload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// All workers are of the new generation.
    Done,
    /// The new configuration cannot be used: nothing was changed.
    Misconfigured,
    /// The first worker of the new generation did not boot, or did not live: nothing was changed.
    CanaryFailed,
    /// Workers of the new generation died: all that serve are of the old one again.
    Halted,
    /// The server stopped or was sent to rest.
    Abandoned,
}

/// Why the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was asked to.
    Asked,
    /// A worker failed to boot at first start.
    NotBooted,
    /// The application could not be imported at first start.
    NotImportable,
    /// No worker was ready for too long.
    CrashLoop,
}
