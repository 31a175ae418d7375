//! What the machine is told. See [`crate::supervisor`].

use arctos_worker::shared::identity::SlotId;
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
    /// A child was reaped, maybe an adopted one that is no worker.
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
    /// What it said about its failure to boot.
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
