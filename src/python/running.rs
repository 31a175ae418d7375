//! Ensures that at most one server runs in a process, because the guards of the event loop belong to the process.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Whether a server runs in this process. A worker counts as one from its boot on.
#[pyfunction]
pub(super) fn is_serving() -> bool {
    PROCESS.load(Ordering::Relaxed) == std::process::id()
}

/// The permission to run a server in this process, which ends with this value.
pub(super) struct Running;

/// The process that a server runs in. Its children have a copy of this, but run no server.
static PROCESS: AtomicU32 = AtomicU32::new(0);

impl Running {
    pub(super) fn begin() -> PyResult<Self> {
        let process = std::process::id();
        if PROCESS.swap(process, Ordering::Relaxed) == process {
            return Err(PyRuntimeError::new_err("a server is already running in this process"));
        }
        Ok(Self)
    }

    /// Marks this process as a worker until it exits, so that an application that calls `run()` at import or in a
    /// request gets an error. A worker is a new process, so no server runs in it yet.
    pub(super) fn begin_worker() {
        PROCESS.store(std::process::id(), Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        PROCESS.store(0, Ordering::Relaxed);
    }
}
