//! Ends a Python program in the same order as CPython's own finalization: non-daemon threads and executors finish,
//! then `atexit` handlers run, then output is flushed.
//!
//! A worker exits with `_exit(2)`, which does none of this. The wait for threads has no time limit here: the
//! supervisor kills a worker that exceeds its time limit, and the kernel kills one without a supervisor
//! (`worker::run`).

use pyo3::prelude::*;

use super::forked::guarded;
use super::streams::flush_output;
use super::threads;

/// Ends the program. Before it waits for threads, it passes their names to `announce`.
///
/// Errors: the first exception, after all steps have been tried.
pub(super) fn finalize(py: Python<'_>, announce: impl FnOnce(&str)) -> PyResult<()> {
    let joined = guarded(py, || threads::join(py, announce));
    let ran = guarded(py, || py.import("atexit")?.call_method0("_run_exitfuncs").map(drop));
    joined.and(ran).and(flush_output(py))
}
