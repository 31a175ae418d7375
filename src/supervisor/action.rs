//! What the machine wants done. See [`crate::supervisor`].

use std::time::Instant;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::{Command, Side};

use crate::supervisor::log_event::LogEvent;
use crate::supervisor::reload_outcome::ReloadOutcome;
use crate::system::pid::Pid;

/// What is to be done, in this order.
#[derive(Debug, PartialEq, Eq)]
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
    /// Run the hooks of `--on-start`, and answer with [`Event::OnStartStarted`] or
    /// [`Event::OnStartNotStarted`]. Its end is an [`Event::Exited`].
    ///
    /// [`Event::OnStartStarted`]: super::Event::OnStartStarted
    /// [`Event::OnStartNotStarted`]: super::Event::OnStartNotStarted
    /// [`Event::Exited`]: super::Event::Exited
    RunOnStart {
        /// The generation that they prepare.
        generation: Generation,
    },
    /// Kill and reap the process of `--on-start`, if there is one.
    StopOnStart,
    /// Start a zygote, and answer with [`Event::ZygoteStarted`] or [`Event::ZygoteNotStarted`].
    ///
    /// [`Event::ZygoteStarted`]: super::Event::ZygoteStarted
    /// [`Event::ZygoteNotStarted`]: super::Event::ZygoteNotStarted
    StartZygote {
        /// The generation whose workers it forks.
        generation: Generation,
    },
    /// No worker of a zygote is wanted any more: tell it to end.
    EndZygote {
        /// The zygote.
        pid: Pid,
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
