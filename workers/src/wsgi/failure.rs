//! Failures of the application, and how the error log shows them.

use std::rc::Rc;
use std::sync::Arc;

use pyo3::exceptions::{PyBrokenPipeError, PySystemExit};
use pyo3::prelude::*;

use super::caller::Caller;
use super::errors::ErrorText;
use super::forked;
use super::hooks::HookFailure;
use super::interrupt;
use super::traceback::{formatted, traceback, unformatted};
use crate::application::AppError;
use crate::http::TraceId;
use crate::process::fork_guard;
use crate::shared::log::{Level, Log, Value};
use crate::shared::scoreboard::WorkerEntry;

/// Why a reply is missing or incomplete.
#[derive(Debug)]
pub(super) enum CallFailure {
    /// The application, its iterator or its `close()` raised.
    Raised(PyErr),
    /// The application returned without calling `start_response`.
    NotStarted,
    /// The application returned something that PEP 3333 does not allow. The text says what, and what to do.
    Invalid(String),
    /// The client disconnected while the application was writing.
    ClientGone,
}

impl From<PyErr> for CallFailure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

/// The request that a log event is about. It takes one allocation, because every streamed reply has one.
#[derive(Clone)]
pub(super) struct RequestLabel {
    text: Box<[u8]>,
    method_end: usize,
    path_end: usize,
    trace: Option<TraceId>,
}

impl RequestLabel {
    /// Creates the label of a request. The path is without its query.
    pub(super) fn new(
        method: &[u8],
        path: &[u8],
        request_id: &[u8],
        trace: Option<&TraceId>,
    ) -> Self {
        Self {
            trace: trace.copied(),
            text: [method, path, request_id].concat().into_boxed_slice(),
            method_end: method.len(),
            path_end: method.len() + path.len(),
        }
    }

    /// Creates the label of an event that belongs to no request.
    fn none() -> Self {
        Self::new(b"", b"", b"", None)
    }

    /// The identifier of the request.
    pub(super) fn request_id(&self) -> &[u8] {
        &self.text[self.path_end..]
    }

    /// The trace that the request belongs to.
    pub(super) fn trace(&self) -> Option<&TraceId> {
        self.trace.as_ref()
    }

    fn pairs(&self) -> Vec<(&str, Value<'_>)> {
        let trace = self.trace.as_ref().map(|trace| ("trace_id", Value::Bytes(trace)));
        let named = [
            ("method", Value::Bytes(&self.text[..self.method_end])),
            ("path", Value::Bytes(&self.text[self.method_end..self.path_end])),
            ("request_id", Value::Bytes(&self.text[self.path_end..])),
        ];
        named.into_iter().chain(trace).collect()
    }
}

/// Reports failures to the error log.
#[derive(Clone)]
pub(super) struct Reporter {
    log: Arc<Log>,
    errors: Arc<ErrorText>,
    /// The program that owns this process, if it is not a worker's.
    caller: Option<Rc<Caller>>,
    entry: &'static WorkerEntry,
}

impl Reporter {
    /// Creates a reporter for this log.
    pub(super) fn new(log: Arc<Log>, errors: Arc<ErrorText>, entry: &'static WorkerEntry) -> Self {
        Self { log, errors, caller: None, entry }
    }

    /// Names the program that owns this process.
    pub(super) fn set_caller(&mut self, caller: Rc<Caller>) {
        self.caller = Some(caller);
    }

    /// Starts to collect failures. Those that leave a request without its reply are collected instead of logged,
    /// because the caller reports them. Other failures, and what the application writes to `wsgi.errors`, are
    /// collected and logged.
    pub(super) fn start_collecting(&self) {
        self.errors.start_collecting();
    }

    /// Stops collecting and returns what was collected.
    pub(super) fn take_collected(&self) -> String {
        self.errors.take_collected()
    }

    /// Names the request that the application is called for, for the supervisor's log.
    #[inline]
    pub(super) fn begin_call(&self, request_id: &[u8], trace: Option<&TraceId>) {
        self.entry.identify_request(request_id, trace);
    }

    /// Logs what a call of the application left unfinished in `wsgi.errors`.
    pub(super) fn end_call(&self) {
        self.errors.end_call();
    }

    /// Logs a failure and returns it as the error for the event loop.
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
                if interrupt::has_raised(self.entry) {
                    AppError::TimedOut
                } else {
                    AppError::Raised
                }
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
            // This is not a failure of the application, and the event loop counts it.
            CallFailure::ClientGone => AppError::ClientGone,
        }
    }

    /// Logs an exception of `close()`, which does not change the reply.
    pub(super) fn close_failed(&self, py: Python<'_>, label: &RequestLabel, error: &PyErr) {
        let text = self.text_of(py, label, error);
        self.errors.collect(&text); // A copy, because the reply is not affected.
        self.log.block(Level::Error, "application.close_raised", &label.pairs(), &text);
    }

    /// Logs an exception of one of the application's signal handlers, which belongs to no request.
    pub(super) fn signal_failed(&self, py: Python<'_>, error: &PyErr) {
        self.leave_if_forked(py, RequestLabel::none, Some(error));
        self.log.block(
            Level::Error,
            "application.signal_handler_raised",
            &[],
            &traceback(py, error),
        );
    }

    /// Logs the threads that the worker waits for before it exits.
    pub(super) fn awaits_threads(&self, names: &str) {
        self.log.line(Level::Info, "worker.threads_awaited", &[("threads", Value::Text(names))]);
    }

    /// Called after each call of the application, with the exception that it raised. Ends this process if it is a
    /// child that the application forked, with the exit status that the exception gives to a program.
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
            // This is how programs end, and the parent sees the status.
            Some(error) if error.is_instance_of::<PySystemExit>(py) => {}
            Some(error) => {
                let text = traceback(py, error);
                self.log.block(Level::Error, "application.fork_raised", &label().pairs(), &text);
            }
            None => self.log.line(Level::Warning, "application.fork_returned", &label().pairs()),
        }
        forked::leave(py, error)
    }

    /// Logs the failure of a hook that comes too late to change anything.
    pub(super) fn hook_failed(&self, failure: &HookFailure) {
        failure.log(&self.log);
    }

    /// Lets the caller check whether one of its signal handlers raised this exception.
    pub(super) fn note_if_of_handler(&self, py: Python<'_>, error: &PyErr) {
        if let Some(caller) = &self.caller {
            caller.note_if_of_handler(py, error);
        }
    }

    /// Formats an exception for the log. Ends this process if it is a child of the application.
    fn text_of(&self, py: Python<'_>, label: &RequestLabel, error: &PyErr) -> String {
        interrupt::suspended(|| self.formatted(py, label, error))
    }

    fn formatted(&self, py: Python<'_>, label: &RequestLabel, error: &PyErr) -> String {
        self.leave_if_forked(py, || label.clone(), Some(error));
        self.note_if_of_handler(py, error);
        formatted(py, error).unwrap_or_else(|failed| {
            // Formatting takes most of the time of an exception, so a signal most likely arrives here.
            self.note_if_of_handler(py, &failed);
            unformatted(py, error)
        })
    }

    /// Logs a failure that leaves a request without its reply, or collects it instead.
    fn log_text(&self, event: &str, label: &RequestLabel, text: &str) {
        if !self.errors.collect(text) {
            self.log.block(Level::Error, event, &label.pairs(), text);
        }
    }
}

/// Whether an exception is the one that `write()` raises when the client has disconnected.
pub(super) fn is_broken_pipe(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyBrokenPipeError>(py)
}
