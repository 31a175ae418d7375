//! SIGUSR2: the Python stacks of all threads, to the supervisor, which logs them, and the worker goes on.
//!
//! CPython's `faulthandler`, whose handler is C and runs at once: one written in Python waits for the
//! interpreter to come by, which it never does inside of a C loop that holds the lock. That is the worker
//! one wants to look into. It writes the stacks to a pipe, piece by piece, and the supervisor makes one event
//! of them, with slot and pid: the worker itself may be stuck. Without a supervisor they go to the log as
//! they are.
//!
//! It is there before the application is imported, so that an import that hangs can be looked into. What the
//! application did to SIGUSR2 at import is undone afterwards, with a warning.

use std::os::fd::AsRawFd;

use nix::sys::signal::Signal;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::process::signals;
use crate::shared::log::{Level, Log, Value};

const SIGNAL: Signal = Signal::SIGUSR2;

/// That SIGUSR2 shows the stacks.
pub(super) struct Stacks {
    /// Where its handler is.
    handler: Option<usize>,
}

impl Stacks {
    /// Shows them from now on. Without a log there is nowhere to; SIGUSR2 then does nothing, as it has
    /// from the start of the worker ([`signals::stand_by`]).
    pub(super) fn install(py: Python<'_>, log: &Log) -> Self {
        warn_if_failed(py, log, register(py, log));
        Self { handler: signals::handler(SIGNAL) }
    }

    /// Shows them again, where the application has put something else in that place.
    pub(super) fn reinstall(self, py: Python<'_>, log: &Log) {
        if signals::handler(SIGNAL) != self.handler {
            let pairs = [("signal", Value::Text(SIGNAL.as_str()))];
            log.line(Level::Warning, "worker.signal_handler_replaced", &pairs);
        }
        warn_if_failed(py, log, register(py, log));
    }
}

/// It fails for want of memory, or of a `faulthandler`: no reason not to serve.
fn warn_if_failed(py: Python<'_>, log: &Log, registered: PyResult<()>) {
    if let Err(error) = registered {
        let error = error.value(py).to_string();
        log.line(Level::Warning, "worker.stack_dump_failed", &[("error", Value::Text(&error))]);
    }
}

fn register(py: Python<'_>, log: &Log) -> PyResult<()> {
    let Some(file) = log.stacks_fd() else { return Ok(()) };
    let faulthandler = py.import("faulthandler")?;
    // Registered already, it would not look at the handler again.
    faulthandler.call_method1("unregister", (SIGNAL as i32,))?;
    let options = PyDict::new(py);
    // A number, and no file object, of which it would want `fileno()` and `flush()`.
    options.set_item("file", file.as_raw_fd())?;
    options.set_item("all_threads", true)?;
    options.set_item("chain", false)?;
    faulthandler.call_method("register", (SIGNAL as i32,), Some(&options)).map(drop)
}

#[cfg(test)]
mod tests;
