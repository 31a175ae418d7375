//! What goes wrong in an application, and how the error log names it.

use std::rc::Rc;
use std::sync::Arc;

use pyo3::exceptions::PyBrokenPipeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::caller::Caller;
use super::hooks::HookFailure;
use super::start_response::type_name;
use crate::application::AppError;
use crate::log::{Level, Log, Value};

/// Why there is no (more) reply.
#[derive(Debug)]
pub(super) enum Failure {
    /// The application, its iterator or its `close()` raised.
    Raised(PyErr),
    /// There is something to send and no head.
    NotStarted,
    /// It gave something that PEP 3333 does not allow; the text says what, and what to do.
    Invalid(String),
    /// The client went away while the application wrote.
    ClientGone,
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

/// Which request a line of the log is about. One allocation, for it is made for every streamed reply.
pub(super) struct Label {
    text: Box<[u8]>,
    method_end: usize,
    path_end: usize,
}

impl Label {
    /// Of a request; the path is without its query.
    pub(super) fn new(method: &[u8], path: &[u8], request_id: &[u8]) -> Self {
        Self {
            text: [method, path, request_id].concat().into_boxed_slice(),
            method_end: method.len(),
            path_end: method.len() + path.len(),
        }
    }

    fn pairs(&self) -> [(&str, Value<'_>); 3] {
        [
            ("method", Value::Bytes(&self.text[..self.method_end])),
            ("path", Value::Bytes(&self.text[self.method_end..self.path_end])),
            ("request_id", Value::Bytes(&self.text[self.path_end..])),
        ]
    }
}

/// The error log, and how failures are told there.
#[derive(Clone)]
pub(super) struct Reporter {
    log: Arc<Log>,
    /// Whose process this is, where it is not a worker's.
    caller: Option<Rc<Caller>>,
}

impl Reporter {
    /// Onto this log.
    pub(super) fn new(log: Arc<Log>, caller: Option<Rc<Caller>>) -> Self {
        Self { log, caller }
    }

    /// Logs a failure and says what it is to the loop.
    pub(super) fn report(&self, py: Python<'_>, label: &Label, failure: Failure) -> AppError {
        match failure {
            Failure::Raised(error) => {
                self.log_error(py, "application.raised", label, &error);
                AppError::Raised
            }
            Failure::NotStarted => {
                self.log_text(
                    "application.not_started",
                    label,
                    "The application returned, or yielded its first item, without having called \
                     start_response(status, headers).",
                );
                AppError::NotStarted
            }
            Failure::Invalid(text) => {
                self.log_text("application.invalid", label, &text);
                AppError::Invalid
            }
            // The client's affair, and counted by the loop.
            Failure::ClientGone => AppError::ClientGone,
        }
    }

    /// Logs an exception that changes nothing for the reply: one of `close()`.
    pub(super) fn close_failed(&self, py: Python<'_>, label: &Label, error: &PyErr) {
        self.log_error(py, "application.close_raised", label, error);
    }

    /// Logs an exception that belongs to no request: one of a signal handler of the application's.
    pub(super) fn signal_failed(&self, py: Python<'_>, error: &PyErr) {
        self.log.block(
            Level::Error,
            "application.signal_handler_raised",
            &[],
            &traceback(py, error),
        );
    }

    /// Logs a failure that comes too late to change anything.
    pub(super) fn hook_failed(&self, failure: &HookFailure) {
        failure.tell(&self.log);
    }

    /// An exception that the application's own is not known to be: a signal handler may have raised it.
    pub(super) fn overhear(&self, py: Python<'_>, error: &PyErr) {
        if let Some(caller) = &self.caller {
            caller.overhear(py, error);
        }
    }

    fn log_error(&self, py: Python<'_>, event: &str, label: &Label, error: &PyErr) {
        self.overhear(py, error);
        let text = formatted(py, error).unwrap_or_else(|failed| {
            // Most of the time that an exception takes, so that this is where a signal comes.
            self.overhear(py, &failed);
            untold(py, error)
        });
        self.log.block(Level::Error, event, &label.pairs(), &text);
    }

    fn log_text(&self, event: &str, label: &Label, text: &str) {
        self.log.block(Level::Error, event, &label.pairs(), text);
    }
}

/// Whether an exception is the one that `write()` raises when the client is gone.
pub(super) fn is_broken_pipe(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBrokenPipeError>(py)
}

/// The traceback as Python prints it.
pub(super) fn traceback(py: Python<'_>, error: &PyErr) -> String {
    formatted(py, error).unwrap_or_else(|_| untold(py, error))
}

/// Formatting runs code of the application's, which may fail in its turn (out of memory, a broken import
/// system).
fn formatted(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    // Three arguments: before Python 3.12 the value alone does not know its traceback yet.
    let triple = (error.get_type(py), error.value(py), error.traceback(py));
    let lines = py.import("traceback")?.call_method1("format_exception", triple)?;
    let text = PyString::new(py, "").call_method1("join", (lines,))?;
    Ok(text.cast_into::<PyString>()?.to_string_lossy().into_owned())
}

/// The type is named all the same, and the message where it has one.
fn untold(py: Python<'_>, error: &PyErr) -> String {
    let message = error.value(py).str().map(|text| text.to_string_lossy().into_owned());
    let message = message.map_or(String::new(), |text| format!("{text} "));
    format!("{}: {message}(its traceback cannot be shown)", type_name(error.value(py)))
}
