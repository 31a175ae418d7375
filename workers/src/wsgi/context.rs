//! The context of contextvars(3) that a request runs in.
//!
//! A worker asks several replies for their items by turns, in one thread. Without a context of its own
//! each reply would find the variables of the one asked before it, and what keeps a stack in them
//! (Flask's `stream_with_context`, for one) would take down what another has put up.
//!
//! Requests that end with their call run one after the other in the same context, as they do in a
//! thread of any server. A reply that goes on keeps the context it was called in, and the next request
//! gets a new one. So the usual request pays for entering and leaving, and for nothing else.

use pyo3::prelude::*;

use super::ffi;

/// One context.
pub(super) struct Context(Py<PyAny>);

impl Context {
    /// A copy of the interpreter's current context, with what the application set at import.
    pub(super) fn new(py: Python<'_>) -> PyResult<Self> {
        ffi::copy_context(py).map(|context| Self(context.unbind()))
    }

    /// The same context, for a second owner.
    pub(super) fn share(&self, py: Python<'_>) -> Self {
        Self(self.0.clone_ref(py))
    }

    /// Runs `run` in it.
    pub(super) fn run<T>(&self, py: Python<'_>, run: impl FnOnce() -> T) -> T {
        ffi::in_context(self.0.bind(py), run)
    }
}
