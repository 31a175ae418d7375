//! Events from a zygote that the supervisor acts on, and the log lines that record them.

use std::time::Duration;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::scoreboard::Side;
use arctos_worker::worker_init::WorkerExit;
use nix::errno::Errno;
use thiserror::Error;

use crate::supervisor::log_event::not_ready_within;
use crate::supervisor::slot::ExitStatus;
use crate::system::pid::Pid;

/// An event in the life of a zygote, or the outcome of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ZygoteEvent {
    /// The application is loaded, and the zygote forks workers from now on.
    Ready {
        /// Names of the threads besides the main one. They do not exist in the workers.
        threads: Vec<String>,
        /// Sockets that the application has open. All workers share them.
        sockets: Vec<String>,
    },
    /// The application cannot be loaded, and the zygote exits.
    Failed {
        /// The exit of a worker with the same failure.
        exit: WorkerExit,
        /// The report of the failure, usually a traceback.
        report: String,
    },
    /// The application was not loaded in time. The zygote writes its stack to the log before it is killed.
    NotReady {
        /// `--boot-timeout`.
        limit: Duration,
    },
    /// The zygote was killed because something took too long.
    Killed {
        /// The step that took too long.
        reason: ZygoteDelay,
    },
    /// The zygote broke the protocol and was killed. Earlier events stay valid, because each was checked before it was
    /// accepted.
    Distrusted {
        /// The rule that the zygote broke.
        violation: ProtocolViolation,
    },
    /// A worker was forked. This is the only place that reports its pid, before it can be reaped.
    Started {
        /// The slot of the worker.
        slot: SlotId,
        /// The scoreboard entry of the worker.
        side: Side,
        /// The worker's process.
        pid: Pid,
    },
    /// There is no worker for an order.
    SpawnFailed {
        /// The slot of the order.
        slot: SlotId,
        /// The scoreboard entry of the order.
        side: Side,
        /// The reason.
        cause: SpawnFailure,
    },
    /// The zygote was reaped.
    Ended {
        /// Its exit status.
        status: ExitStatus,
        /// The meaning of the end.
        ending: ZygoteEnding,
    },
}

/// A message that no zygote sends, unless the application writes to its socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolViolation {
    /// The message does not decode.
    Malformed,
    /// A second result of loading the application.
    RepeatedBootResult,
    /// An answer to an order that was not sent.
    UnknownOrder,
    /// The reported worker is not a child of the supervisor, or is one of its other children.
    ForeignProcess {
        /// The reported process.
        pid: Pid,
    },
}

/// A step that took a zygote too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZygoteDelay {
    /// Loading the application.
    Boot,
    /// Forking a worker.
    Fork,
    /// Exiting.
    Exit,
}

/// The reason why there is no worker for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SpawnFailure {
    /// fork(2) failed in the zygote.
    #[error("fork: {0}")]
    Fork(Errno),
    /// The order could not be sent.
    #[error("cannot send the order to the zygote: {0}")]
    NotSent(Errno),
    /// The application cannot be loaded.
    #[error("the application cannot be loaded")]
    NotLoaded(WorkerExit),
    /// The zygote did not answer in time.
    #[error("the zygote does not answer")]
    TimedOut,
    /// The zygote ended unexpectedly.
    #[error("the zygote is gone")]
    Gone,
    /// The zygote was killed for a [`ProtocolViolation`].
    #[error("the zygote sent an invalid message")]
    Distrusted,
    /// The zygote was asked to exit.
    #[error("the zygote is exiting")]
    Withdrawn,
}

/// The meaning of the end of a zygote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZygoteEnding {
    /// The zygote was asked to exit.
    Requested,
    /// An earlier event explains the end: [`ZygoteEvent::Failed`], [`ZygoteEvent::Killed`] or
    /// [`ZygoteEvent::Distrusted`].
    Explained,
    /// The zygote ended unexpectedly. Its workers live on; new workers need a new zygote.
    Died,
}

impl ProtocolViolation {
    const fn text(self) -> &'static str {
        match self {
            Self::Malformed => "it sent a malformed message",
            Self::RepeatedBootResult => "it reported twice whether the application is loaded",
            Self::UnknownOrder => "it answered an order that it was not sent",
            Self::ForeignProcess { .. } => {
                "the process that it reported is not a worker of this server"
            }
        }
    }
}

impl ZygoteDelay {
    const fn text(self) -> &'static str {
        match self {
            Self::Boot => "not ready within --boot-timeout",
            Self::Fork => "did not fork a worker in time",
            Self::Exit => "did not exit in time",
        }
    }
}

impl ZygoteEvent {
    /// Logs the event. The state machine of the supervisor logs the workers that were started.
    pub fn log(&self, log: &Log, pid: Pid, generation: Generation) {
        let pairs = [
            ("pid", Value::Number(i64::from(pid.0))),
            ("generation", Value::Number(i64::from(generation.0))),
        ];
        let line = |level, event, further: &[(&str, Value<'_>)]| {
            log.line(level, event, &[&pairs[..], further].concat());
        };
        match self {
            Self::Ready { threads, sockets } => {
                line(Level::Info, "zygote.ready", &[]);
                if !threads.is_empty() {
                    let names = threads.join(", ");
                    line(Level::Warning, "zygote.threads", &[("threads", Value::Text(&names))]);
                }
                if !sockets.is_empty() {
                    let names = sockets.join(", ");
                    line(Level::Warning, "zygote.sockets", &[("sockets", Value::Text(&names))]);
                }
            }
            Self::Failed { exit: _, report } => {
                log.block(Level::Error, "zygote.boot_failed", &pairs, report);
            }
            Self::Killed { reason } => {
                line(Level::Error, "zygote.killed", &[("reason", Value::Text(reason.text()))]);
            }
            Self::Distrusted { violation } => {
                let mut further = vec![("reason", Value::Text(violation.text()))];
                if let ProtocolViolation::ForeignProcess { pid } = violation {
                    further.push(("reported_pid", Value::Number(i64::from(pid.0))));
                }
                line(Level::Error, "zygote.message_rejected", &further);
            }
            Self::NotReady { limit } => {
                let reason = not_ready_within(*limit);
                line(Level::Error, "zygote.not_ready", &[("reason", Value::Text(&reason))]);
            }
            Self::Started { .. } => {}
            // The worker is no longer wanted.
            Self::SpawnFailed { cause: SpawnFailure::Withdrawn, .. } => {}
            Self::SpawnFailed { slot, side: _, cause } => {
                let pairs = [
                    ("slot", Value::Number(i64::from(slot.0))),
                    ("generation", Value::Number(i64::from(generation.0))),
                    ("reason", Value::Display(cause)),
                ];
                log.line(Level::Error, "worker.spawn_failed", &pairs);
            }
            Self::Ended { status, ending } => {
                let (level, event) = match ending {
                    ZygoteEnding::Requested | ZygoteEnding::Explained => {
                        (Level::Info, "zygote.exited")
                    }
                    ZygoteEnding::Died => (Level::Warning, "zygote.died"),
                };
                line(level, event, &[("status", Value::Display(status))]);
            }
        }
    }
}
