//! A `bytes` object as the memory of a request body: what arrives is written into the object that the application reads.

use std::ptr::NonNull;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::body_memory::BodyMemory;

/// A `bytes` object of which nobody else has a reference yet, and which is filled from its start.
#[derive(Default)]
pub(in crate::wsgi) struct BytesMemory {
    object: Option<Py<PyBytes>>,
    /// The length of the object.
    capacity: usize,
    /// The number of bytes that were written, at most `capacity`.
    filled: usize,
}

impl BytesMemory {
    /// Returns the bytes that were written, and leaves an empty memory. They are the object itself, or a copy if it is
    /// longer.
    ///
    /// Errors: MemoryError.
    pub(in crate::wsgi) fn finish<'py>(
        &mut self,
        py: Python<'py>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let whole = std::mem::take(self);
        match &whole.object {
            Some(object) if whole.filled == whole.capacity => Ok(object.bind(py).clone()),
            Some(_) | None => PyBytes::new_with(py, whole.filled, |out| {
                out.copy_from_slice(whole.bytes());
                Ok(())
            }),
        }
    }

    /// Where the bytes of the object are.
    fn start(&self) -> Option<NonNull<u8>> {
        // SAFETY: the object is a live bytes object.
        let start = unsafe { ffi::PyBytes_AsString(self.object.as_ref()?.as_ptr()) };
        NonNull::new(start.cast())
    }
}

impl BodyMemory for BytesMemory {
    fn bytes(&self) -> &[u8] {
        match self.start() {
            // SAFETY: so many bytes of the object were written, and nothing writes to them while `self` is borrowed.
            Some(start) => unsafe { std::slice::from_raw_parts(start.as_ptr(), self.filled) },
            None => &[],
        }
    }

    fn capacity(&self) -> usize {
        self.capacity
    }

    fn reserve(&mut self, capacity: usize) -> bool {
        let Ok(length) = ffi::Py_ssize_t::try_from(capacity) else { return false };
        if capacity <= self.capacity {
            return true;
        }
        Python::attach(|py| {
            // SAFETY: without bytes to copy, the call makes an object whose bytes are not written yet, or returns null with
            // an exception.
            let fresh = unsafe { ffi::PyBytes_FromStringAndSize(std::ptr::null(), length) };
            // SAFETY: as above; the reference is new.
            let Some(fresh) = (unsafe { Bound::from_owned_ptr_or_opt(py, fresh) }) else {
                drop(PyErr::take(py));
                return false;
            };
            // SAFETY: the call above makes an exact bytes object.
            let fresh = unsafe { fresh.cast_into_unchecked() }.unbind();
            // A resize that fails would lose what has arrived.
            let larger = Self { object: Some(fresh), capacity, filled: 0 };
            let former = std::mem::replace(self, larger);
            self.append(former.bytes());
            true
        })
    }

    fn append(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(self.capacity - self.filled);
        let Some(start) = self.start() else { return };
        // SAFETY: the object has `capacity` bytes, so the place is inside it.
        let place = unsafe { start.as_ptr().add(self.filled) };
        // SAFETY: there is room for so many bytes, and `bytes` is none of the object, whose only reference is borrowed
        // exclusively.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, count) };
        self.filled += count;
    }
}

impl Drop for BytesMemory {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        // A reference that is dropped outside of Python is given back later, and a body may be large. An interpreter that
        // ends takes its memory with it.
        let _ = Python::try_attach(|_| drop(object));
    }
}
