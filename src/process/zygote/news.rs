//! What the supervisor learns of a zygote, and the log lines that tell it.

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

/// What has become of a zygote or of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The application is loaded, and workers are forked from now on.
    Ready {
        /// Names of the threads beside the main one: no worker will have them.
        threads: Vec<String>,
        /// Sockets that the application has open: all workers will share them.
        sockets: Vec<String>,
    },
    /// The application cannot be loaded: it ends.
    Failed {
        /// How a worker would have ended.
        exit: WorkerExit,
        /// What the application, or who loads it, says about it.
        report: String,
    },
    /// It has not loaded the application in time, and was asked where it is.
    NotReady {
        /// `--boot-timeout`.
        limit: Duration,
    },
    /// It took too long, and is killed.
    Killed {
        /// With what.
        reason: Delay,
    },
    /// It has said what it cannot have to say, and is killed. What it has said before was true: nothing is
    /// taken from it without proof.
    Distrusted {
        /// What that was.
        lie: Lie,
    },
    /// A worker was forked. Its pid is told here, and nowhere else, before it can be reaped.
    Started {
        /// Where.
        slot: SlotId,
        /// In which entry.
        side: Side,
        /// Which.
        pid: Pid,
    },
    /// There is no worker for an order.
    SpawnFailed {
        /// Where.
        slot: SlotId,
        /// In which entry.
        side: Side,
        /// Why.
        cause: SpawnCause,
    },
    /// It is gone.
    Ended {
        /// How.
        status: ExitStatus,
        /// What that means.
        ending: ZygoteEnding,
    },
}

/// What no zygote has to say, unless the application speaks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing that this program says.
    Nonsense,
    /// That it is ready, or cannot load the application, after it was ready.
    Belated,
    /// The answer to an order that it was not told.
    Unordered,
    /// That it has forked this process, which is no child of the supervisor's, or has another place.
    Stranger {
        /// Which.
        pid: Pid,
    },
}

/// What a zygote may take too long with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// Loading the application.
    Revision,
    /// Forking a worker.
    Fork,
    /// Leaving.
    Leave,
}

/// Why there is no worker for an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SpawnCause {
    /// fork(2) failed in the zygote.
    #[error("fork: {0}")]
    Fork(Errno),
    /// The zygote could not be told.
    #[error("cannot tell the zygote: {0}")]
    Untold(Errno),
    /// The application cannot be loaded.
    #[error("the application cannot be loaded")]
    NotLoaded(WorkerExit),
    /// The zygote took too long.
    #[error("the zygote does not answer")]
    Late,
    /// The zygote is gone, and nobody has asked it to leave.
    #[error("the zygote is gone")]
    Gone,
    /// The zygote has lied.
    #[error("the zygote has said what cannot be")]
    Distrusted,
    /// The zygote was asked to leave.
    #[error("the zygote leaves")]
    Withdrawn,
}

/// What the end of a zygote means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZygoteEnding {
    /// It was asked to leave.
    Asked,
    /// As [`News::Failed`], [`News::Killed`] or [`News::Distrusted`] has told.
    Told,
    /// Nobody expected it. Its workers live; for more of them there has to be another zygote.
    Died,
}

impl News {
    /// Writes what an operator wants to know of it; the machine tells of workers that were started.
    pub fn write(&self, log: &Log, pid: Pid, generation: Generation) {
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
                let reason = match reason {
                    Delay::Revision => "not ready within --boot-timeout",
                    Delay::Fork => "did not fork a worker in time",
                    Delay::Leave => "did not leave in time",
                };
                line(Level::Error, "zygote.killed", &[("reason", Value::Text(reason))]);
            }
            Self::Distrusted { lie } => {
                let (reason, pid) = match lie {
                    Lie::Nonsense => ("it wrote what no zygote writes", None),
                    Lie::Belated => ("it said a second time what came of loading", None),
                    Lie::Unordered => ("it answered an order that it was not given", None),
                    Lie::Stranger { pid } => {
                        ("the process that it named is no worker of this server", Some(pid))
                    }
                };
                let mut further = vec![("reason", Value::Text(reason))];
                further.extend(pid.map(|pid| ("told_pid", Value::Number(i64::from(pid.0)))));
                line(Level::Error, "zygote.distrusted", &further);
            }
            Self::NotReady { limit } => {
                let reason = not_ready_within(*limit);
                line(Level::Error, "zygote.not_ready", &[("reason", Value::Text(&reason))]);
            }
            Self::Started { .. } => {}
            // Nobody waits for this worker any more.
            Self::SpawnFailed { cause: SpawnCause::Withdrawn, .. } => {}
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
                    ZygoteEnding::Asked | ZygoteEnding::Told => (Level::Info, "zygote.left"),
                    ZygoteEnding::Died => (Level::Warning, "zygote.died"),
                };
                line(level, event, &[("status", Value::Display(status))]);
            }
        }
    }
}
