//! Tracebacks as text: what logs and reports show of an exception.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::start_response::type_name;

/// Returns the traceback as Python prints it.
pub(super) fn traceback(py: Python<'_>, error: &PyErr) -> String {
    formatted(py, error).unwrap_or_else(|_| unformatted(py, error))
}

/// Formats a traceback with Python's own code, which runs code of the application and may fail itself (without
/// memory, or with a broken import system).
pub(super) fn formatted(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    // Before Python 3.12, the value alone does not have its traceback yet.
    let triple = (error.get_type(py), error.value(py), error.traceback(py));
    let lines = py.import("traceback")?.call_method1("format_exception", triple)?;
    let text = PyString::new(py, "").call_method1("join", (lines,))?;
    Ok(text.cast_into::<PyString>()?.to_string_lossy().into_owned())
}

/// Names the type, and the message if there is one, of an exception whose traceback cannot be formatted.
pub(super) fn unformatted(py: Python<'_>, error: &PyErr) -> String {
    let message = error.value(py).str().map(|text| text.to_string_lossy().into_owned());
    let message = message.map_or(String::new(), |text| format!("{text} "));
    format!("{}: {message}(the traceback cannot be formatted)", type_name(error.value(py)))
}
