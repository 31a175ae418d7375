//! The supervisor as a function that a Python program calls, and that returns when the server has stopped.

use std::collections::BTreeMap;
use std::ffi::OsString;

use arctos_worker::settings::AppSpec;
use arctos_worker::wsgi::ApplicationSource;
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::embedded::os_error;
use super::launch::{Host, Interpreter};
use super::running::Running;
use crate::config::options::{OPTIONS, OptionSpec, Takes};
use crate::server;

/// Returns the options of the command line as keywords, and whether each can be repeated.
#[pyfunction]
pub(super) fn option_names() -> BTreeMap<String, bool> {
    let named = |option: &&OptionSpec| option.takes != Takes::Positional;
    let repeats = |option: &OptionSpec| matches!(option.takes, Takes::Many(_));
    OPTIONS.iter().filter(named).map(|option| (option.keyword(), repeats(option))).collect()
}

/// Runs the supervisor with these options, which override the environment, and returns its exit code.
#[pyfunction]
pub(super) fn serve_supervised(
    application: &Bound<'_, PyAny>,
    options: Vec<(String, Vec<OsString>)>,
) -> PyResult<i32> {
    let _running = Running::begin()?;
    let mut keywords = Vec::with_capacity(options.len());
    for (name, values) in options {
        let option = OPTIONS.iter().find(|option| option.keyword() == name);
        let option = option
            .ok_or_else(|| PyTypeError::new_err(format!("serve() has no option '{name}'")))?;
        keywords.push((option.setting, values));
    }
    // An object needs no name that can be imported.
    let path = application.cast::<PyString>().map(|path| path.to_string_lossy().into_owned());
    let name = path.as_deref().unwrap_or("application:application");
    let environment = std::env::vars_os().collect();
    let mut config = server::resolve_keywords(name, keywords, environment)
        .map_err(|error| PyValueError::new_err(error.to_string()))?;
    let source = if path.is_ok() {
        ApplicationSource::Path
    } else {
        let module = name_of(application);
        config.application = AppSpec { module, attribute: None, ..config.application };
        ApplicationSource::Object(application.clone().unbind())
    };
    server::serve_inside(&config, &Interpreter { source, host: Host::Program })
        .map_err(|error| os_error(&error))
}

/// Returns the name of an application for the log.
fn name_of(application: &Bound<'_, PyAny>) -> String {
    let text = |name: &str| -> PyResult<String> {
        let named = match application.getattr_opt(name)? {
            Some(named) => named,
            None => application.get_type().getattr(name)?,
        };
        named.extract()
    };
    match (text("__module__"), text("__qualname__")) {
        (Ok(module), Ok(name)) => format!("{module}:{name}"),
        (Err(_), _) | (_, Err(_)) => "application".to_owned(),
    }
}
