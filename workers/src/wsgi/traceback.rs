//! Tracebacks as text: what logs and reports show of an exception.

use pyo3::prelude::*;
use pyo3::types::PyString;

use super::start_response::type_name;

/// The traceback as Python prints it.
pub(super) fn traceback(py: Python<'_>, error: &PyErr) -> String {
    formatted(py, error).unwrap_or_else(|_| untold(py, error))
}

/// Formatting runs code of the application's, which may fail in its turn (out of memory, a broken import
/// system).
pub(super) fn formatted(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    // Three arguments: before Python 3.12 the value alone does not know its traceback yet.
    let triple = (error.get_type(py), error.value(py), error.traceback(py));
    let lines = py.import("traceback")?.call_method1("format_exception", triple)?;
    let text = PyString::new(py, "").call_method1("join", (lines,))?;
    Ok(text.cast_into::<PyString>()?.to_string_lossy().into_owned())
}

/// The type is named all the same, and the message where it has one.
pub(super) fn untold(py: Python<'_>, error: &PyErr) -> String {
    let message = error.value(py).str().map(|text| text.to_string_lossy().into_owned());
    let message = message.map_or(String::new(), |text| format!("{text} "));
    format!("{}: {message}(its traceback cannot be shown)", type_name(error.value(py)))
}
