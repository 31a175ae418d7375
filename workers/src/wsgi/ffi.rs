//! Thin calls into CPython for what pyo3's safe API lacks or does measurably slower, and the slot that passes the event
//! loop's [`Outlet`] through the interpreter. The module offers safe functions only, and knows nothing of requests.
#![expect(
    unsafe_code,
    reason = "latin-1 strings, bytes that are filled, reference counts and a borrow carried through Python"
)]

mod bytes_memory;

use std::cell::Cell;
use std::ptr::NonNull;

use pyo3::prelude::*;
use pyo3::types::string::PyStringData;
use pyo3::types::{PyString, PyTuple};
use pyo3::{Borrowed, ffi};

use crate::application::Outlet;

pub(super) use bytes_memory::BytesMemory;

/// Creates a str whose code points are the bytes, which is how PEP 3333 puts bytes into a native string.
pub(super) fn latin1<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    // SAFETY: pointer and length are those of a live slice (a slice is never longer than isize::MAX);
    // a null `errors` is allowed; the thread is attached, as `py` shows.
    let object = unsafe {
        ffi::PyUnicode_DecodeLatin1(
            bytes.as_ptr().cast(),
            bytes.len().cast_signed(),
            std::ptr::null(),
        )
    };
    // SAFETY: the call above returns a new reference, or null with an exception set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object) }?;
    // SAFETY: PyUnicode_DecodeLatin1 makes an exact str.
    Ok(unsafe { object.cast_into_unchecked() })
}

/// Returns the bytes of a str that is stored as latin-1; `None` if a code point is above U+00FF.
pub(super) fn latin1_bytes<'a>(text: &'a Bound<'_, PyString>) -> Option<&'a [u8]> {
    // SAFETY: pyo3 reads the bit field of a live str, whose layout C leaves to the platform; from 3.14 on, it asks CPython
    // instead. The tests compare what comes out for every kind of str, so they show it for the platform that they run on.
    // The slice lives as long as the borrow of `text`, and a str that others can see is never changed in place.
    match unsafe { text.data() } {
        Ok(PyStringData::Ucs1(bytes)) => Some(bytes),
        Ok(PyStringData::Ucs2(_) | PyStringData::Ucs4(_)) | Err(_) => None,
    }
}

/// Returns both items of a tuple of two, without reference counting or bounds checks.
pub(super) fn pair<'a, 'py>(
    tuple: &'a Bound<'py, PyTuple>,
) -> Option<(Borrowed<'a, 'py, PyAny>, Borrowed<'a, 'py, PyAny>)> {
    if tuple.len() != 2 {
        return None;
    }
    // SAFETY: the tuple has two items, and a tuple never changes.
    let first = unsafe { tuple.get_borrowed_item_unchecked(0) };
    // SAFETY: as above.
    let second = unsafe { tuple.get_borrowed_item_unchecked(1) };
    Some((first, second))
}

/// Returns the number of references to an object, with the caller's.
pub(super) fn reference_count(object: &Bound<'_, PyAny>) -> isize {
    // SAFETY: the pointer is that of a live object, and the interpreter's lock keeps others from changing the count
    // meanwhile (`gil_used`).
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// Whether the object's type defines a length, so that `len()` raises no TypeError. An exception costs more than the
/// rest of a request.
pub(super) fn has_length(object: &Bound<'_, PyAny>) -> bool {
    let kind = object.get_type_ptr();
    // SAFETY: the type of a live object is alive.
    let sequence = unsafe { (*kind).tp_as_sequence };
    // SAFETY: as above.
    let mapping = unsafe { (*kind).tp_as_mapping };
    // SAFETY: a method table that a type points to lives as long as the type, and no Python code, which could change it,
    // runs before the last use of the reference; null is `None`.
    let sequence = unsafe { sequence.as_ref() };
    // SAFETY: as above.
    let mapping = unsafe { mapping.as_ref() };
    sequence.is_some_and(|methods| methods.sq_length.is_some())
        || mapping.is_some_and(|methods| methods.mp_length.is_some())
}

/// Returns the address of the state that CPython keeps for this thread.
pub(super) fn thread_state(_py: Python<'_>) -> usize {
    // SAFETY: the thread is attached, so it has a state.
    unsafe { ffi::PyThreadState_Get() }.expose_provenance()
}

/// Copies the thread's current context (contextvars).
pub(super) fn copy_context(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    // SAFETY: the thread is attached, as `py` shows.
    let context = unsafe { ffi::PyContext_CopyCurrent() };
    // SAFETY: the call above returns a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, context) }
}

/// Leaves a context, also when the code in it panics.
struct Leave<'a, 'py>(&'a Bound<'py, PyAny>);

impl Drop for Leave<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: as in `in_context`.
        let result = unsafe { ffi::PyContext_Exit(self.0.as_ptr()) };
        if result != 0 {
            // The code in it entered another context and never left it. That code decides which context is current
            // then, and the exception concerns nobody.
            drop(PyErr::take(self.0.py()));
        }
    }
}

