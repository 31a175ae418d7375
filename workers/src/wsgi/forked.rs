//! Ends children that the application forked and that return into the server's code.
//!
//! Such a child must not continue as a second worker, and its parent, usually the application, checks its exit
//! status. The status is therefore that of a standalone program: that of SystemExit, 1 for any other exception, and 0
//! for a return. As in a child of `multiprocessing`, threads finish and output is flushed, but `atexit` handlers do
//! not run: they belong to the worker and would remove what it still uses.

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use super::streams::flush_output;
use super::threads;
use crate::process::fork_guard;

/// The exit status of a program that an exception ended.
const FAILED: i32 = 1;

/// Calls code that may fork, and ends a child that returns from it.
pub(super) fn guarded<T>(py: Python<'_>, call: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let process = std::process::id();
    let outcome = call();
    if std::process::id() != process {
        let error = outcome.as_ref().err();
        if let Some(error) = error.filter(|error| !error.is_instance_of::<PySystemExit>(py)) {
            error.display(py);
        }
        leave(py, error);
    }
    outcome
}

/// Ends a child whose code returned, or raised this exception. The caller has shown the traceback.
pub(super) fn leave(py: Python<'_>, error: Option<&PyErr>) -> ! {
    let status = error.map_or(0, |error| exit_status(py, error));
    // Only the status matters: nobody would see further failures.
    let _ = guarded(py, || threads::join(py, |_| {}));
    let _ = flush_output(py);
    fork_guard::leave_with(status)
}

/// Returns the exit status of a program that ends with an exception.
///
/// Source: `handle_system_exit()` of CPython.
fn exit_status(py: Python<'_>, error: &PyErr) -> i32 {
    if !error.is_instance_of::<PySystemExit>(py) {
        return FAILED;
    }
    let Ok(code) = error.value(py).getattr("code") else { return FAILED };
    if code.is_none() {
        return 0;
    }
    if code.is_instance_of::<PyInt>() {
        // A C long is truncated to an int, and -1 stands for a number that does not fit into a C long.
        return code.extract::<i64>().unwrap_or(-1) as i32;
    }
    let printed = py.import("sys").and_then(|sys| {
        let stderr = sys.getattr("stderr")?;
        stderr.call_method1("write", (format!("{}\n", code.str()?.to_string_lossy()),))
    });
    drop(printed); // There may be no standard error.
    FAILED
}

#[cfg(test)]
mod tests;
