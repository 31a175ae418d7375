//! `wsgi.input`: the decoded body as a read-only binary file with the semantics of `io.BytesIO`.
//!
//! It owns its data, so an application may keep it after the request. It cannot seek, so that a body in a file behaves
//! like one in memory.
//!
//! It is borrowed only while bytes are taken from it, and never while the code of a buffer or the garbage collector may
//! run, which could let another thread read from it.

use std::any::Any;

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::ffi;
use crate::body_budget::Share;
use crate::body_memory::BodyMemory;
use crate::spool::Spool;

/// The number of bytes that `readline` reads from a file at a time.
const BUFFER_BYTES: usize = 64 * 1024;

/// The body of one request.
#[pyclass(module = "arctos.arctos", name = "Input")]
pub(super) struct Input {
    source: InputSource,
}

/// Where the rest of a body is.
enum InputSource {
    /// No bytes are left.
    Exhausted,
    /// The body is in memory.
    Memory(MemoryBody),
    /// The body is in a file.
    File(FileBody),
}

/// A body in memory.
struct MemoryBody {
    bytes: Py<PyBytes>,
    position: usize,
    /// What the body has taken of the worker's budget, until the application drops it.
    _share: Option<Share>,
}

/// A body in a file.
struct FileBody {
    spool: Spool,
    /// The bytes of the spool after those in `buffer`.
    left: u64,
    /// The bytes that were read ahead.
    buffer: Vec<u8>,
    /// The number of bytes of `buffer` that the application has taken.
    taken: usize,
}

impl Input {
    /// Creates an empty body. It never changes, so all requests without a body share one.
    pub(super) fn empty() -> Self {
        Self { source: InputSource::Exhausted }
    }

    /// Copies a body from the event loop's buffer, which is only borrowed.
    ///
    /// Errors: MemoryError.
    pub(super) fn copied(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        let bytes = copy(py, bytes)?.unbind();
        Ok(Self { source: InputSource::Memory(MemoryBody { bytes, position: 0, _share: None }) })
    }

    /// Creates the input for a spooled body.
    ///
    /// Errors: MemoryError.
    pub(super) fn spooled(py: Python<'_>, spool: Spool) -> PyResult<Self> {
        let source = match spool.into_memory() {
            Ok((memory, share)) => {
                let bytes = bytes_of(py, memory)?.unbind();
                InputSource::Memory(MemoryBody { bytes, position: 0, _share: Some(share) })
            }
            Err(spool) => {
                let left = spool.len();
                InputSource::File(FileBody { spool, left, buffer: Vec::new(), taken: 0 })
            }
        };
        Ok(Self { source })
    }

    /// Takes up to `limit` bytes, or all that are left.
    fn take<'py>(
        &mut self,
        py: Python<'py>,
        limit: Option<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        match &mut self.source {
            InputSource::Exhausted => Ok(PyBytes::new(py, b"")),
            InputSource::Memory(memory) => {
                let left = memory.bytes.as_bytes(py).len() - memory.position;
                memory.take(py, limit.map_or(left, |limit| limit.min(left)))
            }
            InputSource::File(file) => file.take(py, limit),
        }
    }

    /// Takes the bytes up to and including the next line feed, at most `limit`.
    fn take_line<'py>(
        &mut self,
        py: Python<'py>,
        limit: Option<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        match &mut self.source {
            InputSource::Exhausted => Ok(PyBytes::new(py, b"")),
            InputSource::Memory(memory) => {
                let rest = &memory.bytes.as_bytes(py)[memory.position..];
                let rest = &rest[..limit.map_or(rest.len(), |limit| limit.min(rest.len()))];
                let count = memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1);
                memory.take(py, count)
            }
            InputSource::File(file) => file.take_line(py, limit),
        }
    }
}

impl MemoryBody {
    /// Takes `count` bytes, which must exist. The whole body is not copied.
    fn take<'py>(&mut self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        let bytes = self.bytes.bind(py);
        let (start, end) = (self.position, self.position + count);
        let taken = if start == 0 && end == bytes.as_bytes().len() {
            bytes.clone()
        } else {
            copy(py, &bytes.as_bytes()[start..end])?
        };
        self.position = end;
        Ok(taken)
    }
}

impl FileBody {
    fn buffered(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }

