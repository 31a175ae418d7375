//! Whether what was named as the application is one of ASGI, or another coroutine function: it loads like
//! one of WSGI, and then fails at every request.
//!
//! Only the code of a Python function tells, so this looks for that: the function itself, below methods and
//! `functools.partial`, or that of `__call__`. Whatever has none, or hides it behind a wrapper, is taken for
//! an application of WSGI: a mistake that is found late is better than an application that is refused
//! wrongly. Signatures as `inspect` has them are not looked at, because a decorator may claim another's.

use pyo3::prelude::*;
use pyo3::types::{PyCode, PyFunction, PyTuple, PyType};

/// Flags of a code object (CPython, Include/cpython/code.h): CO_COROUTINE and CO_ASYNC_GENERATOR.
const ASYNC: u32 = 0x0080 | 0x0200;
/// What ASGI calls its three arguments, by keyword or by place.
const ARGUMENTS: [&str; 3] = ["scope", "receive", "send"];
/// Most layers that are taken off.
const LAYERS: usize = 16;

/// What it is, as the end of a sentence that begins with its name; `None` for what may be an application of
/// WSGI.
pub(super) fn problem(application: &Bound<'_, PyAny>) -> Option<&'static str> {
    // What cannot be looked at is taken for good.
    let (code, bound) = code_of(application.clone()).ok().flatten()?;
    let names: Vec<String> = code.getattr("co_varnames").and_then(|names| names.extract()).ok()?;
    let count: usize = code.getattr("co_argcount").and_then(|count| count.extract()).ok()?;
    let flags: u32 = code.getattr("co_flags").and_then(|flags| flags.extract()).ok()?;
    let takes = names.get(bound..count).unwrap_or_default();
    if takes.len() >= ARGUMENTS.len() && takes.iter().zip(ARGUMENTS).all(|(name, it)| name == it) {
        return Some("is an ASGI application, which is called with (scope, receive, send)");
    }
    (flags & ASYNC != 0).then_some("is a coroutine function, which WSGI has no use for")
}

/// What to do about it.
pub(super) fn advice(application: &Bound<'_, PyAny>) -> &'static str {
    let home = application.get_type().getattr("__module__");
    if home.is_ok_and(|home| home.to_string().starts_with("django.")) {
        return "Django makes one of WSGI as well, as a rule in the module wsgi beside this one. Any other \
                ASGI application can be wrapped in ASGIMiddleware(...) of the package a2wsgi.";
    }
    "arctos serves WSGI: wrap an ASGI application in ASGIMiddleware(...) of the package a2wsgi, or use an \
     ASGI server."
}

/// The code that runs when an object is called, and how many of its first arguments are given already.
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
            return Ok(None); // A class: what is called is made, and each in its own way.
        } else {
            let kind = callable.get_type();
            let call = kind.getattr("__call__")?;
            let Some(bind) = call.getattr_opt("__get__")? else { return Ok(None) };
            callable = bind.call1((&callable, kind))?;
        }
    }
    Ok(None)
}
