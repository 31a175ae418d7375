//! The events of the state machine: what happened to its processes, and what operators request. See
//! [`crate::supervisor`].
#![expect(missing_docs, reason = "a field that is a pid, a slot or a generation needs no sentence")]

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::Side;

use super::{Policy, Verdict};
use crate::supervisor::log_event::Answered;
use crate::supervisor::slot::ExitStatus;
use crate::system::pid::Pid;

/// One event. Time is a separate argument of [`Supervisor::handle`](super::Supervisor::handle).
#[derive(Clone, Debug)]
pub enum Event {
    /// [`Action::Spawn`](super::Action::Spawn) started a process.
    Started { slot: SlotId, side: Side, pid: Pid },
    /// [`Action::Spawn`](super::Action::Spawn) failed. A server that had no full set of workers yet ends with this
    /// verdict.
    SpawnFailed { slot: SlotId, side: Side, verdict: Verdict },
    /// [`Action::RunOnStart`](super::Action::RunOnStart) started a process.
    OnStartStarted { generation: Generation, pid: Pid },
    /// [`Action::RunOnStart`](super::Action::RunOnStart) failed, and the log says why.
    OnStartNotStarted { generation: Generation },
    /// [`Action::StartZygote`](super::Action::StartZygote) started a process.
    ZygoteStarted { generation: Generation, pid: Pid },
    /// [`Action::StartZygote`](super::Action::StartZygote) failed, and the log says why.
    ZygoteNotStarted { generation: Generation },
    /// A zygote has loaded the application and forks workers from now on.
    ZygoteReady { pid: Pid },
    /// A zygote cannot be used any more: it failed to load the application, was killed, or is gone. Its
    /// [`Event::Exited`] follows. `reason` is logged for the spawns that waited for it.
    ZygoteLost { pid: Pid, verdict: Verdict, reason: String },
    /// A worker can serve.
    Ready { pid: Pid },
    /// A worker cannot boot; its report comes with [`Event::Exited`].
    Failing { pid: Pid },
    /// A worker hangs in a request, in an exit hook, or because its loop makes no progress.
    Hung { pid: Pid },
    /// A worker that hung goes on, so it was only busy.
    GoesOn { pid: Pid },
    /// The loop of a worker ended a moment ago. The worker serves no more requests, but exit hooks or threads keep its
    /// process running. This may be reported more than once.
    LoopEnded { pid: Pid, had_request: bool },
    /// A worker has reached one of its limits, or a request of it was interrupted, and it must be recycled.
    LimitReached { pid: Pid },
    /// A child was reaped: a worker, a zygote, the process of `--on-start`, or an orphan that was adopted.
    Exited { pid: Pid, status: ExitStatus, details: ExitDetails },
    /// [`Action::Configure`](super::Action::Configure) was carried out. `None` if the configuration cannot be used;
    /// the log says why.
    Configured { policy: Option<Policy> },
    /// An operator has sent a command.
    OperatorCommand(OperatorCommand),
    /// Time has passed, and deadlines have to be checked.
    Tick,
}

/// Details about a process that has exited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitDetails {
    /// The reason why it could not boot, or why `--on-start` failed.
    pub report: Option<String>,
    /// Whether the worker had received a request.
    pub had_request: bool,
    /// Whether a request was running when it ended.
    pub was_in_request: bool,
    /// Whether workers of the old code crash in the same requests. Such a crash is no evidence against the new code.
    pub is_baseline: bool,
    /// What its clients got.
    pub answered: Answered,
}

/// A command of an operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorCommand {
    /// TERM: stop gracefully, after the drain delay.
    Terminate,
    /// QUIT: stop gracefully.
    Quit,
    /// INT: stop quickly.
    Interrupt,
    /// HUP: reload configuration and code.
    Reload,
    /// WINCH: stop all workers and keep listening.
    Pause,
    /// TTIN: add one worker.
    More,
    /// TTOU: remove one worker.
    Fewer,
    /// Run this many workers.
    Scale { workers: u16 },
    /// Recycle one worker, as if it had reached a limit.
    Recycle { slot: SlotId },
}
