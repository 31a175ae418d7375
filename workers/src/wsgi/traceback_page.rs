//! `--debug`: the page that shows the traceback of a failed request to its developer.
//!
//! It is a middleware around the application, in Python, so that requests pay nothing for it where it is off.

use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::PyModule;

const CODE: &CStr =
    match CStr::from_bytes_with_nul(concat!(include_str!("traceback_page.py"), "\0").as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("the source contains a NUL"),
    };

/// Puts the middleware around an application.
pub(super) fn around(py: Python<'_>, application: Py<PyAny>) -> PyResult<Py<PyAny>> {
    let (file, name) = (c"arctos/traceback_page.py", c"arctos_traceback_page");
    let module = PyModule::from_code(py, CODE, file, name)?;
    Ok(module.getattr("TracebackPage")?.call1((application,))?.unbind())
}
