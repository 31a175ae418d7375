//! At most one server runs in a process: the guards of the loop belong to the process.

use std::sync::atomic::{AtomicU32, Ordering};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

/// Whether a server runs in this process; a worker is one from its boot on.
#[pyfunction]
pub(super) fn is_serving() -> bool {
    PROCESS.load(Ordering::Relaxed) == std::process::id()
}

/// A server runs in this process: there is one at a time, for the loop's guards are the process's.
pub(super) struct Running;

/// The process that a server runs in. Its children are none of them, although they have a copy of this.
static PROCESS: AtomicU32 = AtomicU32::new(0);

impl Running {
    pub(super) fn begin() -> PyResult<Self> {
        let process = std::process::id();
        if PROCESS.swap(process, Ordering::Relaxed) == process {
            return Err(PyRuntimeError::new_err("a server runs in this process already"));
        }
        Ok(Self)
    }

    /// In a worker, to its end: an application that calls `run()` when it is imported, or in a request, is
    /// told so. A worker is new, so there is none before it.
    pub(super) fn begin_worker() {
        PROCESS.store(std::process::id(), Ordering::Relaxed);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        PROCESS.store(0, Ordering::Relaxed);
    }
}
