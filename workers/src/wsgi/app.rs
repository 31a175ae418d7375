//! Loads the application, from `MODULE:ATTR` to a callable. A failure yields one report that says what to do.

use std::fmt::Write as _;
use std::path::Path;

use pyo3::exceptions::PyModuleNotFoundError;
use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyFunction, PyList, PyModule};

use super::asgi;
use super::development;
use super::django;
use super::forked::guarded;
use super::start_response::type_name;
use super::streams::{flush_output, line_buffer};
use super::traceback::traceback;
use super::unreadable;
use crate::settings::AppSpec;
use crate::worker_init::BootFailure;

/// Maximum number of names in a hint.
const LISTED_NAMES: usize = 12;

/// Creates the failure of a step other than loading the application, with the exception that it raised.
pub(super) fn not_booted(py: Python<'_>, what: &str, error: &PyErr) -> BootFailure {
    BootFailure::not_booted(format!("{what}\n{}", traceback(py, error)))
}

/// Where a process takes the application from.
pub enum ApplicationSource {
    /// The process imports it by its path.
    Path,
    /// A Python program passed it to `serve()`: the application itself, or its factory.
    Object(Py<PyAny>),
    /// The zygote that forked this process loaded it.
    Zygote(Py<PyAny>),
}

impl ApplicationSource {
    /// Copies the source; an object is shared.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        match self {
            Self::Path => Self::Path,
            Self::Object(object) => Self::Object(object.clone_ref(py)),
            Self::Zygote(application) => Self::Zygote(application.clone_ref(py)),
        }
    }
}

/// Loads the application into a prepared process.
pub(super) fn load<'py>(
    py: Python<'py>,
    source: &ApplicationSource,
    spec: &AppSpec,
) -> Result<Bound<'py, PyAny>, BootFailure> {
    match source {
        ApplicationSource::Path => load_path(py, spec),
        ApplicationSource::Object(object) => take_object(py, spec, object.bind(py)),
        ApplicationSource::Zygote(application) => Ok(application.bind(py).clone()),
    }
}

/// Imports the module, takes its attribute and calls it if it is a factory.
fn load_path<'py>(py: Python<'py>, spec: &AppSpec) -> Result<Bound<'py, PyAny>, BootFailure> {
    let boot = || {
        let module = import(py, spec)?;
        let (name, object) = attribute(py, spec, &module)?;
        let application =
            if spec.is_factory { call_factory(py, spec, &name, &object)? } else { object };
        check_callable(py, spec, &name, &module, &application)?;
        django::load_urlconf(py, &application)?;
        Ok(application)
    };
    boot().map_err(|failure| unreadable::explain(py, spec, failure))
}

/// Called between loading the application and forking processes: excludes all current objects from garbage
/// collection, so that the collector never writes to the memory that these processes share.
pub(super) fn freeze(py: Python<'_>) -> PyResult<()> {
    let gc = py.import("gc")?;
    gc.call_method0("collect")?;
    gc.call_method0("freeze")?;
    // Each of these processes would write what is still in a buffer.
    flush_output(py)
}

/// Takes an application that existed before this process; calls it if it is a factory.
fn take_object<'py>(
    py: Python<'py>,
    spec: &AppSpec,
    inherited: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyAny>, BootFailure> {
    let name = &spec.module;
    if !spec.is_factory {
        return match asgi::problem(inherited) {
            None => django::load_urlconf(py, inherited).map(|()| inherited.clone()),
            Some(problem) => Err(BootFailure::not_importable(format!(
                "{name} {problem}.\n{}",
                asgi::advice(inherited)
            ))),
        };
    }
    let application = guarded(py, || inherited.call0()).map_err(|error| {
        let report = format!("The factory {name} failed:\n{}", traceback(py, &error));
        BootFailure::not_importable(report)
    })?;
    if !application.is_callable() {
        let kind = type_name(&application);
        let report = format!(
            "The factory {name} returned {kind}, which is not callable and so not a WSGI application."
        );
        return Err(BootFailure::not_importable(report));
    }
    match asgi::problem(&application) {
        None => django::load_urlconf(py, &application).map(|()| application),
        Some(problem) => Err(BootFailure::not_importable(format!(
            "The factory {name} did not return a WSGI application. The result {problem}.\n{}",
            asgi::advice(&application)
        ))),
    }
}

