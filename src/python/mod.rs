//! The extension module `arctos.arctos`: the command line's entry, a server inside of the caller's
//! process, and [`Launch`](crate::process::launch::Launch) for CPython.
//!
//! This directory is the only place of this crate that names pyo3.
#![expect(unsafe_code, reason = "which interpreter this is")]

mod embedded;
mod launch;
mod running;
mod serve;
mod statsd;

use std::ffi::OsString;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

use arctos_worker::wsgi::ApplicationSource;

use crate::process::reexec;
use crate::server;
use crate::system::environment::Environment;
use launch::{Host, Interpreter};

/// The extension module `arctos.arctos`.
// Its types rely on the interpreter's lock: on a free-threaded build the lock comes back on.
#[pymodule(gil_used = true)]
mod arctos {
    use super::*;

    #[pymodule_export]
    use super::embedded::serve_socket;
    #[pymodule_export]
    use super::running::is_serving;
    #[pymodule_export]
    use super::statsd::Statsd;
    #[pymodule_export]
    use arctos_worker::wsgi::{GenerationArgument, WorkerArgument};

    #[pymodule_export]
    use super::serve::{option_names, serve_supervised};

    /// Runs the `arctos` command line on `sys.argv` and returns its exit code.
    #[pyfunction]
    fn main(py: Python<'_>) -> PyResult<i32> {
        let mut arguments: Vec<OsString> = py.import("sys")?.getattr("argv")?.extract()?;
        if let Some(program) = arguments.first_mut() {
            *program = "arctos".into(); // not `__main__.py`
        }
        Ok(server::run(
            arguments,
            succeed_in(py)?,
            &Interpreter { source: ApplicationSource::Path, host: Host::Command },
        ))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        refuse_subinterpreters()?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// The environment, in which what was said to the process before this one, in an upgrade, is said to this
/// one. The handover is in it for this call's caller alone: no child of this process is to take it for its own.
fn succeed_in(py: Python<'_>) -> PyResult<Environment> {
    let environ = py.import("os")?.getattr("environ")?;
    for (name, value) in reexec::readdressed(&std::env::vars_os().collect()) {
        environ.set_item(name, value)?;
    }
    let environment = std::env::vars_os().collect();
    environ.call_method1("pop", (reexec::VARIABLE, py.None()))?;
    Ok(environment)
}

/// Types are the process's here, and signals the main interpreter's. From Python 3.12 on it refuses by itself
/// where interpreters do not share their lock.
fn refuse_subinterpreters() -> PyResult<()> {
    // SAFETY: the thread is attached, for this module is being imported in it.
    let current = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: as above.
    let main = unsafe { ffi::PyInterpreterState_Main() };
    if current == main {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "arctos works in the main interpreter only, not in a subinterpreter",
    ))
}
