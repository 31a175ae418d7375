//! The end of a Python program, as CPython's own finalization goes about it: threads that are not daemons
//! finish first, executors among them, then `atexit` handlers run, then output is written out.
//!
//! A worker ends by `_exit(2)`, which does none of this. The wait for threads has no limit here: the
//! supervisor kills a worker whose time is over, and the kernel one that has no supervisor (`worker::run`).

use pyo3::prelude::*;

use super::forked::guarded;
use super::streams::flush_output;
use super::threads;

/// Ends the program. `announce` is told the names of threads that are still running before they are waited
/// for.
///
/// Errors: the first exception, once everything has been tried.
pub(super) fn finalize(py: Python<'_>, announce: impl FnOnce(&str)) -> PyResult<()> {
    let joined = guarded(py, || threads::join(py, announce));
    let ran = guarded(py, || py.import("atexit")?.call_method0("_run_exitfuncs").map(drop));
    joined.and(ran).and(flush_output(py))
}
