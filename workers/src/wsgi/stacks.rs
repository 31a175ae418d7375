//! On SIGUSR2, dumps the Python stacks of all threads for the supervisor to log; the worker continues.
//!
//! The handler is that of CPython's `faulthandler`, which is C and runs at once. A handler in Python would wait for the
//! interpreter, and would never run during a C loop that holds the lock, which is exactly the worker to examine. The
//! handler writes the stacks to a pipe, and the supervisor makes one event of them, with slot and pid, because the
//! worker itself may be stuck. Without a supervisor, the stacks go to the log as they are.
//!
//! The handler is installed before the application is imported, so that an import that hangs can be examined. If the
//! application replaces it at import, it is installed again afterwards, with a warning.

use std::os::fd::AsRawFd;

use nix::sys::signal::Signal;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::process::signals;
use crate::shared::log::{Level, Log, Value};

const SIGNAL: Signal = Signal::SIGUSR2;

/// The installed handler of SIGUSR2.
pub(super) struct Stacks {
    /// The address of the handler.
    handler: Option<usize>,
}

impl Stacks {
    /// Installs the handler. Without a log there is nowhere to write to, and SIGUSR2 is still ignored, as it is from
    /// the start of the worker ([`signals::stand_by`]).
    pub(super) fn install(py: Python<'_>, log: &Log) -> Self {
        warn_if_failed(py, log, register(py, log));
        Self { handler: signals::handler(SIGNAL) }
    }

    /// Installs the handler again if the application has replaced it.
    pub(super) fn reinstall(self, py: Python<'_>, log: &Log) {
        if signals::handler(SIGNAL) != self.handler {
            let pairs = [("signal", Value::Text(SIGNAL.as_str()))];
            log.line(Level::Warning, "worker.signal_handler_replaced", &pairs);
        }
        warn_if_failed(py, log, register(py, log));
    }
}

/// Logs a failure, which occurs without memory or without `faulthandler`. The worker serves anyway.
fn warn_if_failed(py: Python<'_>, log: &Log, registered: PyResult<()>) {
    if let Err(error) = registered {
        let error = error.value(py).to_string();
        log.line(Level::Warning, "worker.stack_dump_failed", &[("error", Value::Text(&error))]);
    }
}

fn register(py: Python<'_>, log: &Log) -> PyResult<()> {
    let Some(file) = log.stacks_fd() else { return Ok(()) };
    let faulthandler = py.import("faulthandler")?;
    // A handler that is already registered would not be installed again.
    faulthandler.call_method1("unregister", (SIGNAL as i32,))?;
    let options = PyDict::new(py);
    // A descriptor's number needs no `fileno()` and `flush()`, unlike a file object.
    options.set_item("file", file.as_raw_fd())?;
    options.set_item("all_threads", true)?;
    options.set_item("chain", false)?;
    faulthandler.call_method("register", (SIGNAL as i32,), Some(&options)).map(drop)
}

#[cfg(test)]
mod tests;
