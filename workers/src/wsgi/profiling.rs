//! Prepares this worker for profiles: where the interpreter keeps the frames of the thread that runs requests.
//!
//! [`stack_sampler`] does the rest, without the interpreter. Nothing here runs while a profile does, and a worker
//! without a profile pays only for one sigaction(2) at its start.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCode, PyString, PyType};

use super::ffi;
use crate::process::stack_sampler::{self, Interpreter, Layout, OwnMemory};
use crate::shared::log::{Level, Log, Value};
use crate::shared::samples::SampleArea;
use crate::shared::scoreboard::WorkerEntry;

/// Installs the handler that takes samples. A failure is logged: the worker serves anyway, and profiles do not show its
/// stacks.
pub fn install_stack_sampler(entry: &'static WorkerEntry, samples: &'static SampleArea, log: &Log) {
    let found = Python::attach(|py| interpreter(py).ok_or("its frames are not readable"));
    let install = |interpreter| stack_sampler::install(interpreter, samples, entry);
    let reason = match found.map(install) {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.desc(),
        Err(reason) => reason,
    };
    log.line(Level::Warning, "worker.profile_not_installed", &[("reason", Value::Text(reason))]);
}

/// Finds the frames of this thread; `None` if this version is not known, or if there is no memory where they should be.
pub(super) fn interpreter(py: Python<'_>) -> Option<Interpreter> {
    let version = py.version_info();
    let layout = Layout::of(version.major, version.minor)?;
    let address = |kind: Bound<'_, PyType>| kind.as_ptr().expose_provenance();
    let mut interpreter = Interpreter {
        layout,
        thread: ffi::thread_state(py),
        base: 0,
        code_type: address(py.get_type::<PyCode>()),
        text_type: address(py.get_type::<PyString>()),
        bytes_type: address(py.get_type::<PyBytes>()),
    };
    interpreter.base = interpreter.head(&OwnMemory::open().ok()?)?;
    Some(interpreter)
}

#[cfg(test)]
mod tests;