/// Changes the directory and sets `sys.path` and the environment, before any code of the application runs.
pub(super) fn prepare(py: Python<'_>, spec: &AppSpec) -> Result<(), BootFailure> {
    set_up(py, spec).map_err(|failure| unreadable::explain(py, spec, failure))
}

fn set_up(py: Python<'_>, spec: &AppSpec) -> Result<(), BootFailure> {
    if let Some(directory) = &spec.chdir {
        change_directory(py, directory).map_err(|error| {
            let what = format!("Cannot change to the directory {}.", directory.display());
            not_booted(py, &what, &error)
        })?;
    }
    set_path(py, &spec.pythonpath)
        .map_err(|error| not_booted(py, "Cannot set sys.path.", &error))?;
    development::prepare(py, spec)
        .map_err(|error| not_booted(py, "Cannot prepare for --reload.", &error))?;
    set_environment(py, &spec.env)
        .map_err(|error| not_booted(py, "Cannot set the environment.", &error))?;
    line_buffer(py).map_err(|error| not_booted(py, "Cannot set up sys.stdout.", &error))
}

fn change_directory(py: Python<'_>, directory: &Path) -> PyResult<()> {
    // An OsStr becomes a str. A Path would become one of pathlib's, which would have to be imported.
    py.import("os")?.call_method1("chdir", (directory.as_os_str(),)).map(drop)
}

/// Puts `pythonpath` and then the current directory at the front of `sys.path`.
fn set_path(py: Python<'_>, pythonpath: &[std::path::PathBuf]) -> PyResult<()> {
    let os = py.import("os")?;
    let path = py.import("sys")?.getattr("path")?.cast_into::<PyList>()?;
    let abspath = os.getattr("path")?.getattr("abspath")?;
    let mut directories = Vec::with_capacity(pythonpath.len() + 1);
    for directory in pythonpath {
        directories.push(abspath.call1((directory.as_os_str(),))?);
    }
    directories.push(os.call_method0("getcwd")?);
    for directory in directories.into_iter().rev() {
        // A directory needs to be there only once, and the first entry counts.
        while path.contains(&directory)? {
            path.call_method1("remove", (&directory,))?;
        }
        path.insert(0, directory)?;
    }
    Ok(())
}

/// Sets variables through `os.environ`, which also sets those of the C library, so that extensions and children
/// see them.
fn set_environment(py: Python<'_>, env: &[(String, String)]) -> PyResult<()> {
    let environ = py.import("os")?.getattr("environ")?;
    env.iter().try_for_each(|(name, value)| environ.set_item(name, value))
}

fn import<'py>(py: Python<'py>, spec: &AppSpec) -> Result<Bound<'py, PyModule>, BootFailure> {
    let name = spec.module.as_str();
    if name.contains('/') || Path::new(name).is_file() {
        return Err(BootFailure::not_importable(file_hint(name)));
    }
    guarded(py, || py.import(name)).map_err(|error| {
        let report = if is_itself_missing(py, name, &error) {
            missing_module(py, name, &error)
        } else {
            format!(
                "The application's module {name:?} was found, but importing it failed:\n{}",
                traceback(py, &error)
            )
        };
        BootFailure::not_importable(report)
    })
}

