//! The extension module `arctos.arctos`: the entry of the command line, a server inside the caller's process, and
//! [`Launch`](crate::process::launch::Launch) for CPython.
//!
//! This directory is the only part of this crate that names pyo3.
#![expect(unsafe_code, reason = "pyo3 cannot tell which interpreter this is")]

mod command_line;
mod embedded;
mod launch;
mod own_server;
mod running;
mod sender;
mod serve;
mod statsd;

use std::ffi::OsString;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

use arctos_worker::shared::series::ROUTE_DURATION;
use arctos_worker::wsgi::{ApplicationSource, RequestTimeout, series};

use crate::metrics::names;
use crate::process::{parent, reexec};
use crate::server;
use crate::system::environment::Environment;
use crate::system::pid::Pid;
use launch::{Host, Interpreter};

/// The extension module `arctos.arctos`.
// Its types rely on the interpreter's lock, which a free-threaded build therefore enables again.
#[pymodule(gil_used = true)]
mod arctos {
    use super::*;

    #[pymodule_export]
    use super::command_line::{given_options, option_table};
    #[pymodule_export]
    use super::embedded::serve_socket;
    #[pymodule_export]
    use super::own_server::server_metrics;
    #[pymodule_export]
    use super::running::is_serving;
    #[pymodule_export]
    use super::sender::Sender;
    #[pymodule_export]
    use super::statsd::StatsdArgument;
    #[pymodule_export]
    use arctos_worker::wsgi::{GenerationArgument, Stop, Timeout, WorkerArgument};

    #[pymodule_export]
    use super::serve::{option_names, serve_supervised};
    /// Whether the server has a metric with this name.
    #[pyfunction]
    #[pyo3(name = "_is_of_server")]
    fn is_of_server(name: &str) -> bool {
        names::is_of_server(name) || names::is_same(name, ROUTE_DURATION)
    }

    #[pymodule_export]
    use arctos_worker::wsgi::series::{
        Counter, Distribution, Gauge, PrometheusValue, counter, distribution, gauge,
    };

    /// Runs the `arctos` command line on `sys.argv` and returns its exit code.
    #[pyfunction]
    fn main(py: Python<'_>) -> PyResult<i32> {
        let mut arguments: Vec<OsString> = py.import("sys")?.getattr("argv")?.extract()?;
        if let Some(program) = arguments.first_mut() {
            *program = "arctos".into(); // instead of `__main__.py`
        }
        Ok(server::run(
            arguments,
            environment_of(py)?,
            &Interpreter { source: ApplicationSource::Path, host: Host::Command },
        ))
    }

    /// Asks the kernel to send SIGTERM to this process when the thread of `parent` that forked it ends. Raises
    /// ProcessLookupError if `parent` has already ended.
    #[pyfunction]
    fn stop_with_parent(parent: i32) -> PyResult<()> {
        parent::stop_with(Pid(parent)).map_err(|error| embedded::os_error(&error))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        refuse_subinterpreters()?;
        series::add_methods(module.py())?;
        module.add("RequestTimeout", module.py().get_type::<RequestTimeout>())?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// Returns the environment. After an upgrade, the service manager's variables that name the predecessor's pid name this
/// process instead. The handover is removed from `os.environ`, so that no child of this process takes it for its own.
fn environment_of(py: Python<'_>) -> PyResult<Environment> {
    let environ = py.import("os")?.getattr("environ")?;
    for (name, value) in reexec::readdressed(&std::env::vars_os().collect()) {
        environ.set_item(name, value)?;
    }
    let environment = std::env::vars_os().collect();
    environ.call_method1("pop", (reexec::VARIABLE, py.None()))?;
    Ok(environment)
}

/// Refuses subinterpreters: the types of this module belong to the process, and signals to the main interpreter. From
/// Python 3.12 on, CPython itself refuses interpreters that do not share the lock.
fn refuse_subinterpreters() -> PyResult<()> {
    // SAFETY: the thread is attached, because it is importing this module.
    let current = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: as above.
    let main = unsafe { ffi::PyInterpreterState_Main() };
    if current == main {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "arctos works only in the main interpreter, not in a subinterpreter",
    ))
}
