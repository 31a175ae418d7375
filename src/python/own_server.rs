//! What the application in a worker asks its own server.

use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;

use crate::client::own_server::{self, OwnMetrics};

/// Returns the page of all metrics of the server that this process belongs to; None if it belongs to none. Raises
/// RuntimeError if the server has no admin socket, OSError if it does not answer.
#[pyfunction]
pub(super) fn server_metrics(py: Python<'_>) -> PyResult<Option<String>> {
    match py.detach(own_server::metrics) {
        Ok(OwnMetrics::NoServer) => Ok(None),
        Ok(OwnMetrics::Page(page)) => Ok(Some(page)),
        Ok(OwnMetrics::NoAdmin) => Err(PyRuntimeError::new_err(
            "the metrics of all workers come from the server's admin socket: start it with --admin-bind",
        )),
        Err(error) => Err(PyOSError::new_err(error.to_string())),
    }
}
