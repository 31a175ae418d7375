//! The verbs of the admin socket: one table of paths, methods and parameters for the server and for `arctos ctl`,
//! and the responses to the verbs that change something.
//!
//! | path | method | effect |
//! |---|---|---|
//! | `/livez`, `/readyz`, `/status`, `/metrics` | GET, HEAD | shows something; the query is ignored |
//! | `/quarantine` | GET, HEAD | shows the requests in quarantine; the query is ignored |
//! | `/reload`, `/reload?wait=1` | POST | like HUP; with `wait`, the response comes when the reload has ended |
//! | `/stop`, `/stop?quick=1` | POST | like TERM; with `quick`, like INT |
//! | `/scale?workers=N` | POST | like TTIN and TTOU |
//! | `/dump?slot=N` | POST | makes a worker write its stack to the log |
//! | `/recycle?slot=N` | POST | replaces one worker, once its replacement is ready |
//! | `/release`, `/release?number=N` | POST | ends all quarantines, or one |
//! | `/profile?seconds=N`, `/profile?seconds=N&slot=N` | POST | samples all workers, or one; the response comes at the end |
//!
//! Only a client that may signal the server may change it: the owner, over the unix socket. A POST that arrives
//! in another way is refused by `connection`.

use std::mem::discriminant;
use std::num::NonZeroU16;

use arctos_worker::shared::identity::SlotId;

use super::{AdminRequest, AdminResponse, Method};
use crate::profile::MAX_SECONDS;
use crate::supervisor::ServiceState;
use crate::supervisor::slot::{SlotState, WorkerSlot};
use crate::system::pid::Pid;

/// Something that a client of the admin socket can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Shows that the supervisor is alive.
    Livez,
    /// Shows whether the server can take requests.
    Readyz,
    /// Shows the server and its workers.
    Status,
    /// Shows the counters and gauges.
    Metrics,
    /// Shows the requests in quarantine.
    Quarantine,
    /// Reloads the configuration and the code.
    Reload {
        /// Whether the response comes when the reload has ended.
        wait: bool,
    },
    /// Stops the server.
    Stop {
        /// How the server stops.
        mode: StopMode,
    },
    /// Changes the number of workers.
    Scale {
        /// The new number of workers, at least 1.
        workers: u16,
    },
    /// Makes a worker write its stack to the log.
    Dump {
        /// The slot of the worker.
        slot: SlotId,
    },
    /// Replaces a worker, once its replacement is ready.
    Recycle {
        /// The slot of the worker.
        slot: SlotId,
    },
    /// Ends quarantines.
    Release {
        /// The number of the quarantine; `None` ends all.
        number: Option<NonZeroU16>,
    },
    /// Samples the Python stacks of workers; the response comes at the end.
    Profile {
        /// How long.
        seconds: u16,
        /// The slot of the only worker to sample; `None` samples all.
        slot: Option<SlotId>,
    },
}

/// How a server stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Running requests finish first, as after TERM.
    Graceful,
    /// Running requests get a moment, as after INT.
    Quick,
}

/// How a verb is written.
struct Spec {
    /// The path after its slash, and the verb of `arctos ctl`.
    name: &'static str,
    access: Access,
    parameter: Parameter,
    /// Makes the verb from the values of its parameters.
    verb: fn(Values) -> Verb,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// GET and HEAD: the verb only shows something.
    Show,
    /// POST: the verb changes something.
    Change,
}

/// The values of the query of a verb.
#[derive(Clone, Copy)]
struct Values {
    /// 0 if there is none.
    first: u16,
    second: Option<u16>,
}

/// The query of a verb.
#[derive(Clone, Copy)]
enum Parameter {
    None,
    /// 0 or 1; 0 if it is absent.
    Switch {
        name: &'static str,
    },
    /// A number from 1 to 65535; 0 if it is absent.
    Optional {
        name: &'static str,
    },
    /// A number up to 65535, which is required.
    Number {
        name: &'static str,
        minimum: u16,
    },
    /// A number from 1 to `maximum`, which is required, and the number of a slot, which is not.
    OfSlots {
        name: &'static str,
        maximum: u16,
    },
}

const SLOT: Parameter = Parameter::Number { name: "slot", minimum: 0 };