/// Whether the module itself is missing, as opposed to a failure inside it.
fn is_itself_missing(py: Python<'_>, name: &str, error: &PyErr) -> bool {
    if !error.is_instance_of::<PyModuleNotFoundError>(py) {
        return false;
    }
    let missing = error.value(py).getattr("name").and_then(|name| name.extract::<String>());
    // A parent package counts, too: importing `shop.wsgi` fails with `shop` if that is missing.
    missing.is_ok_and(|missing| {
        name.strip_prefix(missing.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    })
}

/// The report for a missing module.
fn missing_module(py: Python<'_>, name: &str, error: &PyErr) -> String {
    let mut report = format!("There is no module {name:?}: {}.\n", error.value(py));
    let directory = current_directory(py);
    // Writing to a String cannot fail.
    let _ = writeln!(
        report,
        "Python searched {directory} (the current directory) and the rest of sys.path."
    );
    if let Some((parent, child)) = name.rsplit_once('.')
        && py.import(parent).is_ok_and(|parent| parent.hasattr(child).unwrap_or(false))
    {
        let _ =
            writeln!(report, "{parent} has an attribute {child}: did you mean {parent}:{child}?");
        return report;
    }
    let top = name.split('.').next().unwrap_or(name);
    let modules = modules_in(py, &directory);
    if let Some(near) = nearest(py, top, &modules) {
        let _ = writeln!(report, "Did you mean {near}?");
    } else if !modules.is_empty() {
        let _ = writeln!(report, "That directory has the modules {}.", listed(&modules));
    }
    report.push_str("Use --chdir or --pythonpath to name the directory that contains it.");
    report
}

/// The report for the name of a file in place of that of a module.
fn file_hint(name: &str) -> String {
    let path = Path::new(name);
    let stem = path.file_stem().map(|stem| stem.to_string_lossy()).unwrap_or_default();
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    match directory {
        Some(directory) => format!(
            "{name:?} is the path of a file, not of a module. Name the module {stem:?}, with --chdir {}.",
            directory.display()
        ),
        None => {
            format!("{name:?} is the name of a file, not of a module. Name the module {stem:?}.")
        }
    }
}

/// Returns the attribute and its name.
fn attribute<'py>(
    py: Python<'py>,
    spec: &AppSpec,
    module: &Bound<'py, PyModule>,
) -> Result<(String, Bound<'py, PyAny>), BootFailure> {
    let Some(dotted) = &spec.attribute else {
        for name in ["app", "application"] {
            if let Ok(object) = module.getattr(name) {
                return Ok((name.to_owned(), object));
            }
        }
        let mut report =
            format!("The module {:?} has neither `app` nor `application`.\n", spec.module);
        push_callables(py, &mut report, spec, module);
        return Err(BootFailure::not_importable(report));
    };
    let mut object = module.as_any().clone();
    for name in dotted.split('.') {
        object = guarded(py, || object.getattr(name)).map_err(|error| {
            let mut report = format!("Cannot get {}:{dotted}: {}.\n", spec.module, error.value(py));
            if let Some((called, _)) = dotted.split_once('(') {
                let _ = writeln!(
                    report,
                    "If a function creates the application, name it without parentheses and add \
                     --factory: {}:{called}",
                    spec.module
                );
            }
            if let Some(near) = nearest(py, name, &attributes_of(&object)) {
                let _ = writeln!(report, "Did you mean {near}?");
            }
            push_callables(py, &mut report, spec, module);
            BootFailure::not_importable(report)
        })?;
    }
    Ok((dotted.clone(), object))
}

/// Calls the factory.
fn call_factory<'py>(
    py: Python<'py>,
    spec: &AppSpec,
    name: &str,
    factory: &Bound<'py, PyAny>,
) -> Result<Bound<'py, PyAny>, BootFailure> {
    guarded(py, || factory.call0()).map_err(|error| {
        let mut report =
            format!("The factory {}:{name} failed:\n{}", spec.module, traceback(py, &error));
        if !factory.is_callable() {
            report.push_str("It is not callable: omit --factory if it is the application itself.");
        }
        BootFailure::not_importable(report)
    })
}

fn check_callable(
    py: Python<'_>,
    spec: &AppSpec,
    name: &str,
    module: &Bound<'_, PyModule>,
    application: &Bound<'_, PyAny>,
) -> Result<(), BootFailure> {
    let what = if spec.is_factory { "What the factory returned" } else { "It" };
    let place = format!("{}:{name}", spec.module);
    let kind = type_name(application);
    if !application.is_callable() {
        let mut report = format!(
            "{place} is not a WSGI application. {what} is not callable: its type is {kind}.\n"
        );
        push_callables(py, &mut report, spec, module);
        return Err(BootFailure::not_importable(report));
    }
    if let Some(problem) = asgi::problem(application) {
        let advice = asgi::advice(application);
        return Err(BootFailure::not_importable(format!(
            "{place} is not a WSGI application. {what} {problem}.\n{advice}"
        )));
    }
    if takes_two(application) {
        return Ok(());
    }
    let advice =
        if spec.is_factory { "" } else { " If it creates the application, use --factory." };
    Err(BootFailure::not_importable(format!(
        "{place} is not a WSGI application. {what} is a function that cannot be called with (environ, \
         start_response).{advice}"
    )))
}

