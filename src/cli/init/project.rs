//! Finds the application of a Python project by its files, without running them.
//!
//! | found | application |
//! |---|---|
//! | `manage.py` with `DJANGO_SETTINGS_MODULE`, `"shop.settings"`, and `shop/wsgi.py` | `shop.wsgi:application` |
//! | `wsgi.py`, `app.py`, `main.py` or `application.py` with `name = Flask(...)`, or `app` or `application` | `app:name` |
//! | such a file, or a package, with `def create_app(` or `def make_app(` | `shop:create_app()` |
//!
//! Only one package may match, or it is the one that pyproject.toml names as the project.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::config::template::Found;

const MODULES: [&str; 4] = ["wsgi", "app", "main", "application"];
const FACTORIES: [&str; 2] = ["create_app", "make_app"];
/// The classes of frameworks whose instances are applications.
const CLASSES: [&str; 4] = ["Flask(", "falcon.App(", "Bottle(", "Dash("];
/// Longer files are not read to their end: an application is created near the top or not by this name.
const MAX_BYTES: u64 = 256 << 10;

/// Finds the application in a directory.
pub(super) fn application(directory: &Path) -> Option<Found> {
    django(directory)
        .or_else(|| MODULES.iter().find_map(|module| in_module(directory, module)))
        .or_else(|| in_package(directory))
}

/// Whether a pyproject.toml has settings of arctos.
pub(super) fn has_settings(pyproject: &Path) -> bool {
    text(pyproject).lines().any(|line| line.trim() == "[tool.arctos]")
}

fn django(directory: &Path) -> Option<Found> {
    let manage = text(&directory.join("manage.py"));
    let (_, after) = manage.split_once("DJANGO_SETTINGS_MODULE")?;
    // `os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")`, with either quote.
    let settings = after.split(['"', '\'']).find(|part| is_dotted(part))?;
    let wsgi = |package: &str| {
        let file = format!("{}/wsgi.py", package.replace('.', "/"));
        let has_it = assigns(&text(&directory.join(&file)), "application");
        has_it.then(|| Found { application: format!("{package}.wsgi:application"), file })
    };
    // The settings may be a package: shop.settings.production.
    let packages = settings.match_indices('.').rev().map(|(at, _)| &settings[..at]);
    packages.into_iter().find_map(wsgi)
}

fn in_module(directory: &Path, module: &str) -> Option<Found> {
    let file = format!("{module}.py");
    let attribute = attribute(&text(&directory.join(&file)))?;
    Some(Found { application: format!("{module}:{attribute}"), file })
}

fn in_package(directory: &Path) -> Option<Found> {
    let entries = fs::read_dir(directory).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut found: Vec<_> = names
        .filter(|name| is_dotted(name) && !name.contains('.'))
        .filter_map(|package| {
            let modules = std::iter::once("__init__").chain(MODULES);
            modules.into_iter().find_map(|module| {
                let file = format!("{package}/{module}.py");
                let attribute = attribute(&text(&directory.join(&file)))?;
                let module = match module {
                    "__init__" => package.clone(),
                    module => format!("{package}.{module}"),
                };
                let application = format!("{module}:{attribute}");
                Some((package.clone(), Found { application, file }))
            })
        })
        .collect();
    if found.len() > 1 {
        let name = project_name(directory)?;
        found.retain(|(package, _)| *package == name);
    }
    found.pop().map(|(_, found)| found)
}

/// The name of the project in pyproject.toml, as its package is named.
fn project_name(directory: &Path) -> Option<String> {
    let pyproject = text(&directory.join("pyproject.toml"));
    let (_, project) = pyproject.split_once("[project]")?;
    let line = project.lines().find(|line| line.trim_start().starts_with("name"))?;
    let name = line.split(['"', '\'']).nth(1)?;
    Some(name.to_lowercase().replace(['-', '.'], "_"))
}

/// What to serve of a module with this text.
fn attribute(text: &str) -> Option<String> {
    let of_framework = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        let creates = CLASSES.iter().any(|class| value.trim_start().contains(class));
        (creates && is_name(name.trim_end())).then(|| name.trim_end().to_owned())
    });
    let by_name = || {
        let name = ["app", "application"].into_iter().find(|name| assigns(text, name))?;
        Some(name.to_owned())
    };
    let factory = || {
        let defines = |name: &&str| {
            let start = format!("def {name}(");
            text.lines().any(|line| {
                // Parameters need values, unless they have defaults.
                line.strip_prefix(start.as_str()).is_some_and(takes_no_argument)
            })
        };
        FACTORIES.iter().find(|name| defines(name)).map(|name| format!("{name}()"))
    };
    of_framework.or_else(by_name).or_else(factory)
}

/// Whether a function with this parameter list, which starts after `(`, can be called without an argument.
fn takes_no_argument(parameters: &str) -> bool {
    let (parameters, _) = parameters.split_once(')').unwrap_or((parameters, ""));
    let mut names = parameters.split(',').map(str::trim).filter(|it| !it.is_empty());
    names.all(|parameter| parameter.contains('=') || parameter.starts_with('*'))
}

/// Whether a module with this text assigns a global name, or defines a function of it.
fn assigns(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let after = line.strip_prefix(name).map(str::trim_start);
        let is_assigned = after.is_some_and(|after| {
            after.starts_with('=') && !after.starts_with("==") || after.starts_with(':')
        });
        is_assigned
            || line.strip_prefix("def ").is_some_and(|rest| rest.starts_with(&format!("{name}(")))
    })
}

/// Whether this is a global name of Python.
fn is_name(text: &str) -> bool {
    let is_start = |letter: char| letter.is_alphabetic() || letter == '_';
    text.starts_with(is_start) && text.chars().all(|it| it.is_alphanumeric() || it == '_')
}

fn is_dotted(text: &str) -> bool {
    text.split('.').all(is_name)
}

/// The text of a file; empty if it cannot be read.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let is_file = fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
    if is_file && let Ok(file) = File::open(path) {
        // Whatever was read is looked through.
        let _ = file.take(MAX_BYTES).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
