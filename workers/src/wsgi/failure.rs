//! What goes wrong in an application, and how the error log names it.

use std::rc::Rc;
use std::sync::Arc;

use pyo3::exceptions::{PyBrokenPipeError, PySystemExit};
use pyo3::prelude::*;

use super::caller::Caller;
use super::errors::ErrorText;
use super::forked;
use super::hooks::HookFailure;
use super::traceback::{formatted, traceback, untold};
use crate::application::AppError;
use crate::process::fork_guard;
use crate::shared::log::{Level, Log, Value};

/// Why there is no (more) reply.
#[derive(Debug)]
pub(super) enum CallFailure {
    /// The application, its iterator or its `close()` raised.
    Raised(PyErr),
    /// There is something to send and no head.
    NotStarted,
    /// It gave something that PEP 3333 does not allow; the text says what, and what to do.
    Invalid(String),
    /// The client went away while the application wrote.
    ClientGone,
}

impl From<PyErr> for CallFailure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

/// Which request a line of the log is about. One allocation, for it is made for every streamed reply.
#[derive(Clone)]
pub(super) struct RequestLabel {
    text: Box<[u8]>,
    method_end: usize,
    path_end: usize,
}

impl RequestLabel {
    /// Of a request; the path is without its query.
    pub(super) fn new(method: &[u8], path: &[u8], request_id: &[u8]) -> Self {
        Self {
            text: [method, path, request_id].concat().into_boxed_slice(),
            method_end: method.len(),
            path_end: method.len() + path.len(),
        }
    }

    /// Of what belongs to no request.
    fn none() -> Self {
        Self::new(b"", b"", b"")
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
    errors: Arc<ErrorText>,
    /// Whose process this is, where it is not a worker's.
    caller: Option<Rc<Caller>>,
}

impl Reporter {
    /// Onto this log.
    pub(super) fn new(log: Arc<Log>, errors: Arc<ErrorText>, caller: Option<Rc<Caller>>) -> Self {
        Self { log, errors, caller }
    }

    /// Keeps what leaves a request without its reply, in place of logging it: whoever keeps it tells of it. What
    /// else goes wrong, and what the application writes to `wsgi.errors`, is kept and logged.
    pub(super) fn keep(&self) {
        self.errors.keep();
    }

    /// What was kept since.
    pub(super) fn take_kept(&self) -> String {
        self.errors.take_kept()
    }

    /// A call of the application is over: what it has left unfinished in `wsgi.errors` is logged.
    pub(super) fn end_call(&self) {
        self.errors.end_call();
    }

    /// Logs a failure and says what it is to the loop.
    pub(super) fn report(
        &self,
        py: Python<'_>,
        label: &RequestLabel,
        failure: CallFailure,
    ) -> AppError {
        match failure {
            CallFailure::Raised(error) => {
                let text = self.text_of(py, label, &error);
                self.log_text("application.raised", label, &text);
                AppError::Raised
            }
            CallFailure::NotStarted => {
                self.log_text(
                    "application.response_not_started",
                    label,
                    "The application returned, or yielded its first item, without having called \
                     start_response(status, headers).",
                );
                AppError::NotStarted
            }
            CallFailure::Invalid(text) => {
                self.log_text("application.response_rejected", label, &text);
                AppError::Invalid
            }
            // The client's affair, and counted by the loop.
            CallFailure::ClientGone => AppError::ClientGone,
        }
    }

    /// Logs an exception that changes nothing for the reply: one of `close()`.
    pub(super) fn close_failed(&self, py: Python<'_>, label: &RequestLabel, error: &PyErr) {
        let text = self.text_of(py, label, error);
        self.errors.kept(&text); // A copy: the reply is none the worse.
        self.log.block(Level::Error, "application.close_raised", &label.pairs(), &text);
    }

    /// Logs an exception that belongs to no request: one of a signal handler of the application's.
    pub(super) fn signal_failed(&self, py: Python<'_>, error: &PyErr) {
        self.leave_if_forked(py, RequestLabel::none, Some(error));
        self.log.block(
            Level::Error,
            "application.signal_handler_raised",
            &[],
            &traceback(py, error),
        );
    }

    /// Says for which threads the end of the worker waits.
    pub(super) fn awaits_threads(&self, names: &str) {
        self.log.line(Level::Info, "worker.threads_awaited", &[("threads", Value::Text(names))]);
    }

    /// Asked after each call of the application, with what it raised: ends this process if it is a child that
    /// the application forked, with the status that the exception has for a program.
    pub(super) fn leave_if_forked(
        &self,
        py: Python<'_>,
        label: impl FnOnce() -> RequestLabel,
        error: Option<&PyErr>,
    ) {
        if !fork_guard::is_forked() {
            return;
        }
        match error {
            // The usual end of a program, which its parent will hear of.
            Some(error) if error.is_instance_of::<PySystemExit>(py) => {}
            Some(error) => {
                let text = traceback(py, error);
                self.log.block(Level::Error, "application.fork_raised", &label().pairs(), &text);
            }
            None => self.log.line(Level::Warning, "application.fork_returned", &label().pairs()),
        }
        forked::leave(py, error)
    }

    /// Logs a failure that comes too late to change anything.
    pub(super) fn hook_failed(&self, failure: &HookFailure) {
        failure.log(&self.log);
    }

    /// An exception that the application's own is not known to be: a signal handler may have raised it.
    pub(super) fn note_if_of_handler(&self, py: Python<'_>, error: &PyErr) {
        if let Some(caller) = &self.caller {
            caller.note_if_of_handler(py, error);
        }
    }

    /// What the log says of an exception. Where a child of the application has brought it, that ends here.
    fn text_of(&self, py: Python<'_>, label: &RequestLabel, error: &PyErr) -> String {
        self.leave_if_forked(py, || label.clone(), Some(error));
        self.note_if_of_handler(py, error);
        formatted(py, error).unwrap_or_else(|failed| {
            // Most of the time that an exception takes, so that this is where a signal comes.
            self.note_if_of_handler(py, &failed);
            untold(py, error)
        })
    }

    /// Of what leaves a request without its reply: it is logged, or kept in place of that.
    fn log_text(&self, event: &str, label: &RequestLabel, text: &str) {
        if !self.errors.kept(text) {
            self.log.block(Level::Error, event, &label.pairs(), text);
        }
    }
}

/// Whether an exception is the one that `write()` raises when the client is gone.
pub(super) fn is_broken_pipe(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBrokenPipeError>(py)
}