/// Whether a callable accepts two arguments. Only a plain function can be ruled out with certainty.
fn takes_two(application: &Bound<'_, PyAny>) -> bool {
    const VARARGS: u32 = 0x04;
    let Ok(function) = application.cast_exact::<PyFunction>() else {
        return true;
    };
    let Ok(code) = function.getattr("__code__") else {
        return true;
    };
    let count = code.getattr("co_argcount").and_then(|count| count.extract::<usize>());
    let flags = code.getattr("co_flags").and_then(|flags| flags.extract::<u32>());
    match (count, flags) {
        (Ok(count), Ok(flags)) => count >= 2 || flags & VARARGS != 0,
        (Err(_), _) | (_, Err(_)) => true,
    }
}

/// Lists the objects of the module that could be an application.
fn push_callables(
    py: Python<'_>,
    report: &mut String,
    spec: &AppSpec,
    module: &Bound<'_, PyModule>,
) {
    let mut names = attributes_of(module.as_any());
    names.retain(|name| {
        !name.starts_with('_')
            && module.getattr(name.as_str()).is_ok_and(|object| is_own(py, module, &object))
    });
    if names.is_empty() {
        report.push_str("The module defines nothing callable.");
    } else {
        let _ = write!(
            report,
            "The module defines these callables: {}. Name one of them, as in {}:{}",
            listed(&names),
            spec.module,
            names[0]
        );
    }
}

/// Whether an object is callable and not a class or function imported from another module.
fn is_own(py: Python<'_>, module: &Bound<'_, PyModule>, object: &Bound<'_, PyAny>) -> bool {
    if !object.is_callable() || object.is_instance_of::<PyCFunction>() {
        return false;
    }
    let is_definition =
        object.is_instance_of::<PyFunction>() || object.is_instance_of::<pyo3::types::PyType>();
    let home = object.getattr(pyo3::intern!(py, "__module__"));
    !is_definition
        || home.is_ok_and(|home| home.eq(module.getattr("__name__").ok()).unwrap_or(false))
}

fn attributes_of(object: &Bound<'_, PyAny>) -> Vec<String> {
    let Ok(names) = object.dir() else {
        return Vec::new();
    };
    names.iter().filter_map(|name| name.extract().ok()).collect()
}

fn current_directory(py: Python<'_>) -> String {
    let directory = py.import("os").and_then(|os| os.call_method0("getcwd"));
    directory.and_then(|directory| directory.extract()).unwrap_or_else(|_| ".".to_owned())
}

/// Lists the modules in a directory.
fn modules_in(py: Python<'_>, directory: &str) -> Vec<String> {
    let found = py
        .import("pkgutil")
        .and_then(|pkgutil| pkgutil.call_method1("iter_modules", ([directory],)))
        .and_then(|modules| modules.try_iter())
        .map(|modules| {
            modules.filter_map(|module| module.ok()?.getattr("name").ok()?.extract().ok()).collect()
        });
    // This is only a hint; the report is complete without it.
    found.unwrap_or_default()
}

/// Returns the name most similar to `name`, if any is similar.
fn nearest(py: Python<'_>, name: &str, names: &[String]) -> Option<String> {
    let difflib = py.import("difflib").ok()?;
    let near = difflib.call_method1("get_close_matches", (name, names.to_vec(), 1)).ok()?;
    near.get_item(0).ok()?.extract().ok()
}

fn listed(names: &[String]) -> String {
    let mut text = names.iter().take(LISTED_NAMES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > LISTED_NAMES {
        text.push_str(", ...");
    }
    text
}

#[cfg(test)]
mod tests;
