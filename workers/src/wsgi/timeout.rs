//! `arctos.timeout`: how much time a request has left, and how it gets more.
//!
//! All requests of a worker share one object, so that none pays for it. It stands for the call that the worker runs at
//! the moment. That call runs in the worker's own thread, so no other thread can use it: by the time it does, the worker
//! may run another request.

use std::thread::{self, ThreadId};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyFloat, PyInt};

use super::start_response::type_name;
use crate::process::fork_guard;
use crate::settings::CallLimits;
use crate::shared::scoreboard::WorkerEntry;

/// The maximum time limit of one call with everything that it asks for, which is also that of `--timeout`.
const MAX_LIMIT: Duration = Duration::from_secs(86_400);

/// The time limit of the running request: `environ["arctos.timeout"]`.
#[pyclass(frozen, name = "Timeout", module = "arctos")]
pub struct Timeout {
    entry: &'static WorkerEntry,
    limits: CallLimits,
    /// The thread that runs requests.
    thread: ThreadId,
}

impl Timeout {
    /// Creates the object of a worker, in the thread that runs its requests.
    pub(super) fn new(entry: &'static WorkerEntry, limits: CallLimits) -> Self {
        Self { entry, limits, thread: thread::current().id() }
    }

    /// Returns the start and the current time limit of the running call; `None` if it is unlimited.
    fn running(&self) -> PyResult<Option<Running>> {
        if fork_guard::is_forked() {
            return Err(PyRuntimeError::new_err(
                "arctos.timeout belongs to the worker, not to a process that it forked",
            ));
        }
        if thread::current().id() != self.thread {
            return Err(PyRuntimeError::new_err(
                "arctos.timeout can be used only in the thread that runs the request",
            ));
        }
        let Some(limit) = self.limits.of_request(&self.entry.request_line().unwrap_or_default())
        else {
            return Ok(None);
        };
        match (self.entry.call_start(), self.entry.request_start()) {
            (Some(start), Some(_)) => Ok(Some(Running { start, limit })),
            (Some(_) | None, Some(_) | None) => {
                Err(PyRuntimeError::new_err("arctos.timeout can be used only in a request"))
            }
        }
    }
}

/// The call that runs, and its limit by configuration.
struct Running {
    start: Duration,
    limit: Duration,
}

#[pymethods]
impl Timeout {
    /// Gives the running request more time: adds to the time limit of the call that runs now.
    fn extend(&self, seconds: &Bound<'_, PyAny>) -> PyResult<()> {
        let more = span(seconds)?;
        let Some(Running { limit, .. }) = self.running()? else { return Ok(()) };
        if self.entry.is_call_interrupted() {
            return Err(PyRuntimeError::new_err("the request has already exceeded its time limit"));
        }
        let extension = self.entry.call_extension().saturating_add(more);
        if limit.saturating_add(extension) > MAX_LIMIT.max(limit) {
            return Err(PyValueError::new_err(format!(
                "extend({}) exceeds the maximum time limit of a request, which is {} s",
                seconds.repr()?.to_string_lossy(),
                MAX_LIMIT.as_secs(),
            )));
        }
        self.entry.extend_call(extension);
        Ok(())
    }

    /// The seconds until the running call exceeds its time limit, 0.0 afterwards; None if it is unlimited.
    #[getter]
    fn remaining(&self) -> PyResult<Option<f64>> {
        let Some(Running { start, limit }) = self.running()? else { return Ok(None) };
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(start, Duration::from);
        let limit = limit.saturating_add(self.entry.call_extension());
        Ok(Some(limit.saturating_sub(now.saturating_sub(start)).as_secs_f64()))
    }
}

/// Reads a positive number of seconds.
fn span(seconds: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let is_number = seconds.is_instance_of::<PyInt>() || seconds.is_instance_of::<PyFloat>();
    if !is_number || seconds.is_instance_of::<PyBool>() {
        return Err(PyTypeError::new_err(format!(
            "extend() takes a number of seconds, not {}",
            type_name(seconds)
        )));
    }
    // A number that is too large for a float is infinite.
    let number: f64 = seconds.extract().unwrap_or(f64::INFINITY);
    let span = Duration::try_from_secs_f64(number).ok().filter(|span| !span.is_zero());
    span.filter(|span| *span <= MAX_LIMIT).ok_or_else(|| {
        PyValueError::new_err(format!(
            "extend() takes a number of seconds above 0 and up to {}, not {}",
            MAX_LIMIT.as_secs(),
            seconds.repr().map_or_else(|_| "this".to_owned(), |text| text.to_string()),
        ))
    })
}
