//! The context (Python's `contextvars`) that a request runs in.
//!
//! A worker takes items from several replies in turn, in one thread. If they shared a context, each reply would see the
//! variables of the previous one, and code that keeps a stack in them (such as Flask's `stream_with_context`) would pop
//! what another reply had pushed.
//!
//! Requests that end with their call run one after another in the same context, as in a thread of any other server. A
//! reply that continues keeps its context, and the next request gets a new one. So the usual request only pays for
//! entering and leaving a context.

use pyo3::prelude::*;

use super::ffi;

/// A context.
pub(super) struct Context(Py<PyAny>);

impl Context {
    /// Copies the interpreter's current context, with what the application set at import.
    pub(super) fn new(py: Python<'_>) -> PyResult<Self> {
        ffi::copy_context(py).map(|context| Self(context.unbind()))
    }

    /// Returns the same context for a second owner.
    pub(super) fn share(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    /// Calls `run` in this context.
    pub(super) fn run<T>(&self, py: Python<'_>, run: impl FnOnce() -> T) -> T {
        ffi::in_context(self.0.bind(py), run)
    }
}
