//! A server inside of the caller's process: [`crate::in_process`] with CPython's application and signals.

use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use arctos_worker::wsgi::{Bridge, Caller};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use super::statsd::Statsd;
use crate::in_process::{self, Plan};
use crate::listener;

/// Serves `application` at a listening socket that stays the caller's. Returns when a signal handler of the
/// caller's raises, by raising the same.
#[pyfunction]
#[pyo3(signature = (fd, application, statsd=None))]
pub(super) fn serve_socket(
    py: Python<'_>,
    fd: RawFd,
    application: Py<PyAny>,
    statsd: Option<Py<Statsd>>,
) -> PyResult<()> {
    let _running = Running::begin()?;
    let (listener, name) = listener::borrow(fd).map_err(|error| {
        if error.kind() == std::io::ErrorKind::InvalidInput {
            return PyValueError::new_err(
                "sock is no listening stream socket: call listen() on it",
            );
        }
        PyErr::from(error)
    })?;
    let (settings, log) = (in_process::settings(), in_process::log());
    let (caller, doorbell) = Caller::attend(py)?;
    let caller = Rc::new(caller);
    let mut bridge = Bridge::inside(py, application, &settings, log.clone(), Rc::clone(&caller))?;
    let statsd = statsd.map(|statsd| statsd.get().0.clone());
    let served =
        in_process::serve(Plan { listener, name, doorbell, statsd, settings, log }, &mut bridge);
    // First what the caller is waiting for: KeyboardInterrupt, or what a handler raised.
    caller.depart(py)?;
    Ok(served?)
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
}

impl Drop for Running {
    fn drop(&mut self) {
        PROCESS.store(0, Ordering::Relaxed);
    }
}
