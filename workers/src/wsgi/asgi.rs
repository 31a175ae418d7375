//! Recognizes ASGI applications and other coroutine functions, which load like WSGI applications and then fail at
//! every request.
//!
//! Only the code object of a Python function is proof. This module looks for it in the function itself, below
//! methods and `functools.partial`, and in `__call__`. A callable without one, or one hidden by a wrapper, passes as a
//! WSGI application: finding a mistake late is better than refusing a valid application. Signatures from `inspect`
//! are not used, because a decorator may claim the signature of another function.

use pyo3::prelude::*;
use pyo3::types::{PyCode, PyFunction, PyTuple, PyType};

/// Flags of a code object (CPython, Include/cpython/code.h): CO_COROUTINE and CO_ASYNC_GENERATOR.
const ASYNC: u32 = 0x0080 | 0x0200;
/// The names of the three arguments of an ASGI application.
const ARGUMENTS: [&str; 3] = ["scope", "receive", "send"];
/// Maximum number of methods and partials to unwrap.
const LAYERS: usize = 16;

/// Returns what the callable is instead, as the rest of a sentence that starts with its name; `None` if it may be a
/// WSGI application.
pub(super) fn problem(application: &Bound<'_, PyAny>) -> Option<&'static str> {
    // An object that cannot be inspected passes.
    let (code, bound) = code_of(application.clone()).ok().flatten()?;
    let names: Vec<String> = code.getattr("co_varnames").and_then(|names| names.extract()).ok()?;
    let count: usize = code.getattr("co_argcount").and_then(|count| count.extract()).ok()?;
    let flags: u32 = code.getattr("co_flags").and_then(|flags| flags.extract()).ok()?;
    let takes = names.get(bound..count).unwrap_or_default();
    if takes.len() >= ARGUMENTS.len() && takes.iter().zip(ARGUMENTS).all(|(name, it)| name == it) {
        return Some("is an ASGI application, which is called with (scope, receive, send)");
    }
    (flags & ASYNC != 0).then_some("is a coroutine function, which WSGI cannot call")
}

/// Returns what to do about it.
pub(super) fn advice(application: &Bound<'_, PyAny>) -> &'static str {
    let home = application.get_type().getattr("__module__");
    if home.is_ok_and(|home| home.to_string().starts_with("django.")) {
        return "Django also provides a WSGI application, usually in the module wsgi next to this one. Any \
                other ASGI application can be wrapped in ASGIMiddleware(...) of the package a2wsgi.";
    }
    "arctos serves WSGI applications: wrap an ASGI application in ASGIMiddleware(...) of the package a2wsgi, \
     or use an ASGI server."
}

/// Returns the code that runs when an object is called, and how many of its first arguments are already bound.
fn code_of<'py>(mut callable: Bound<'py, PyAny>) -> PyResult<Option<(Bound<'py, PyCode>, usize)>> {
    let py = callable.py();
    let partial = py.import("functools")?.getattr("partial")?;
    let method = py.import("types")?.getattr("MethodType")?;
    let mut bound = 0;
    for _ in 0..LAYERS {
        if let Ok(function) = callable.cast::<PyFunction>() {
            let code = function.getattr("__code__")?.cast_into::<PyCode>()?;
            return Ok(Some((code, bound)));
        }
        if callable.is_instance(&method)? {
            bound += 1;
            callable = callable.getattr("__func__")?;
        } else if callable.is_instance(&partial)? {
            bound += callable.getattr("args")?.cast_into::<PyTuple>()?.len();
            callable = callable.getattr("func")?;
        } else if callable.is_instance_of::<PyType>() {
            return Ok(None); // Calling a class creates an instance, in a way of its own.
        } else {
            let kind = callable.get_type();
            let call = kind.getattr("__call__")?;
            let Some(bind) = call.getattr_opt("__get__")? else { return Ok(None) };
            callable = bind.call1((&callable, kind))?;
        }
    }
    Ok(None)
}
