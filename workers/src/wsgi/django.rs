//! What Django leaves for the first request, done before a worker is ready.
//!
//! Django imports the URLconf, and with it all views, when the first request comes. A mistake in there would
//! so pass a start and a reload, and every request would fail. Django's own checks come in where the
//! application is only looked at (`--check`). What a request raises Django keeps for its own loggers; for
//! `--reload-check` it is asked.
//!
//! Django is recognized by its WSGI handler: the application is one, or, where a wrapper hides it (WhiteNoise,
//! Sentry, a function), one exists in this process. An application that merely uses Django's models has none.

use std::collections::HashSet;
use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};

use super::forked::guarded;
use super::traceback::traceback;
use crate::shared::log::{Level, Log};
use crate::worker_init::BootFailure;

/// Imports the URLconf and all that it includes.
///
/// Errors: as for an application that cannot be imported.
pub(super) fn load_urlconf(
    py: Python<'_>,
    application: &Bound<'_, PyAny>,
) -> Result<(), BootFailure> {
    let Some(urlconf) = urlconf(py, application) else { return Ok(()) };
    guarded(py, || load_patterns(py)).map_err(|error| {
        BootFailure::not_importable(format!(
            "The application was imported, but loading Django's URLconf {urlconf} (ROOT_URLCONF) failed:\n{}",
            traceback(py, &error)
        ))
    })
}

/// Runs Django's system checks, those for databases and for deployment left out, as `manage.py check` does.
/// What they warn of goes to the log.
///
/// Errors: what they find wrong, or the exception of one that fails.
pub(super) fn check(
    py: Python<'_>,
    application: &Bound<'_, PyAny>,
    log: &Log,
) -> Result<(), BootFailure> {
    if urlconf(py, application).is_none() {
        return Ok(());
    }
    let found = guarded(py, || run_checks(py)).map_err(|error| {
        let report = format!("Django's system checks failed:\n{}", traceback(py, &error));
        BootFailure::not_importable(report)
    })?;
    if !found.warnings.is_empty() {
        log.block(Level::Warning, "django.check_warned", &[], &found.warnings.join("\n"));
    }
    if found.errors.is_empty() {
        return Ok(());
    }
    let report = format!("Django's system checks found errors:\n{}", found.errors.join("\n"));
    Err(BootFailure::not_importable(report))
}

/// Closes database connections that the import of the URLconf has opened: this process is about to be forked,
/// and its children would all talk over the same ones.
pub(super) fn close_connections(py: Python<'_>) {
    let closed = loaded(py, "django.db").map(|db| {
        db.getattr("connections").and_then(|connections| connections.call_method0("close_all"))
    });
    drop(closed); // What cannot be closed is named in the log as a socket that is left.
}

/// What is configured as ROOT_URLCONF, for a message; `None` where this is not Django, or nothing is.
fn urlconf(py: Python<'_>, application: &Bound<'_, PyAny>) -> Option<String> {
    let handler = loaded(py, "django.core.handlers.wsgi")?.getattr("WSGIHandler").ok()?;
    let handler = handler.cast_into::<PyType>().ok()?;
    if !is_handler(application, &handler) && !exists(py, &handler) {
        return None;
    }
    let settings = loaded(py, "django.conf")?.getattr("settings").ok()?;
    let urlconf = settings.getattr("ROOT_URLCONF").ok()?;
    urlconf.is_truthy().ok()?.then(|| urlconf.to_string())
}

/// A module, if it has been imported.
fn loaded<'py>(py: Python<'py>, name: &str) -> Option<Bound<'py, PyAny>> {
    let modules = py.import("sys").and_then(|sys| sys.getattr("modules")).ok()?;
    modules.get_item(name).ok().filter(|module| !module.is_none())
}

/// By its type, which is asked nothing: a lazy object would answer for what it stands for.
fn is_handler(object: &Bound<'_, PyAny>, handler: &Bound<'_, PyType>) -> bool {
    object.get_type().is_subclass(handler).unwrap_or(false)
}

/// Whether there is a handler anywhere.
fn exists(py: Python<'_>, handler: &Bound<'_, PyType>) -> bool {
    let objects = py.import("gc").and_then(|gc| gc.call_method0("get_objects"));
    let Ok(objects) = objects.and_then(|objects| Ok(objects.cast_into::<PyList>()?)) else {
        return false;
    };
    objects.iter().any(|object| is_handler(&object, handler))
}

/// Goes through all patterns, for included ones are looked at when they are asked for.
fn load_patterns(py: Python<'_>) -> PyResult<()> {
    let urls = py.import("django.urls")?;
    let kind = urls.getattr("URLResolver")?;
    let mut seen = HashSet::new(); // A URLconf may include itself.
    let mut waiting = vec![urls.call_method0("get_resolver")?];
    while let Some(resolver) = waiting.pop() {
        let patterns = resolver.getattr("url_patterns")?;
        if !seen.insert(patterns.as_ptr().addr()) {
            continue;
        }
        for pattern in patterns.try_iter()? {
            let pattern = pattern?;
            if pattern.is_instance(&kind)? {
                waiting.push(pattern);
            }
        }
    }
    Ok(())
}

/// What the checks say, an entry each.
struct Found {
    warnings: Vec<String>,
    errors: Vec<String>,
}

fn run_checks(py: Python<'_>) -> PyResult<Found> {
    let mut found = Found { warnings: Vec::new(), errors: Vec::new() };
    let messages = py.import("django.core.checks")?.call_method0("run_checks")?;
    for message in messages.try_iter()? {
        let message = message?;
        if message.call_method0("is_silenced")?.is_truthy()? {
            continue;
        }
        let is_error = message.call_method0("is_serious")?.is_truthy()?;
        let list = if is_error { &mut found.errors } else { &mut found.warnings };
        list.push(message.str()?.to_string_lossy().into_owned());
    }
    Ok(found)
}

/// The exceptions of requests, which Django turns into a 500 and tells nobody but its own loggers.
pub(super) struct Exceptions {
    signal: Py<PyAny>,
    receiver: Py<PyAny>,
    tracebacks: Py<PyAny>,
}

/// A receiver as Django wants it: under DEBUG it looks at the signature.
const RECEIVER: &CStr = c"import traceback
tracebacks = []
def receiver(**arguments):
    tracebacks.append(traceback.format_exc())
";

impl Exceptions {
    /// Listens to them, if Django's handler is there.
    pub(super) fn of_requests(py: Python<'_>) -> Option<Self> {
        loaded(py, "django.core.handlers.wsgi")?;
        let signal = loaded(py, "django.core.signals")?.getattr("got_request_exception").ok()?;
        let names = PyDict::new(py);
        py.run(RECEIVER, Some(&names), None).ok()?;
        let receiver = names.get_item("receiver").ok()??;
        signal.call_method1("connect", (&receiver, py.None(), false)).ok()?;
        let tracebacks = names.get_item("tracebacks").ok()??.unbind();
        Some(Self { signal: signal.unbind(), receiver: receiver.unbind(), tracebacks })
    }

    /// Stops listening, and returns the tracebacks.
    pub(super) fn take(self, py: Python<'_>) -> String {
        // It fails only where it was taken away meanwhile.
        let _ = self.signal.call_method1(py, "disconnect", (self.receiver,));
        let tracebacks: Vec<String> = self.tracebacks.extract(py).unwrap_or_default();
        tracebacks.concat()
    }
}
