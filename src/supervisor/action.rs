//! The actions that the machine asks for. See [`crate::supervisor`].
#![expect(missing_docs, reason = "a field that is a pid, a slot or a generation needs no sentence")]

use std::time::Instant;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::{Command, Side};

use crate::supervisor::log_event::LogEvent;
use crate::supervisor::reload_outcome::ReloadOutcome;
use crate::system::pid::Pid;

/// What the shell is to do, in this order.
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
    /// Tell a zygote to exit, because none of its workers is wanted any more.
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
    /// The configuration of this generation is in service from now on.
    Adopt { generation: Generation },
    /// The configuration of this generation is not needed any more.
    Discard { generation: Generation },
    /// A reload has ended.
    ReloadEnded { outcome: ReloadOutcome },
    /// The first full set of workers is ready: report it to the service manager.
    ReportReady,
    /// The stop has begun: report it. The last worker is killed at the deadline, if nothing hastens that.
    ReportStopping { deadline: Instant },
    /// Let no new connection into the queues: listen(2) with a backlog of 0.
    CloseDoor,
    /// A slot is removed, and its worker knows: close the listeners that are this slot's alone.
    Retire { slot: SlotId },
    /// The workers know that the server stops: close the supervisor's own listeners.
    DropListeners,
    /// Write to the log.
    Log(LogEvent),
    /// The server has ended.
    Finish(Verdict),
}

/// Why the server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was asked to.
    Asked,
    /// A worker could not boot at the first start.
    NotBooted,
    /// The application could not be imported at the first start.
    NotImportable,
    /// No worker was ready for too long.
    CrashLoop,
}