/// Calls `run` with `context`, which [`copy_context`] created, as the thread's current context. A context cannot be
/// entered a second time; if `context` is entered already, it is current anyway.
pub(super) fn in_context<T>(context: &Bound<'_, PyAny>, run: impl FnOnce() -> T) -> T {
    // SAFETY: the thread is attached while a `Bound` lives. An object that is no context would be a TypeError.
    let result = unsafe { ffi::PyContext_Enter(context.as_ptr()) };
    if result != 0 {
        drop(PyErr::take(context.py()));
        return run();
    }
    let _leave = Leave(context);
    run()
}

/// The outlet that is lent to this thread.
#[derive(Clone, Copy)]
struct Lent {
    /// The reply that may use the outlet.
    owner: usize,
    /// The borrow, without its lifetime.
    outlet: NonNull<dyn Outlet>,
}

thread_local! {
    /// The outlet that is lent to the Python code of this thread, if any. Threads of the application cannot reach it,
    /// because it is thread-local.
    static LENT: Cell<Option<Lent>> = const { Cell::new(None) };
}

/// Restores the outlet that was lent before, also when the code in between panics.
struct Restore(Option<Lent>);

impl Drop for Restore {
    fn drop(&mut self) {
        LENT.set(self.0);
    }
}

/// Calls `run`. Meanwhile, [`with_outlet`] on this thread and for the same `owner` finds `outlet`.
pub(super) fn lend_outlet<T>(outlet: &mut dyn Outlet, owner: usize, run: impl FnOnce() -> T) -> T {
    let outlet: NonNull<dyn Outlet + '_> = NonNull::from(outlet);
    // SAFETY: only the lifetime changes. `Restore` takes the pointer out of the slot before this
    // function returns or unwinds, so it is never there after the borrow it came from has ended. This function does not
    // use `outlet` in between, so an exclusive borrow that `with_outlet` makes of the pointer is the only one.
    let outlet: NonNull<dyn Outlet> = unsafe { std::mem::transmute(outlet) };
    let _restore = Restore(LENT.replace(Some(Lent { owner, outlet })));
    run()
}

/// Calls `run`. Meanwhile, no outlet is lent to this thread.
pub(super) fn without_outlet<T>(run: impl FnOnce() -> T) -> T {
    let _restore = Restore(LENT.replace(None));
    run()
}

/// Calls `write` with the outlet that is lent to `owner` on this thread; `None` if there is none.
pub(super) fn with_outlet<T>(owner: usize, write: impl FnOnce(&mut dyn Outlet) -> T) -> Option<T> {
    let lent = LENT.get().filter(|lent| lent.owner == owner)?;
    // Taken out while in use, so that there are never two exclusive borrows of it.
    let _restore = Restore(LENT.replace(None));
    let mut outlet = lent.outlet;
    // SAFETY: it was in the slot, so the `lend_outlet` that put it there is still running and holds the
    // exclusive borrow, which nobody uses meanwhile; and it is in no slot now.
    let outlet = unsafe { outlet.as_mut() };
    Some(write(outlet))
}

#[cfg(test)]
mod tests;
