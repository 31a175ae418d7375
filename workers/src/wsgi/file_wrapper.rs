//! `wsgi.file_wrapper` (PEP 3333 "Optional Platform-Specific File Handling").
//!
//! A wrapper that the application returns as its result is sent by sendfile(2) if it wraps a regular file and nothing
//! else. A `fileno()` does not prove that: the one of `gzip.GzipFile` belongs to the compressed file, and a subclass may
//! read something other than the bytes of the file. So types are compared exactly. Everything except `io`'s own binary
//! files is read block by block, which is always correct.

use std::fs::File;
use std::os::fd::OwnedFd;

use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

use crate::shared::fd;

/// An iterable over the blocks of a file-like object.
#[pyclass(frozen, module = "arctos.arctos", name = "FileWrapper")]
pub(super) struct FileWrapper {
    filelike: Py<PyAny>,
    block_bytes: Py<PyAny>,
}

#[pymethods]
impl FileWrapper {
    #[new]
    #[pyo3(signature = (filelike, blksize=None))]
    fn new(py: Python<'_>, filelike: Py<PyAny>, blksize: Option<Py<PyAny>>) -> PyResult<Self> {
        let block_bytes = match blksize {
            Some(size) => size,
            None => 8192_u32.into_pyobject(py)?.into_any().unbind(),
        };
        Ok(Self { filelike, block_bytes })
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let block = self.filelike.bind(py).call_method1("read", (self.block_bytes.bind(py),))?;
        Ok(if block.is_truthy()? { Some(block) } else { None })
    }

    /// Closes the wrapped object, if it has a `close()`.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(close) = self.filelike.bind(py).getattr_opt("close")? {
            close.call0()?;
        }
        Ok(())
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.filelike)?;
        visit.call(&self.block_bytes)
    }
}

/// The part of a file to send.
pub(super) struct FileSlice {
    /// The file, under a descriptor of our own.
    pub(super) file: OwnedFd,
    /// The position of the application in the file.
    pub(super) offset: u64,
    /// The bytes from there to the end of the file.
    pub(super) length: u64,
}

impl FileWrapper {
    /// Returns the wrapped file from its current position on, if sendfile(2) can send it; `None` if it has to be read.
    pub(super) fn slice(&self, py: Python<'_>) -> PyResult<Option<FileSlice>> {
        let Some(file) = plain_file(self.filelike.bind(py))? else {
            return Ok(None);
        };
        let number = file.call_method0("fileno")?.extract()?;
        let descriptor = File::from(fd::duplicate(number)?);
        if !descriptor.metadata()?.is_file() {
            return Ok(None);
        }
        // What the application has written must be in the file before the kernel reads it.
        file.call_method0("flush")?;
        let offset: u64 = file.call_method0("tell")?.extract()?;
        let length = descriptor.metadata()?.len().saturating_sub(offset);
        if length == 0 {
            // Files of proc(5) have a size of 0 and still have content.
            return Ok(None);
        }
        Ok(Some(FileSlice { file: descriptor.into(), offset, length }))
    }
}

/// The types of `io` that read exactly the bytes of their descriptor.
struct IoTypes {
    raw: Py<PyType>,
    buffered: [Py<PyType>; 2],
    temporary: Py<PyType>,
}

fn io_types(py: Python<'_>) -> PyResult<&'static IoTypes> {
    static TYPES: PyOnceLock<IoTypes> = PyOnceLock::new();
    TYPES.get_or_try_init(py, || {
        let io = py.import("io")?;
        let kind = |name: &str| -> PyResult<Py<PyType>> {
            Ok(io.getattr(name)?.cast_into::<PyType>()?.unbind())
        };
        let temporary = py.import("tempfile")?.getattr("_TemporaryFileWrapper")?;
        Ok(IoTypes {
            raw: kind("FileIO")?,
            buffered: [kind("BufferedReader")?, kind("BufferedRandom")?],
            temporary: temporary.cast_into::<PyType>()?.unbind(),
        })
    })
}

/// Returns the open file of `io` that an object is, or that it contains if it is from `tempfile.NamedTemporaryFile`.
fn plain_file<'py>(object: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = object.py();
    let types = io_types(py)?;
    let file = if object.get_type().is(&types.temporary) {
        object.getattr("file")?
    } else {
        object.clone()
    };
    let kind = file.get_type();
    let raw = if types.buffered.iter().any(|buffered| kind.is(buffered)) {
        file.getattr("raw")?
    } else {
        file.clone()
    };
    if !raw.get_type().is(&types.raw) || file.getattr("closed")?.is_truthy()? {
        return Ok(None);
    }
    // Reading a file that was opened only for writing raises the exception that says so; sendfile(2) would fail after
    // the head is sent.
    Ok(if file.call_method0("readable")?.is_truthy()? { Some(file) } else { None })
}
