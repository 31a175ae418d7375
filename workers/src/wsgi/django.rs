//! Does before a worker is ready what Django does with the first request.
//!
//! Django imports the URLconf, and with it all views, when the first request arrives. An error in them would survive
//! a start and a reload, and every request would fail. `--check` also runs Django's system checks. Django reports
//! the exceptions of requests to its own loggers only; `--reload-check` collects them by a signal.
//!
//! Django is recognized by its WSGI handler: the application is one, or one exists in this process because a wrapper
//! hides it (WhiteNoise, Sentry, a function). An application that only uses Django's models has none.

use std::collections::HashSet;
use std::ffi::CStr;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};

use super::forked::guarded;
use super::traceback::traceback;
use crate::shared::log::{Level, Log};
use crate::worker_init::BootFailure;

/// Imports the URLconf and everything that it includes.
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

/// Runs Django's system checks as `manage.py check` does, without those for databases and deployment. Logs their
/// warnings.
///
/// Errors: the errors that they find, or the exception that a check raises.
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

/// Closes the database connections that the import of the URLconf opened: this process is about to fork, and all
/// its children would share them.
pub(super) fn close_connections(py: Python<'_>) {
    let closed = loaded(py, "django.db").map(|db| {
        db.getattr("connections").and_then(|connections| connections.call_method0("close_all"))
    });
    drop(closed); // The log names what remains open as a socket of the zygote.
}

/// Returns ROOT_URLCONF for messages; `None` if this is not Django or the setting is empty.
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

/// Returns a module if it has been imported.
fn loaded<'py>(py: Python<'py>, name: &str) -> Option<Bound<'py, PyAny>> {
    let modules = py.import("sys").and_then(|sys| sys.getattr("modules")).ok()?;
    modules.get_item(name).ok().filter(|module| !module.is_none())
}

/// Whether an object is a handler. Looks only at its type: a lazy object would answer for the object behind it.
fn is_handler(object: &Bound<'_, PyAny>, handler: &Bound<'_, PyType>) -> bool {
    object.get_type().is_subclass(handler).unwrap_or(false)
}

/// Whether any handler exists in this process.
fn exists(py: Python<'_>, handler: &Bound<'_, PyType>) -> bool {
    let objects = py.import("gc").and_then(|gc| gc.call_method0("get_objects"));
    let Ok(objects) = objects.and_then(|objects| Ok(objects.cast_into::<PyList>()?)) else {
        return false;
    };
    objects.iter().any(|object| is_handler(&object, handler))
}

/// Visits all patterns, because included ones are loaded only when they are used.
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

/// The messages of the checks.
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

/// The exceptions of requests, which Django turns into a 500 and reports only to its own loggers.
pub(super) struct RequestExceptions {
    signal: Py<PyAny>,
    receiver: Py<PyAny>,
    tracebacks: Py<PyAny>,
}

/// The receiver of the signal. With DEBUG, Django checks that it accepts keyword arguments.
const RECEIVER: &CStr = c"import traceback
tracebacks = []
def receiver(**arguments):
    tracebacks.append(traceback.format_exc())
";

impl RequestExceptions {
    /// Starts to collect them, if Django's handler exists.
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

    /// Stops collecting and returns the tracebacks.
    pub(super) fn take(self, py: Python<'_>) -> String {
        // This fails only if something else has disconnected the receiver.
        let _ = self.signal.call_method1(py, "disconnect", (self.receiver,));
        let tracebacks: Vec<String> = self.tracebacks.extract(py).unwrap_or_default();
        tracebacks.concat()
    }
}
