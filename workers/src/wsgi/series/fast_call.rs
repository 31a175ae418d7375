//! Methods that get their arguments as C passes them (METH_FASTCALL | METH_KEYWORDS), because a dictionary of the tags
//! would cost more than the rest of an update.
#![expect(
    unsafe_code,
    reason = "methods in C's calling convention, and the arguments that they are given"
)]

use std::ffi::CStr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::slice;

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::prelude::*;
use pyo3::pyclass::boolean_struct::False;
use pyo3::types::{PyBool, PyFloat, PyString, PyTuple};
use pyo3::{PyClass, ffi};

use super::family::{Family, Tags, is_constant};

/// A class around a metric.
pub(super) trait Owner: PyClass<Frozen = False> {
    /// The metric.
    fn family(&mut self) -> &mut Family;
}

/// A method that updates a metric: `method(number, /, **tags)`.
pub(super) trait Method {
    /// The class that has it.
    type Class: Owner;
    /// Its name.
    const NAME: &CStr;
    /// Its signature and documentation, in the form of CPython's `__text_signature__`.
    const DOC: &CStr;

    /// Updates the series with these tags. `number` is the positional argument, if there is one.
    fn update(family: &mut Family, number: Option<f64>, tags: &Tags<'_, '_>) -> PyResult<()>;
}

/// Adds a method to its class.
pub(super) fn add<M: Method>(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<M::Class>();
    let definition = Box::leak(Box::new(ffi::PyMethodDef {
        ml_name: M::NAME.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer { PyCFunctionFastWithKeywords: called::<M> },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: M::DOC.as_ptr(),
    }));
    // SAFETY: the class is alive, the definition lives for ever, and its function has the convention that its flags say.
    let method = unsafe { ffi::PyDescr_NewMethod(class.as_type_ptr(), definition) };
    // SAFETY: the call above returns a new reference, or null with an exception set.
    let method = unsafe { Bound::from_owned_ptr_or_err(py, method) }?;
    let name = M::NAME.to_str().map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
    class.setattr(name, method)
}

/// What CPython calls. Returns None, or null with an exception set.
unsafe extern "C" fn called<M: Method>(
    this: *mut ffi::PyObject,
    arguments: *const *mut ffi::PyObject,
    positional: isize,
    names: *mut ffi::PyObject,
) -> *mut ffi::PyObject {
    // SAFETY: CPython calls methods with the thread attached.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: the object is alive during the call.
    let this = unsafe { Borrowed::from_ptr(py, this) };
    // SAFETY: this is null, or a tuple that is alive during the call.
    let names = unsafe { Borrowed::from_ptr_or_opt(py, names) };
    // SAFETY: CPython passes the names of arguments as a tuple.
    let names = names.map(|names| unsafe { names.cast_unchecked::<PyTuple>() });
    let positional = positional.cast_unsigned();
    let count = positional + names.map_or(0, |names| names.len());
    let arguments = match count {
        0 => &[],
        // SAFETY: there are as many arguments as positions and names. They are alive during the call, and a `Borrowed` has
        // the representation of a pointer that is not null.
        _ => unsafe { slice::from_raw_parts(arguments.cast::<Borrowed<'_, '_, PyAny>>(), count) },
    };
    let (positional, values) = arguments.split_at(positional);
    let outcome = catch_unwind(AssertUnwindSafe(|| run::<M>(this, positional, names, values)));
    let error = match outcome {
        Ok(Ok(())) => return py.None().into_ptr(),
        Ok(Err(error)) => error,
        Err(_panic) => PyRuntimeError::new_err("arctos.metrics panicked; this is a bug in arctos"),
    };
    error.restore(py);
    std::ptr::null_mut()
}

fn run<'a, 'py, M: Method>(
    this: Borrowed<'a, 'py, PyAny>,
    positional: &[Borrowed<'a, 'py, PyAny>],
    names: Option<Borrowed<'a, 'py, PyTuple>>,
    values: &[Borrowed<'a, 'py, PyAny>],
) -> PyResult<()> {
    let number = match positional {
        [] => None,
        [number] => Some(number_of(number)?),
        [_, ..] => {
            let name = M::NAME.to_string_lossy();
            let error = format!("{name}() takes one number, and the tags as keywords");
            return Err(PyTypeError::new_err(error));
        }
    };
    // The code of other types runs before the metric is borrowed, because it may update the metric, too.
    let texts: Vec<_>;
    let borrowed: Vec<_>;
    let values = match values.iter().all(is_constant) {
        true => values,
        false => {
            texts = values.iter().map(text_of).collect::<PyResult<_>>()?;
            borrowed = texts.iter().map(|text| text.as_borrowed()).collect();
            &borrowed
        }
    };
    let mut owner = this.cast::<M::Class>()?.try_borrow_mut()?;
    M::update(owner.family(), number, &Tags { names, values })
}

fn text_of<'py>(value: &Borrowed<'_, 'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    Ok(value.str()?.into_any())
}

fn number_of(number: &Borrowed<'_, '_, PyAny>) -> PyResult<f64> {
    if let Ok(number) = number.cast_exact::<PyFloat>() {
        return Ok(number.value());
    }
    if number.is_exact_instance_of::<PyBool>() || number.is_instance_of::<PyString>() {
        let kind = number.get_type().name()?;
        return Err(PyTypeError::new_err(format!("a number is needed, not {kind}")));
    }
    number.extract()
}
