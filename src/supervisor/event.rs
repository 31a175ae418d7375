//! What the machine is told. See [`crate::supervisor`].

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::scoreboard::Side;

use super::{Policy, Verdict};
use crate::supervisor::slot::ExitStatus;
use crate::system::pid::Pid;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// [`Action::Spawn`] made a process.
    Started {
        /// Where.
        slot: SlotId,
        /// In which entry.
        side: Side,
        /// Which.
        pid: Pid,
    },
    /// [`Action::Spawn`] made nothing.
    SpawnFailed {
        /// Where.
        slot: SlotId,
        /// In which entry.
        side: Side,
        /// How a server ends that has not had a full set of workers yet.
        verdict: Verdict,
    },
    /// [`Action::RunOnStart`] started a process.
    OnStartStarted {
        /// The generation that it prepares.
        generation: Generation,
        /// The process.
        pid: Pid,
    },
    /// [`Action::RunOnStart`] could not start a process, which the log says.
    OnStartNotStarted {
        /// The generation that it should have prepared.
        generation: Generation,
    },
    /// [`Action::StartZygote`] started a process.
    ZygoteStarted {
        /// The generation whose workers it forks.
        generation: Generation,
        /// The process.
        pid: Pid,
    },
    /// [`Action::StartZygote`] could not start a process, which the log says.
    ZygoteNotStarted {
        /// The generation whose workers it should have forked.
        generation: Generation,
    },
    /// A zygote has loaded the application and forks workers from now on.
    ZygoteReady {
        /// The zygote.
        pid: Pid,
    },
    /// A zygote cannot be used any more: it failed to load the application, was killed, or is gone. Its
    /// [`Event::Exited`] follows.
    ZygoteLost {
        /// The zygote.
        pid: Pid,
        /// How a server ends that has not had a full set of workers yet.
        verdict: Verdict,
        /// What the log says about the spawns that waited for it.
        reason: String,
    },
    /// A worker says it can serve.
    Ready {
        /// Which.
        pid: Pid,
    },
    /// A worker says it cannot boot; the text comes with [`Event::Exited`].
    Failing {
        /// Which.
        pid: Pid,
    },
    /// A worker hangs: in a request or an exit hook, or its loop does not turn.
    Hung {
        /// Which.
        pid: Pid,
    },
    /// A worker that hung goes on: it was busy.
    GoesOn {
        /// Which.
        pid: Pid,
    },
    /// The loop of a worker has been over for a moment: it serves nobody any more, and its process has not ended,
    /// because of exit hooks or threads. It may be told more than once.
    LoopEnded {
        /// Which.
        pid: Pid,
        /// Whether it was given a request.
        had_request: bool,
    },
    /// A worker has reached one of its limits, and is to be replaced.
    LimitReached {
        /// Which.
        pid: Pid,
    },
    /// A child was reaped: a worker, a zygote, the process of `--on-start`, or an orphan that was adopted.
    Exited {
        /// Which.
        pid: Pid,
        /// How.
        status: ExitStatus,
        /// What its life was.
        details: ExitDetails,
    },
    /// [`Action::Configure`] was carried out.
    Configured {
        /// What was read; `None` when it cannot be used, which the log says.
        policy: Option<Policy>,
    },
    /// An operator's wish.
    OperatorCommand(OperatorCommand),
    /// Time has passed: judge the deadlines.
    Tick,
}

/// What is known of the life of a worker that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExitDetails {
    /// What it reported about its failure to boot, or to run `--on-start`.
    pub report: Option<String>,
    /// Whether it was given a request.
    pub had_request: bool,
    /// Whether one was running when it ended.
    pub was_in_request: bool,
    /// Whether it died of what workers of the old code die of, too: that says nothing against the new one.
    pub is_baseline: bool,
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperatorCommand {
    /// TERM: stop gracefully, after the drain delay.
    Terminate,
    /// QUIT: stop gracefully.
    Quit,
    /// INT: stop quickly.
    Interrupt,
    /// HUP: configuration and code anew.
    Reload,
    /// WINCH: send all workers away and keep listening.
    Pause,
    /// TTIN: one worker more.
    More,
    /// TTOU: one worker fewer.
    Fewer,
    /// So many workers.
    Scale {
        /// How many.
        workers: u16,
    },
    /// Replace one worker beside itself, as if it was worn out.
    Recycle {
        /// Whose.
        slot: SlotId,
    },
}
