//! A child that the application forked, and that comes back to code of the server's: how it ends.
//!
//! It must not go on as a second worker, and its parent, as a rule the worker's application, looks at the
//! exit status that it leaves. So that is the one which the same code has in a program of its own:
//! SystemExit has the status with it, any other exception is a 1, and a return is a 0. As in a child of
//! `multiprocessing`, its threads finish and its output is written out, but `atexit` handlers do not run:
//! they are the worker's, and would remove what that still uses.

use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use pyo3::types::PyInt;

use super::streams::flush_output;
use super::threads;
use crate::process::fork_guard;

/// The status of a program that an exception has ended.
const FAILED: i32 = 1;

/// Calls what may fork; a child that comes back from it is ended here.
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

/// Ends a child that the application has left with this exception, or without one. A traceback is the
/// caller's to show.
pub(super) fn leave(py: Python<'_>, error: Option<&PyErr>) -> ! {
    let status = error.map_or(0, |error| exit_status(py, error));
    // The status is what counts: whatever fails from here on has nobody to hear of it.
    let _ = guarded(py, || threads::join(py, |_| {}));
    let _ = flush_output(py);
    fork_guard::leave_with(status)
}

/// The exit status of a program that ends by an exception.
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
        // As a C long is cut to an int; one that is too long for that is a -1.
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
