//! The end of a Python program, as CPython's own finalization goes about it: threads that are not daemons
//! finish first, executors among them, then `atexit` handlers run, then output is written out.
//!
//! A worker ends by `_exit(2)`, which does none of this. The wait for threads has no limit here: the
//! supervisor kills a worker whose time is over, and the kernel one that has no supervisor (`worker::run`).

use pyo3::prelude::*;

use super::app;
use super::forked::alone;

/// Ends the program. `announce` is told the names of threads that are still running before they are waited
/// for.
///
/// Errors: the first exception, once everything has been tried.
pub(super) fn finalize(py: Python<'_>, announce: impl FnOnce(&str)) -> PyResult<()> {
    let joined = join_threads(py, announce);
    let ran = alone(py, || py.import("atexit")?.call_method0("_run_exitfuncs").map(drop));
    joined.and(ran).and(flush_output(py))
}

/// Waits for threads as the interpreter does, which knows executors as well: they end when their work is
/// done. Where nobody has imported `threading`, there is nobody to wait for.
///
/// Source: `wait_for_thread_shutdown()` of CPython, which calls the same function.
pub(super) fn join_threads(py: Python<'_>, announce: impl FnOnce(&str)) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    let threading = modules.call_method1("get", ("threading",))?;
    if threading.is_none() {
        return Ok(());
    }
    let names = running(&threading).unwrap_or_default(); // They are for the log alone.
    if !names.is_empty() {
        announce(&names.join(", "));
    }
    alone(py, || threading.call_method0("_shutdown").map(drop))
}

/// The names of threads that the end of the program waits for.
fn running(threading: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let own = threading.call_method0("current_thread")?;
    let mut names = Vec::new();
    for thread in threading.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        if !thread.is(&own) && !thread.getattr("daemon")?.is_truthy()? {
            names.push(thread.getattr("name")?.extract()?);
        }
    }
    Ok(names)
}

/// What was printed is written out.
pub(super) fn flush_output(py: Python<'_>) -> PyResult<()> {
    for stream in app::open_streams(py)? {
        stream.call_method0("flush")?;
    }
    Ok(())
}
