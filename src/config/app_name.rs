//! The name of an application, MODULE:ATTR, and what people write instead.

use arctos_worker::settings::{AppSpec, Hooks};

use super::error::AppNameError;
use super::origin::Printable;

/// Reads `MODULE [ ":" ATTR [ "()" ] ]`, where both are dotted names.
pub(super) fn app_name(text: &str, is_factory: bool) -> Result<AppSpec, AppNameError> {
    let (module, attribute) = match text.split_once(':') {
        Some((module, attribute)) => (module, Some(attribute)),
        None => (text, None),
    };
    if module.contains('/') || module.ends_with(".py") {
        return Err(AppNameError::File(as_module(module, attribute)));
    }
    let (attribute, is_called) = match attribute.and_then(|name| name.strip_suffix(')')) {
        None => (attribute, false),
        Some(call) => match call.split_once('(') {
            Some((name, "")) => (Some(name), true),
            Some((name, _)) if is_dotted_name(name) => return Err(AppNameError::Arguments),
            Some(_) | None => return Err(AppNameError::Form),
        },
    };
    if !is_dotted_name(module) || !attribute.is_none_or(is_dotted_name) {
        return Err(AppNameError::Form);
    }
    if is_factory && attribute.is_none() {
        return Err(AppNameError::NamelessFactory);
    }
    Ok(AppSpec {
        module: module.to_owned(),
        attribute: attribute.map(str::to_owned),
        is_factory: is_factory || is_called,
        chdir: None,
        pythonpath: Vec::new(),
        env: Vec::new(),
        hooks: Hooks::default(),
        import_reports: None,
    })
}

/// Returns what somebody who wrote `some/directory/shop.py:app` most likely wants.
fn as_module(path: &str, attribute: Option<&str>) -> String {
    let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
    let module = file.strip_suffix(".py").unwrap_or(file);
    let chdir = match directory {
        "" => String::new(),
        directory => format!("--chdir {directory} "),
    };
    let text = match attribute {
        Some(attribute) => format!("{chdir}{module}:{attribute}"),
        None => format!("{chdir}{module}"),
    };
    Printable(&text).to_string()
}

pub(super) fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(|name| {
        let mut letters = name.chars();
        letters.next().is_some_and(|first| first == '_' || first.is_alphabetic())
            && letters.all(|letter| letter == '_' || letter.is_alphanumeric())
    })
}
