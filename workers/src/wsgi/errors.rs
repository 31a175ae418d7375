//! `wsgi.errors`: what the application writes there goes to the error log, line by line.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::PyString;
use pyo3::types::string::PyStringMethods;

use crate::log::{Level, Log, Value};

/// An unfinished line longer than this is written out as it is: the bound on what is held.
const LONGEST_LINE_BYTES: usize = 64 * 1024;

/// A text stream that writes to the log.
#[pyclass(module = "arctos.arctos", name = "ErrorStream")]
pub(super) struct ErrorStream {
    log: Arc<Log>,
    /// The line that has not ended yet.
    line: String,
}

impl ErrorStream {
    /// Onto this log.
    pub(super) fn new(log: Arc<Log>) -> Self {
        Self { log, line: String::new() }
    }

    fn append(&mut self, text: &str) {
        let mut rest = text;
        while let Some((line, behind)) = rest.split_once('\n') {
            self.line.push_str(line);
            self.end_line();
            rest = behind;
        }
        self.line.push_str(rest);
        if self.line.len() > LONGEST_LINE_BYTES {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        self.log.line(Level::Error, "wsgi.errors", &[("text", Value::Text(&self.line))]);
        self.line.clear();
    }
}

#[pymethods]
impl ErrorStream {
    /// Writes text; each line becomes a line of the log when it ends.
    fn write(slf: &Bound<'_, Self>, text: &Bound<'_, PyString>) -> PyResult<usize> {
        slf.try_borrow_mut()?.append(&text.to_string_lossy());
        text.code_point_len()
    }

    /// Writes each text of an iterable.
    fn writelines(slf: &Bound<'_, Self>, lines: &Bound<'_, PyAny>) -> PyResult<()> {
        for line in lines.try_iter()? {
            Self::write(slf, line?.cast::<PyString>()?)?;
        }
        Ok(())
    }

    /// Ends the line that is begun, if there is one.
    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.end_line();
        }
    }
}
