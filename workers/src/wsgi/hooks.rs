//! Hooks: functions that the configuration names by import path for moments in the life of a worker.
//!
//! They run where the application's code may run: in workers, in zygotes and in a helper process, never in the
//! supervisor. Each hook is imported when it is called for the first time. A child that a hook forks and that returns
//! from it is ended, because it would continue as a second worker.

use pyo3::prelude::*;

use super::forked::guarded;
use super::traceback::traceback;
use crate::settings::{HookName, Hooks, Moment};
use crate::shared::identity::{Generation, SlotId};
use crate::shared::log::{Level, Log, Value};

/// The worker that a hook is called for.
#[pyclass(frozen, get_all, name = "Worker", module = "arctos")]
pub struct WorkerArgument {
    /// The index of its slot, which is also the tag `worker` of metrics.
    slot: u16,
    /// The number of its generation: 1 at the start, and one more with each reload.
    generation: u32,
    /// Its pid; None in hooks of `--pre-fork`, when there is no process yet.
    pid: Option<u32>,
    /// The name of the server (`--name`).
    name: String,
}

#[pymethods]
impl WorkerArgument {
    fn __repr__(&self) -> String {
        let Self { slot, generation, pid, name } = self;
        let pid = pid.map_or_else(|| "None".to_owned(), |pid| pid.to_string());
        format!("Worker(slot={slot}, generation={generation}, pid={pid}, name={name:?})")
    }
}

/// The generation, a load of configuration and code, that `--on-start` is called for.
#[pyclass(frozen, get_all, name = "Generation", module = "arctos")]
pub struct GenerationArgument {
    /// 1, and one more with each reload.
    number: u32,
    /// The name of the server (`--name`).
    name: String,
}

#[pymethods]
impl GenerationArgument {
    fn __repr__(&self) -> String {
        format!("Generation(number={}, name={:?})", self.number, self.name)
    }
}

/// The failure of a hook, which ends its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookFailure {
    moment: Moment,
    name: HookName,
    traceback: String,
}

impl HookFailure {
    /// Returns the text for an operator.
    pub(super) fn report(&self) -> String {
        format!("The hook {} {} failed:\n{}", self.moment.option(), self.name, self.traceback)
    }

    /// Logs the failure, where it has no other consequence.
    pub(super) fn log(&self, log: &Log) {
        let name = self.name.to_string();
        let pairs = [("option", Value::Text(self.moment.option())), ("hook", Value::Text(&name))];
        log.block(Level::Error, "hook.failed", &pairs, &self.traceback);
    }
}

/// The hooks of one worker.
pub(super) struct WorkerHooks {
    hooks: Hooks,
    slot: SlotId,
    generation: Generation,
    /// Whether all hooks of [`Moment::WorkerReady`] succeeded; only then do those of [`Moment::WorkerExit`] run.
    was_ready: bool,
}

impl WorkerHooks {
    /// Creates the hooks of a worker, without calling any.
    pub(super) fn new(hooks: &Hooks, slot: SlotId, generation: Generation) -> Self {
        Self { hooks: hooks.clone(), slot, generation, was_ready: false }
    }

    /// Calls those of `--pre-fork`, in the zygote.
    pub(super) fn pre_fork(&self, py: Python<'_>) -> Result<(), HookFailure> {
        self.call(py, Moment::PreFork, None)
    }

    /// Calls those of `--post-fork`, before anything else in the worker.
    pub(super) fn post_fork(&self, py: Python<'_>) -> Result<(), HookFailure> {
        self.call(py, Moment::PostFork, Some(std::process::id()))
    }

    /// Calls those of `--worker-ready`, once the application is loaded.
    pub(super) fn ready(&mut self, py: Python<'_>) -> Result<(), HookFailure> {
        self.call(py, Moment::WorkerReady, Some(std::process::id()))?;
        self.was_ready = true;
        Ok(())
    }

    /// Calls those of `--worker-exit`, after the last request.
    pub(super) fn exit(&self, py: Python<'_>) -> Result<(), HookFailure> {
        match self.was_ready {
            true => self.call(py, Moment::WorkerExit, Some(std::process::id())),
            false => Ok(()),
        }
    }

    fn call(&self, py: Python<'_>, moment: Moment, pid: Option<u32>) -> Result<(), HookFailure> {
        let name = self.hooks.server_name.clone();
        let worker =
            || WorkerArgument { slot: self.slot.0, generation: self.generation.0, pid, name };
        call_all(py, &self.hooks, moment, || Ok(Bound::new(py, worker())?.into_any()))
    }
}

/// Calls the hooks of `--on-start`.
pub(super) fn on_start(
    py: Python<'_>,
    hooks: &Hooks,
    generation: Generation,
) -> Result<(), HookFailure> {
    let name = hooks.server_name.clone();
    let load = || GenerationArgument { number: generation.0, name };
    call_all(py, hooks, Moment::OnStart, || Ok(Bound::new(py, load())?.into_any()))
}

/// Checks that all hooks can be imported, without calling any.
pub(super) fn find_all(py: Python<'_>, hooks: &Hooks) -> Result<(), HookFailure> {
    for moment in Moment::ALL {
        for name in hooks.of(moment) {
            find(py, name).map_err(|error| failure(py, moment, name, &error))?;
        }
    }
    Ok(())
}

/// Calls the hooks of a moment in order, up to the first that fails.
fn call_all<'py>(
    py: Python<'py>,
    hooks: &Hooks,
    moment: Moment,
    subject: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
) -> Result<(), HookFailure> {
    let names = hooks.of(moment);
    let Some(first) = names.first() else { return Ok(()) };
    let subject = subject().map_err(|error| failure(py, moment, first, &error))?;
    for name in names {
        let called = guarded(py, || find(py, name).and_then(|hook| hook.call1((&subject,))));
        called.map_err(|error| failure(py, moment, name, &error))?;
    }
    Ok(())
}

fn find<'py>(py: Python<'py>, name: &HookName) -> PyResult<Bound<'py, PyAny>> {
    let module = py.import(name.module.as_str())?.into_any();
    name.attribute.split('.').try_fold(module, |object, name| object.getattr(name))
}

fn failure(py: Python<'_>, moment: Moment, name: &HookName, error: &PyErr) -> HookFailure {
    HookFailure { moment, name: name.clone(), traceback: traceback(py, error) }
}

#[cfg(test)]
mod tests;