/// All verbs.
static SPECS: [Spec; 12] = [
    Spec { name: "livez", access: Access::Show, parameter: Parameter::None, verb: |_| Verb::Livez },
    Spec {
        name: "readyz",
        access: Access::Show,
        parameter: Parameter::None,
        verb: |_| Verb::Readyz,
    },
    Spec {
        name: "status",
        access: Access::Show,
        parameter: Parameter::None,
        verb: |_| Verb::Status,
    },
    Spec {
        name: "metrics",
        access: Access::Show,
        parameter: Parameter::None,
        verb: |_| Verb::Metrics,
    },
    Spec {
        name: "quarantine",
        access: Access::Show,
        parameter: Parameter::None,
        verb: |_| Verb::Quarantine,
    },
    Spec {
        name: "reload",
        access: Access::Change,
        parameter: Parameter::Switch { name: "wait" },
        verb: |wait| Verb::Reload { wait: wait.first == 1 },
    },
    Spec {
        name: "stop",
        access: Access::Change,
        parameter: Parameter::Switch { name: "quick" },
        verb: |quick| Verb::Stop {
            mode: if quick.first == 1 { StopMode::Quick } else { StopMode::Graceful },
        },
    },
    Spec {
        name: "scale",
        access: Access::Change,
        parameter: Parameter::Number { name: "workers", minimum: 1 },
        verb: |workers| Verb::Scale { workers: workers.first },
    },
    Spec {
        name: "dump",
        access: Access::Change,
        parameter: SLOT,
        verb: |slot| Verb::Dump { slot: SlotId(slot.first) },
    },
    Spec {
        name: "recycle",
        access: Access::Change,
        parameter: SLOT,
        verb: |slot| Verb::Recycle { slot: SlotId(slot.first) },
    },
    Spec {
        name: "release",
        access: Access::Change,
        parameter: Parameter::Optional { name: "number" },
        verb: |number| Verb::Release { number: NonZeroU16::new(number.first) },
    },
    Spec {
        name: "profile",
        access: Access::Change,
        parameter: Parameter::OfSlots { name: "seconds", maximum: MAX_SECONDS },
        verb: |values| Verb::Profile { seconds: values.first, slot: values.second.map(SlotId) },
    },
];

impl Spec {
    /// The path and, if there is a parameter, the query with `N` as its value.
    fn pattern(&self) -> String {
        match self.parameter {
            Parameter::None | Parameter::Switch { .. } | Parameter::Optional { .. } => {
                format!("/{}", self.name)
            }
            Parameter::Number { name, .. } | Parameter::OfSlots { name, .. } => {
                format!("/{}?{name}=N", self.name)
            }
        }
    }

    /// What would have been understood in place of another query.
    fn expected(&self) -> String {
        let pattern = self.pattern();
        match self.parameter {
            Parameter::None => pattern,
            Parameter::Switch { name } => format!("{pattern} or {pattern}?{name}=1"),
            Parameter::Optional { name } => {
                format!("{pattern} or {pattern}?{name}=N with N from 1 to {}", u16::MAX)
            }
            Parameter::Number { minimum, .. } => {
                format!("{pattern} with N from {minimum} to {}", u16::MAX)
            }
            Parameter::OfSlots { maximum, .. } => {
                format!("{pattern} or {pattern}&slot=SLOT with N from 1 to {maximum}")
            }
        }
    }

    fn allows(&self, method: Method) -> bool {
        match method {
            Method::Get | Method::Head => self.access == Access::Show,
            Method::Post => self.access == Access::Change,
        }
    }

    /// Reads the values of the parameters from a query. The query of a verb that only shows something is ignored,
    /// because probes and scrapers add what they like.
    fn values(&self, query: &str) -> Option<Values> {
        let text_of = |name: &str| query.strip_prefix(name)?.strip_prefix('=');
        let first = match self.parameter {
            Parameter::None => Some(0),
            Parameter::Switch { .. } | Parameter::Optional { .. } if query.is_empty() => Some(0),
            Parameter::Switch { name } => match text_of(name) {
                Some("0") => Some(0),
                Some("1") => Some(1),
                Some(_) | None => None,
            },
            Parameter::Optional { name } => number_in(text_of(name)?, 1),
            Parameter::Number { name, minimum } => number_in(text_of(name)?, minimum),
            Parameter::OfSlots { name, maximum } => {
                let text = text_of(name)?;
                let (first, slot) = match text.split_once("&slot=") {
                    Some((first, slot)) => (first, Some(number_in(slot, 0)?)),
                    None => (text, None),
                };
                let first = number_in(first, 1).filter(|number| *number <= maximum)?;
                return Some(Values { first, second: slot });
            }
        };
        first.map(|first| Values { first, second: None })
    }
}

