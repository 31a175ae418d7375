//! What a process that loads the application does for `--reload`.
//!
//! It reports where its modules come from, so that those outside the application's directory are watched, too. And it
//! does not use the bytecode of files that were edited a moment ago: Python compares times of modification in whole
//! seconds, so that it would take the bytecode of an edit for that of the next one in the same second.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use nix::unistd::write;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyModule};

use crate::settings::AppSpec;

const CODE: &std::ffi::CStr = c_source(concat!(include_str!("development.py"), "\0"));

const fn c_source(text: &str) -> &std::ffi::CStr {
    match std::ffi::CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) => text,
        Err(_) => panic!("the source contains a NUL"),
    }
}

/// Prepares a process before any code of the application is imported.
pub(super) fn prepare(py: Python<'_>, spec: &AppSpec) -> PyResult<()> {
    match &spec.import_reports {
        Some(_) => module(py)?.call_method0("distrust_bytecode_of_recent_edits").map(drop),
        None => Ok(()),
    }
}

/// Reports where the modules come from that were imported, successfully or not.
pub(super) fn report_imports(py: Python<'_>, spec: &AppSpec) {
    let Some(pipe) = &spec.import_reports else { return };
    let paths = module(py).and_then(|module| module.call_method0("sources"));
    // Without them, the application's directory is watched all the same.
    let paths = paths.and_then(|paths| paths.extract::<Vec<OsString>>()).unwrap_or_default();
    for path in paths {
        let text = [path.as_bytes(), b"\0"].concat();
        // EAGAIN: there are more of them than the pipe holds. EPIPE: the supervisor has ended.
        let _ = write(pipe, &text);
    }
}

fn module(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    // It remembers when the process began to import.
    let modules = py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
    if let Some(module) = modules.get_item("arctos_development")? {
        return Ok(module.cast_into::<PyModule>()?);
    }
    PyModule::from_code(py, CODE, c"arctos/development.py", c"arctos_development")
}
