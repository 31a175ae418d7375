//! `wsgi.input`: the decoded body as a read-only binary file, with the meanings of `io.BytesIO`.
//!
//! It owns what it reads from, so an application may keep it as long as it likes. It cannot seek: a
//! body that went to a file would then behave otherwise than one that did not.
//!
//! It is borrowed only while bytes are taken out of it, and not while a buffer's own code or the
//! collector may run and let in another thread that reads from it.

use pyo3::exceptions::{PyMemoryError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::spool::Spool;

/// Bytes read from a file at a time for `readline`.
const BUFFER_BYTES: usize = 64 * 1024;

/// The body of one request.
#[pyclass(module = "arctos.arctos", name = "Input")]
pub(super) struct Input {
    source: InputSource,
}

/// Where the bytes are.
enum InputSource {
    /// There are none (any more).
    Exhausted,
    /// In memory.
    Memory(MemoryBody),
    /// In a file.
    File(FileBody),
}

/// A body in memory.
struct MemoryBody {
    bytes: Py<PyBytes>,
    position: usize,
}

/// A body in a file.
struct FileBody {
    spool: Spool,
    /// Bytes of the spool behind what is in `buffer`.
    left: u64,
    /// Read ahead of what the application asked for.
    buffer: Vec<u8>,
    /// Bytes of `buffer` that were handed over.
    taken: usize,
}

impl Input {
    /// A body of no bytes; it never changes, so all requests without a body share one.
    pub(super) fn empty() -> Self {
        Self { source: InputSource::Exhausted }
    }

    /// A body copied out of the loop's buffer, which is only lent.
    ///
    /// Errors: MemoryError.
    pub(super) fn copied(py: Python<'_>, bytes: &[u8]) -> PyResult<Self> {
        let bytes = copy(py, bytes)?.unbind();
        Ok(Self { source: InputSource::Memory(MemoryBody { bytes, position: 0 }) })
    }

    /// A body that was gathered.
    ///
    /// Errors: MemoryError.
    pub(super) fn spooled(py: Python<'_>, spool: Spool) -> PyResult<Self> {
        if let Some(bytes) = spool.in_memory() {
            return Self::copied(py, bytes);
        }
        let left = spool.len();
        let file = FileBody { spool, left, buffer: Vec::new(), taken: 0 };
        Ok(Self { source: InputSource::File(file) })
    }

    /// Up to `limit` bytes; all that are left without one.
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

    /// Up to and with the next line feed, but no more than `limit` bytes.
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
    /// `count` bytes, which must be there; the whole body without a copy.
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
            // A line may be as long as the body. Where there is no memory for it, the application is told so.
            line.try_reserve(count).map_err(|_| PyMemoryError::new_err(()))?;
            line.extend_from_slice(&ahead[..count]);
            self.taken += count;
            if end.is_some() || line.len() == limit || !self.fill()? {
                return copy(py, &line);
            }
        }
    }

    /// Reads ahead when everything read ahead has been handed over; whether there is something now.
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

/// The bytes as Python's. `PyBytes::new` would panic where there is no memory for them.
fn copy<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, bytes.len(), |out| {
        out.copy_from_slice(bytes);
        Ok(())
    })
}

/// A size as `read` takes it: None and negative numbers are no limit.
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

    /// The same as `read`: the whole body is there.
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

    /// Fills a writable buffer; returns how many bytes were read.
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

    /// True: for `io.BufferedReader` and `io.TextIOWrapper` around it.
    fn readable(&self) -> bool {
        true
    }

    /// False.
    fn writable(&self) -> bool {
        false
    }

    /// False.
    fn seekable(&self) -> bool {
        false
    }

    /// False: closing it does nothing.
    #[getter]
    fn closed(&self) -> bool {
        false
    }

    /// Does nothing: PEP 3333 gives the stream to the server to close.
    fn close(&self) {}

    /// Does nothing.
    fn flush(&self) {}
}

#[cfg(test)]
mod tests;
