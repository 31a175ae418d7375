//! The actions that the state machine requests. See [`crate::supervisor`].
#![expect(missing_docs, reason = "a field that is a pid, a slot or a generation needs no sentence")]

use std::time::Instant;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::{Command, Side};

use crate::supervisor::log_event::LogEvent;
use crate::supervisor::reload_outcome::ReloadOutcome;
use crate::system::pid::Pid;

/// One action of the shell. Actions are carried out in the order in which they are returned.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a worker, and answer with [`Event::Started`](super::Event::Started) or
    /// [`Event::SpawnFailed`](super::Event::SpawnFailed).
    Spawn { slot: SlotId, side: Side, generation: Generation },
    /// Run the hooks of `--on-start`, and answer with [`Event::OnStartStarted`](super::Event::OnStartStarted) or
    /// [`Event::OnStartNotStarted`](super::Event::OnStartNotStarted). Its end is an
    /// [`Event::Exited`](super::Event::Exited).
    RunOnStart { generation: Generation },
    /// Kill and reap the process of `--on-start`, if there is one.
    StopOnStart,
    /// Start a zygote, and answer with [`Event::ZygoteStarted`](super::Event::ZygoteStarted) or
    /// [`Event::ZygoteNotStarted`](super::Event::ZygoteNotStarted).
    StartZygote { generation: Generation },
    /// Ask a zygote to exit, because no more workers of its generation are wanted.
    EndZygote { pid: Pid },
    /// Write a command to a worker.
    Command { pid: Pid, command: Command },
    /// Send SIGKILL to a worker and the processes that it started.
    Kill { pid: Pid },
    /// Make a process that hangs dump its stack.
    DumpStack { pid: Pid },
    /// Read the configuration, and answer with [`Event::Configured`](super::Event::Configured) before anything
    /// else.
    Configure { generation: Generation },
    /// Put the configuration of this generation into service.
    Adopt { generation: Generation },
    /// Drop the configuration of this generation, which is not needed any more.
    Discard { generation: Generation },
    /// Report the end of a reload.
    ReloadEnded { outcome: ReloadOutcome },
    /// Report to the service manager that the first full set of workers is ready.
    ReportReady,
    /// Report that the stop has begun. The last worker is killed at the deadline, unless a later command moves that.
    ReportStopping { deadline: Instant },
    /// Close the queues for new connections: listen(2) with a backlog of 0.
    CloseQueues,
    /// Close the listeners that only this slot uses. The slot is removed, and its worker has its command.
    Retire { slot: SlotId },
    /// Close the supervisor's own listeners, because the workers know that the server stops.
    DropListeners,
    /// Write to the log.
    Log(LogEvent),
    /// End the server.
    Finish(Verdict),
}

/// The reason why the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// An operator or the service manager stopped it.
    Asked,
    /// A worker could not boot at the first start.
    NotBooted,
    /// The application could not be imported at the first start.
    NotImportable,
    /// The server had no ready worker for too long.
    CrashLoop,
}