/// Reads a number of only digits: `parse` alone would accept `+1`.
fn number_in(text: &str, minimum: u16) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_number.then(|| text.parse().ok())?;
    number.filter(|number| *number >= minimum)
}

impl Verb {
    /// Reads the verb of a request.
    ///
    /// Errors: the response that refuses the request.
    pub fn read(request: &AdminRequest) -> Result<Self, AdminResponse> {
        let name = request.path.strip_prefix('/');
        let Some(spec) = SPECS.iter().find(|spec| Some(spec.name) == name) else {
            return Err(not_found());
        };
        if !spec.allows(request.method) {
            let allowed = match spec.access {
                Access::Show => "only GET and HEAD\n",
                Access::Change => "only POST\n",
            };
            return Err(AdminResponse::plain(405, allowed));
        }
        let values = spec.values(&request.query);
        values.map(spec.verb).ok_or_else(|| refused(400, &format!("expected {}", spec.expected())))
    }

    /// The request target by which a client asks for this verb.
    pub fn target(self) -> String {
        let mut target = format!("/{}", self.name());
        for (place, (name, value)) in self.arguments().enumerate() {
            let mark = if place == 0 { '?' } else { '&' };
            target += &format!("{mark}{name}={value}");
        }
        target
    }

    /// The verb of `arctos ctl`, and the path after its slash.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// Whether this changes something, and therefore is a POST.
    pub fn is_change(self) -> bool {
        self.spec().access == Access::Change
    }

    /// The parameters and their values, without those that are off.
    pub fn arguments(self) -> impl Iterator<Item = (&'static str, u16)> {
        let (value, slot) = match self {
            Self::Livez | Self::Readyz | Self::Status | Self::Metrics | Self::Quarantine => {
                (0, None)
            }
            Self::Reload { wait } => (u16::from(wait), None),
            Self::Stop { mode: StopMode::Graceful } => (0, None),
            Self::Stop { mode: StopMode::Quick } => (1, None),
            Self::Scale { workers } => (workers, None),
            Self::Dump { slot } | Self::Recycle { slot } => (slot.0, None),
            Self::Release { number } => (number.map_or(0, NonZeroU16::get), None),
            Self::Profile { seconds, slot } => (seconds, slot),
        };
        let first = match self.spec().parameter {
            Parameter::None => None,
            Parameter::Switch { name } => (value == 1).then_some((name, value)),
            Parameter::Optional { name } => (value > 0).then_some((name, value)),
            Parameter::Number { name, .. } | Parameter::OfSlots { name, .. } => Some((name, value)),
        };
        first.into_iter().chain(slot.map(|slot| ("slot", slot.0)))
    }

    fn spec(self) -> &'static Spec {
        const ANY: Values = Values { first: 1, second: None };
        let kind = discriminant(&self);
        let spec = SPECS.iter().find(|spec| discriminant(&(spec.verb)(ANY)) == kind);
        spec.expect("the table has a row for each verb, as a test shows")
    }

    /// The response if the state of the server rules this verb out.
    pub fn refusal(self, state: ServiceState) -> Option<AdminResponse> {
        let reason = match (self, state) {
            (
                Self::Reload { .. }
                | Self::Scale { .. }
                | Self::Recycle { .. }
                | Self::Profile { .. },
                ServiceState::Stopping,
            ) => "the server is stopping",
            (Self::Scale { .. }, ServiceState::Paused) => {
                "the server is resting; a reload resumes it"
            }
            (
                Self::Livez
                | Self::Readyz
                | Self::Status
                | Self::Metrics
                | Self::Quarantine
                | Self::Reload { .. }
                | Self::Stop { .. }
                | Self::Scale { .. }
                | Self::Dump { .. }
                | Self::Recycle { .. }
                | Self::Release { .. }
                | Self::Profile { .. },
                ServiceState::Starting
                | ServiceState::Serving
                | ServiceState::Paused
                | ServiceState::Stopping,
            ) => return None,
        };
        Some(refused(409, reason))
    }
}

fn refused(status: u16, reason: &str) -> AdminResponse {
    AdminResponse::plain(status, &format!("refused: {reason}\n"))
}

/// The response to an unknown path: all paths that exist.
fn not_found() -> AdminResponse {
    let all = |access| {
        let specs = SPECS.iter().filter(|spec| spec.access == access);
        specs.map(Spec::pattern).collect::<Vec<_>>()
    };
    let list = |paths: Vec<String>| match paths.split_last() {
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    };
    let (show, change) = (list(all(Access::Show)), list(all(Access::Change)));
    AdminResponse::plain(404, &format!("there is no such path; GET {show}, or POST {change}\n"))
}

