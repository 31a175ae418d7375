//! What a question asks for, who may ask for it, and the answers of the verbs.
//!
//! | path | method | what it does |
//! |---|---|---|
//! | `/livez`, `/readyz`, `/status`, `/metrics` | GET, HEAD | shows; the query is left to whoever sends one |
//! | `/reload`, `/reload?wait=1` | POST | as HUP; with `wait`, the answer comes at its end |
//! | `/stop`, `/stop?quick=1` | POST | as TERM; with `quick`, as INT |
//! | `/scale?workers=N` | POST | as TTIN and TTOU |
//! | `/dump?slot=N` | POST | makes a worker write its stack to the log |
//! | `/recycle?slot=N` | POST | replaces one worker, the new one ready before the old one leaves |
//!
//! What changes something is for who may signal the server: the owner, over the unix socket. A POST that
//! comes in another way is refused by its connection.

use arctos_worker::shared::identity::SlotId;

use super::status::Phase;
use super::{Answer, Method, Question};
use crate::supervisor::slot::{SlotState, WorkerSlot};
use crate::system::pid::Pid;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Say that somebody is there.
    Livez,
    /// Say whether requests can be sent here.
    Readyz,
    /// Show the server and its workers.
    Status,
    /// Show what was counted.
    Metrics,
    /// Configuration and code anew.
    Reload {
        /// Whether the answer comes at its end.
        wait: bool,
    },
    /// End the server.
    Stop {
        /// How.
        haste: Haste,
    },
    /// Change the number of workers.
    Scale {
        /// To so many; at least 1.
        workers: u16,
    },
    /// Make a worker say where it is.
    Dump {
        /// Which.
        slot: SlotId,
    },
    /// Replace a worker beside itself.
    Recycle {
        /// Which.
        slot: SlotId,
    },
    /// Nothing: answer so.
    Refused(Answer),
}

/// How fast a stop is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Haste {
    /// As TERM.
    Graceful,
    /// As INT.
    Quick,
}

/// What an operator does to the server, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed {
    /// The verb of `arctos ctl`.
    pub verb: &'static str,
    /// What goes with it, if anything does.
    pub with: Option<(&'static str, i64)>,
}

const NOT_FOUND: &str = "there are /livez, /readyz, /status and /metrics to GET; \
     /reload, /stop, /scale?workers=N, /dump?slot=N and /recycle?slot=N to POST\n";

impl Request {
    /// What a question asks for, if its asker may.
    pub fn read(question: &Question) -> Self {
        match question.path.as_str() {
            "/livez" => show(question, Self::Livez),
            "/readyz" => show(question, Self::Readyz),
            "/status" => show(question, Self::Status),
            "/metrics" => show(question, Self::Metrics),
            "/reload" => change(question, "/reload or /reload?wait=1", |query| {
                Some(Self::Reload { wait: switch(query, "wait")? })
            }),
            "/stop" => change(question, "/stop or /stop?quick=1", |query| {
                let haste = if switch(query, "quick")? { Haste::Quick } else { Haste::Graceful };
                Some(Self::Stop { haste })
            }),
            "/scale" => change(question, "/scale?workers=N with N from 1 to 65535", |query| {
                let workers = number(query, "workers").filter(|workers| *workers > 0)?;
                Some(Self::Scale { workers })
            }),
            "/dump" => change(question, "/dump?slot=N with N from 0 to 65535", |query| {
                Some(Self::Dump { slot: SlotId(number(query, "slot")?) })
            }),
            "/recycle" => change(question, "/recycle?slot=N with N from 0 to 65535", |query| {
                Some(Self::Recycle { slot: SlotId(number(query, "slot")?) })
            }),
            _ => Self::Refused(Answer::plain(404, NOT_FOUND)),
        }
    }

    /// What this does; `None` for what only looks.
    pub fn deed(&self) -> Option<Deed> {
        let slot = |slot: &SlotId| Some(("slot", i64::from(slot.0)));
        let (verb, with) = match self {
            Self::Reload { wait } => ("reload", wait.then_some(("wait", 1))),
            Self::Stop { haste: Haste::Graceful } => ("stop", None),
            Self::Stop { haste: Haste::Quick } => ("stop", Some(("quick", 1))),
            Self::Scale { workers } => ("scale", Some(("workers", i64::from(*workers)))),
            Self::Dump { slot: of } => ("dump", slot(of)),
            Self::Recycle { slot: of } => ("recycle", slot(of)),
            Self::Livez | Self::Readyz | Self::Status | Self::Metrics | Self::Refused(_) => {
                return None;
            }
        };
        Some(Deed { verb, with })
    }

    /// Why this cannot be done now, whatever the machine makes of it.
    pub fn refusal(&self, phase: Phase) -> Option<Answer> {
        let words = match (self, phase) {
            (Self::Reload { .. } | Self::Scale { .. } | Self::Recycle { .. }, Phase::Stopping) => {
                "the server is stopping"
            }
            (Self::Scale { .. }, Phase::Paused) => "the server is resting; a reload ends that",
            (
                Self::Livez
                | Self::Readyz
                | Self::Status
                | Self::Metrics
                | Self::Reload { .. }
                | Self::Stop { .. }
                | Self::Scale { .. }
                | Self::Dump { .. }
                | Self::Recycle { .. }
                | Self::Refused(_),
                Phase::Starting | Phase::Serving | Phase::Paused | Phase::Stopping,
            ) => return None,
        };
        Some(refused(409, words))
    }
}

