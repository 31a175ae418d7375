//! A server inside the caller's process: [`crate::embedded`] with CPython's application and signals.

use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;

use arctos_worker::shared::log::ErrorText;
use arctos_worker::wsgi::{Bridge, Caller, Stop};
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

use super::running::Running;
use super::statsd::StatsdArgument;
use crate::embedded::{self, Plan};
use crate::listener;

/// Serves `application` at a listening socket that the caller keeps. Ends when a signal handler of the caller
/// raises, by raising the same exception, or returns once another thread calls `stop.set()`.
#[pyfunction]
#[pyo3(signature = (fd, application, statsd=None, stop=None))]
pub(super) fn serve_socket(
    py: Python<'_>,
    fd: RawFd,
    application: Py<PyAny>,
    statsd: Option<Py<StatsdArgument>>,
    stop: Option<Py<Stop>>,
) -> PyResult<()> {
    let _running = Running::begin()?;
    let (listener, name) = listener::borrow(fd).map_err(|error| {
        if error.kind() == io::ErrorKind::InvalidInput {
            return PyValueError::new_err(
                "sock is not a listening stream socket: call listen() on it",
            );
        }
        os_error(&error)
    })?;
    let (settings, log) = (embedded::settings(), embedded::log());
    let (caller, doorbell) = Caller::attach(py, stop)?;
    let caller = Rc::new(caller);
    let mut bridge = Bridge::inside(py, application, &settings, log.clone(), Rc::clone(&caller))?;
    let statsd = statsd.map(|statsd| statsd.get().0.clone());
    let served =
        embedded::serve(Plan { listener, name, doorbell, statsd, settings, log }, &mut bridge);
    // KeyboardInterrupt, or an exception from a handler, takes precedence over an error of the server.
    caller.detach(py)?;
    served.map_err(|error| os_error(&error))
}

/// Creates an OSError with `errno` and the matching subclass, like Python's own calls.
pub(super) fn os_error(error: &io::Error) -> PyErr {
    let text = ErrorText(error).to_string();
    match error.raw_os_error() {
        Some(number) => PyOSError::new_err((number, text)),
        None => PyOSError::new_err(text),
    }
}