    fn take<'py>(
        &mut self,
        py: Python<'py>,
        limit: Option<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let left = left.saturating_add(self.buffered().len());
        let count = limit.map_or(left, |limit| limit.min(left));
        PyBytes::new_with(py, count, |out| {
            let (ahead, direct) = out.split_at_mut(count.min(self.buffered().len()));
            ahead.copy_from_slice(&self.buffered()[..ahead.len()]);
            self.taken += ahead.len();
            let mut filled = 0;
            while filled < direct.len() {
                match self.spool.read(&mut direct[filled..])? {
                    0 => return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
                    read_bytes => filled += read_bytes,
                }
            }
            self.left = self.left.saturating_sub(filled as u64);
            Ok(())
        })
    }

    fn take_line<'py>(
        &mut self,
        py: Python<'py>,
        limit: Option<usize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let limit = limit.unwrap_or(usize::MAX);
        let mut line = Vec::new();
        loop {
            let ahead = self.buffered();
            let ahead = &ahead[..ahead.len().min(limit - line.len())];
            let end = memchr::memchr(b'\n', ahead).map(|at| at + 1);
            let count = end.unwrap_or(ahead.len());
            // A line may be as long as the body; without memory for it, the application gets a MemoryError.
            line.try_reserve(count).map_err(|_| PyMemoryError::new_err(()))?;
            line.extend_from_slice(&ahead[..count]);
            self.taken += count;
            if end.is_some() || line.len() == limit || !self.fill()? {
                return copy(py, &line);
            }
        }
    }

    /// Refills the buffer if it is empty. Returns whether it has bytes then.
    fn fill(&mut self) -> PyResult<bool> {
        if !self.buffered().is_empty() {
            return Ok(true);
        }
        self.buffer.resize(BUFFER_BYTES, 0);
        self.taken = self.buffer.len();
        let read_bytes = self.spool.read(&mut self.buffer)?;
        self.buffer.truncate(read_bytes);
        self.taken = 0;
        self.left = self.left.saturating_sub(read_bytes as u64);
        Ok(read_bytes > 0)
    }
}

/// Returns a body in memory as bytes: the object itself if the memory is one.
fn bytes_of(py: Python<'_>, mut memory: Box<dyn BodyMemory>) -> PyResult<Bound<'_, PyBytes>> {
    let any: &mut dyn Any = memory.as_mut();
    match any.downcast_mut::<ffi::BytesMemory>() {
        Some(own) => own.finish(py),
        None => copy(py, memory.bytes()),
    }
}

/// Copies bytes into a Python object. `PyBytes::new` would panic without memory.
fn copy<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, bytes.len(), |out| {
        out.copy_from_slice(bytes);
        Ok(())
    })
}

/// Converts the argument of `read`: None and negative numbers mean no limit.
fn limit(size: Option<isize>) -> Option<usize> {
    size.and_then(|size| usize::try_from(size).ok())
}

#[pymethods]
impl Input {
    /// Reads `size` bytes, or all that are left; `b""` at the end.
    #[pyo3(signature = (size=None, /))]
    fn read<'py>(&mut self, py: Python<'py>, size: Option<isize>) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size))
    }

    /// Does the same as `read`, because the whole body is available.
    #[pyo3(signature = (size=None, /))]
    fn read1<'py>(
        &mut self,
        py: Python<'py>,
        size: Option<isize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.take(py, limit(size))
    }

    /// Reads one line, its line feed included, or `size` bytes of it.
    #[pyo3(signature = (size=None, /))]
    fn readline<'py>(
        &mut self,
        py: Python<'py>,
        size: Option<isize>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.take_line(py, limit(size))
    }

    /// Reads lines until `hint` bytes are read, or all that are left.
    #[pyo3(signature = (hint=None, /))]
    fn readlines<'py>(slf: &Bound<'py, Self>, hint: Option<isize>) -> PyResult<Bound<'py, PyList>> {
        let py = slf.py();
        let lines = PyList::empty(py);
        let hint = limit(hint).filter(|&hint| hint > 0).unwrap_or(usize::MAX);
        let mut total_bytes = 0;
        while total_bytes < hint {
            let line = slf.try_borrow_mut()?.take_line(py, None)?;
            if line.as_bytes().is_empty() {
                break;
            }
            total_bytes += line.as_bytes().len();
            lines.append(line)?;
        }
        Ok(lines)
    }

    /// Fills a writable buffer and returns the number of bytes read.
    fn readinto(slf: &Bound<'_, Self>, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let py = slf.py();
        let view = py.import("builtins")?.getattr("memoryview")?.call1((buffer,))?;
        let view = view.call_method1("cast", ("B",))?;
        if view.getattr("readonly")?.is_truthy()? {
            return Err(PyValueError::new_err("readinto() needs a writable buffer"));
        }
        let room_bytes = view.len()?;
        let data = slf.try_borrow_mut()?.take(py, Some(room_bytes))?;
        let count = data.as_bytes().len();
        let part = pyo3::types::PySlice::new(py, 0, count.cast_signed(), 1);
        view.set_item(part, data)?;
        Ok(count)
    }

    fn __iter__<'py>(slf: &Bound<'py, Self>) -> Bound<'py, Self> {
        slf.clone()
    }

    fn __next__<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let line = self.take_line(py, None)?;
        Ok(if line.as_bytes().is_empty() { None } else { Some(line) })
    }

    /// Returns True. `io.BufferedReader` and `io.TextIOWrapper` need it.
    fn readable(&self) -> bool {
        true
    }

    /// Returns False.
    fn writable(&self) -> bool {
        false
    }

    /// Returns False.
    fn seekable(&self) -> bool {
        false
    }

    /// Is False, because `close()` does nothing.
    #[getter]
    fn closed(&self) -> bool {
        false
    }

    /// Does nothing: by PEP 3333, only the server closes the stream.
    fn close(&self) {}

    /// Does nothing.
    fn flush(&self) {}
}

#[cfg(test)]
mod tests;
