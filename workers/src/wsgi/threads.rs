//! The threads of the application, for which the end of a process waits.

use pyo3::prelude::*;

/// Waits for threads as the interpreter does at its end. That includes executors, which end when their work is
/// done. If nothing has imported `threading`, there are no threads.
///
/// Source: `wait_for_thread_shutdown()` of CPython, which calls the same function.
pub(super) fn join(py: Python<'_>, announce: impl FnOnce(&str)) -> PyResult<()> {
    let modules = py.import("sys")?.getattr("modules")?;
    let threading = modules.call_method1("get", ("threading",))?;
    if threading.is_none() {
        return Ok(());
    }
    let names = running(&threading).unwrap_or_default(); // The names are only for the log.
    if !names.is_empty() {
        announce(&names.join(", "));
    }
    threading.call_method0("_shutdown").map(drop)
}

/// Returns the names of the threads that are waited for.
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