/// The response to a reload whose end is not awaited.
pub fn reloading() -> AdminResponse {
    AdminResponse::plain(202, "reloading; the log reports the outcome\n")
}

/// The response to a reload that is impossible, for example because the application was passed as an object.
pub fn not_reloading(reason: &str) -> AdminResponse {
    refused(409, reason)
}

/// The response to a stop.
pub fn stopping() -> AdminResponse {
    AdminResponse::plain(202, "stopping\n")
}

/// The response to a new number of workers. A number that is too high changes nothing: with a clamped number, a
/// script would believe that it got what it requested.
///
/// Errors: the response that names the maximum.
pub fn scaled(workers: u16, maximum: u16) -> Result<AdminResponse, AdminResponse> {
    if workers <= maximum {
        Ok(AdminResponse::plain(200, &format!("the target is {workers} workers\n")))
    } else {
        Err(refused(409, &format!("there is room for at most {maximum} workers")))
    }
}

/// Whether a profile can begin: there is a worker to sample, and no other profile runs. `running_s` is how long the
/// running one still takes.
///
/// Errors: the response that says why not.
pub fn profiled(
    slot: Option<SlotId>,
    slots: &[WorkerSlot],
    running_s: Option<u64>,
) -> Result<(), AdminResponse> {
    if let Some(seconds) = running_s {
        let text = format!("another profile is running; it ends within {} s", seconds + 1);
        return Err(refused(409, &text));
    }
    match slot {
        Some(slot) if !slots.iter().any(|it| it.id() == slot && it.pid().is_some()) => {
            Err(refused(404, &format!("there is no worker {}", slot.0)))
        }
        Some(_) | None => Ok(()),
    }
}

/// The process that is to write its stack, and the response. A starting worker installs its handler before it
/// imports the application; before that, the signal is ignored.
///
/// Errors: the response that says why there is no such process.
pub fn dumped(slot: SlotId, slots: &[WorkerSlot]) -> Result<(Pid, AdminResponse), AdminResponse> {
    let state = slots.iter().find(|it| it.id() == slot).map(WorkerSlot::state);
    match state {
        Some(
            SlotState::Ready { pid, .. }
            | SlotState::Draining { pid, .. }
            | SlotState::Quitting { pid, .. }
            | SlotState::Hung { pid, .. },
        ) => {
            let text = format!("worker {} (pid {}) writes its stack to the log\n", slot.0, pid.0);
            Ok((pid, AdminResponse::plain(200, &text)))
        }
        Some(SlotState::Starting { pid, .. }) => {
            let text = format!(
                "worker {} (pid {}) is still starting; it writes its stack to the log if its import has begun\n",
                slot.0, pid.0
            );
            Ok((pid, AdminResponse::plain(200, &text)))
        }
        Some(
            SlotState::Spawning { .. } | SlotState::Recalled { .. } | SlotState::Failing { .. },
        ) => Err(refused(409, &format!("worker {} is still starting", slot.0))),
        Some(SlotState::Empty | SlotState::Backoff { .. } | SlotState::Killed { .. }) | None => {
            Err(refused(404, &format!("there is no worker {}", slot.0)))
        }
    }
}

/// The response to the replacement of a worker.
///
/// Errors: the response that says why no worker of this slot can be replaced.
pub fn recycled(slot: SlotId, slots: &[WorkerSlot]) -> Result<AdminResponse, AdminResponse> {
    let state = slots.iter().find(|it| it.id() == slot).map(WorkerSlot::state);
    match state {
        Some(SlotState::Ready { pid, .. }) => {
            let text =
                format!("worker {} (pid {}) exits once its replacement is ready\n", slot.0, pid.0);
            Ok(AdminResponse::plain(202, &text))
        }
        Some(
            SlotState::Spawning { .. } | SlotState::Starting { .. } | SlotState::Failing { .. },
        ) => Err(refused(409, &format!("worker {} is still starting", slot.0))),
        Some(
            SlotState::Recalled { .. }
            | SlotState::Draining { .. }
            | SlotState::Quitting { .. }
            | SlotState::Hung { .. }
            | SlotState::Killed { .. },
        ) => Err(refused(409, &format!("worker {} is exiting", slot.0))),
        Some(SlotState::Empty | SlotState::Backoff { .. }) | None => {
            Err(refused(404, &format!("there is no worker {}", slot.0)))
        }
    }
}

#[cfg(test)]
mod tests;
