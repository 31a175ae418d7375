//! What the machine is told. See [`crate::supervisor`].

use arctos_worker::identity::SlotId;

use crate::slot::{ExitStatus, Pid};

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// [`Action::Spawn`] made a process.
    Started {
        /// Where.
        slot: SlotId,
        /// Which.
        pid: Pid,
    },
    /// [`Action::Spawn`] made nothing.
    SpawnFailed {
        /// Where.
        slot: SlotId,
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
    /// A child was reaped, maybe an adopted one that is no worker.
    Exited {
        /// Which.
        pid: Pid,
        /// How.
        status: ExitStatus,
        /// What it said about its failure to boot.
        report: Option<String>,
    },
    /// An operator's wish.
    Wish(Wish),
    /// Time has passed: judge the deadlines.
    Tick,
}

/// What an operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// TERM: stop gracefully, after the drain delay.
    Terminate,
    /// QUIT: stop gracefully.
    Quit,
    /// INT: stop quickly.
    Interrupt,
    /// TTIN: one worker more.
    More,
    /// TTOU: one worker fewer.
    Fewer,
}