fn show(question: &Question, request: Request) -> Request {
    match question.method {
        Method::Get | Method::Head => request,
        Method::WorkerInit => Request::Refused(Answer::plain(405, "only GET and HEAD\n")),
    }
}

fn change(
    question: &Question,
    expected: &str,
    read: impl FnOnce(&str) -> Option<Request>,
) -> Request {
    match question.method {
        Method::Get | Method::Head => Request::Refused(Answer::plain(405, "only POST\n")),
        Method::WorkerInit => {
            let bad = || Request::Refused(refused(400, &format!("expected {expected}")));
            read(&question.query).unwrap_or_else(bad)
        }
    }
}

/// The one value that a query has under this name; `None` for any other query.
fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query.strip_prefix(name)?.strip_prefix('=')
}

/// Off without a query.
fn switch(query: &str, name: &str) -> Option<bool> {
    match (query, value(query, name)) {
        ("", _) | (_, Some("0")) => Some(false),
        (_, Some("1")) => Some(true),
        (_, Some(_) | None) => None,
    }
}

fn number(query: &str, name: &str) -> Option<u16> {
    let text = value(query, name)?;
    // `+1` would be a number, too.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn refused(status: u16, words: &str) -> Answer {
    Answer::plain(status, &format!("refused: {words}\n"))
}

/// A reload that nobody waits for.
pub fn reloading() -> Answer {
    Answer::plain(202, "reloading; the log says how it ends\n")
}

/// A reload that cannot be: the application was given as an object, for example.
pub fn not_reloading(reason: &str) -> Answer {
    refused(409, reason)
}

/// A stop that has begun.
pub fn stopping() -> Answer {
    Answer::plain(202, "stopping\n")
}

/// So many workers, where there is room for them; else nothing is to be changed. A clamped number would
/// tell a script that it has what it asked for.
///
/// Errors: the answer that says how many there is room for.
pub fn scaled(workers: u16, ceiling: u16) -> Result<Answer, Answer> {
    if workers <= ceiling {
        Ok(Answer::plain(200, &format!("{workers} wanted\n")))
    } else {
        Err(refused(409, &format!("there is room for {ceiling} workers at most")))
    }
}

/// The process that is to write its stack; else the answer that says why there is none. A worker that starts
/// has its handler before it imports the application; before that, the signal does nothing.
pub fn dumped(slot: SlotId, slots: &[WorkerSlot]) -> Result<(Pid, Answer), Answer> {
    let state = slots.iter().find(|it| it.id() == slot).map(WorkerSlot::state);
    match state {
        Some(
            SlotState::Ready { pid, .. }
            | SlotState::Draining { pid, .. }
            | SlotState::Quitting { pid, .. }
            | SlotState::Hung { pid, .. },
        ) => {
            let words = format!("worker {} (pid {}) writes its stack to the log\n", slot.0, pid.0);
            Ok((pid, Answer::plain(200, &words)))
        }
        Some(SlotState::Starting { pid, .. }) => {
            let words = format!(
                "worker {} (pid {}) is still starting; it writes its stack to the log if its import has begun\n",
                slot.0, pid.0
            );
            Ok((pid, Answer::plain(200, &words)))
        }
        Some(SlotState::Spawning | SlotState::Recalled { .. } | SlotState::Failing { .. }) => {
            Err(refused(409, &format!("worker {} is still starting", slot.0)))
        }
        Some(SlotState::Empty | SlotState::Backoff { .. } | SlotState::Killed { .. }) | None => {
            Err(refused(404, &format!("there is no worker {}", slot.0)))
        }
    }
}

/// What is answered to the wish to replace this worker; an error where there is none that serves.
pub fn recycled(slot: SlotId, slots: &[WorkerSlot]) -> Result<Answer, Answer> {
    let state = slots.iter().find(|it| it.id() == slot).map(WorkerSlot::state);
    match state {
        Some(SlotState::Ready { pid, .. }) => {
            let words =
                format!("worker {} (pid {}) leaves when its replacement is ready\n", slot.0, pid.0);
            Ok(Answer::plain(202, &words))
        }
        Some(SlotState::Spawning | SlotState::Starting { .. } | SlotState::Failing { .. }) => {
            Err(refused(409, &format!("worker {} is still starting", slot.0)))
        }
        Some(
            SlotState::Recalled { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. }
            | SlotState::Hung { .. }
            | SlotState::Killed { .. },
        ) => Err(refused(409, &format!("worker {} is leaving", slot.0))),
        Some(SlotState::Empty | SlotState::Backoff { .. }) | None => {
            Err(refused(404, &format!("there is no worker {}", slot.0)))
        }
    }
}

#[cfg(test)]
mod tests;
