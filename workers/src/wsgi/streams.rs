//! Python's standard output and error.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Buffers output by line, so that what the application prints appears at the end of each line, also if stdout is
/// a pipe.
pub(super) fn line_buffer(py: Python<'_>) -> PyResult<()> {
    for stream in open_streams(py)? {
        if let Some(reconfigure) = stream.getattr_opt("reconfigure")? {
            let options = PyDict::new(py);
            options.set_item("line_buffering", true)?;
            reconfigure.call((), Some(&options))?;
        }
    }
    Ok(())
}

/// Writes out what was printed.
pub(super) fn flush_output(py: Python<'_>) -> PyResult<()> {
    for stream in open_streams(py)? {
        stream.call_method0("flush")?;
    }
    Ok(())
}

/// Returns those of standard output and error that are open: a program that called `serve()` may have closed
/// them.
fn open_streams(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyAny>>> {
    let sys = py.import("sys")?;
    let mut streams = Vec::with_capacity(2);
    for name in ["stdout", "stderr"] {
        let stream = sys.getattr(name)?;
        let is_closed = match stream.getattr_opt("closed")? {
            Some(closed) => closed.is_truthy()?,
            None => stream.is_none(),
        };
        if !is_closed {
            streams.push(stream);
        }
    }
    Ok(streams)
}
