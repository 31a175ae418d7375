//! A configuration file: options in TOML, each under its long name; in a pyproject.toml, in the table `[tool.arctos]`.
//!
//! Each value is converted to what the command line would have held, so that the same code reads and refuses all of
//! them. Only the parser of the TOML crate is used, because it gives the position of each value and keeps numbers as
//! they were written: `30.1` never becomes a float, and `0o022` stays octal. Nothing is executed.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use toml::de::{DeTable, DeValue};

use super::advice::advice;
use super::error::ConfigError;
use super::file_error::{FileError, MAX_BYTES};
use super::options::peers::gunicorn;
use super::options::{OPTIONS, OptionSpec, Setting, Takes};
use super::origin::{FileLine, Given, Origin};
use super::reader::wrong;

/// The file of a Python project, in which each tool has a table.
pub(super) const PYPROJECT: &str = "pyproject.toml";

/// What a file gives.
pub(super) type GivenBySetting = BTreeMap<Setting, Given>;

/// Reads the file that `origin` names as `text`, relative to `directory`.
pub(super) fn read(
    directory: &Path,
    text: &OsStr,
    origin: &Origin,
) -> Result<GivenBySetting, ConfigError> {
    let path = directory.join(text);
    let name = text.to_string_lossy();
    let file = open(&path).map_err(|error| {
        let (origin, text, path) = (origin.clone(), name.clone().into_owned(), path.clone());
        FileError::Unreadable { origin, text, path, error }
    })?;
    let bytes = read_all(file, &path, &name, origin)?;
    parse(&path, &bytes).map_err(|error| match path.extension() {
        Some(extension) if extension == "py" => {
            FileError::Python { reason: error.to_string() }.into()
        }
        Some(_) | None => error,
    })
}

/// Reads an open file to its end. `origin` names it as `name`.
pub(super) fn read_all(
    file: File,
    path: &Path,
    name: &str,
    origin: &Origin,
) -> Result<Vec<u8>, FileError> {
    let named = || (origin.clone(), name.to_owned(), path.to_owned());
    let unreadable = |error| {
        let (origin, text, path) = named();
        FileError::Unreadable { origin, text, path, error }
    };
    if !file.metadata().map_err(unreadable)?.is_file() {
        let (origin, text, path) = named();
        return Err(FileError::NoFile { origin, text, path });
    }
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > MAX_BYTES {
        return Err(FileError::Long { path: path.to_owned() });
    }
    Ok(bytes)
}

/// Opens a file without waiting for the writer of a pipe, which would block the supervisor at a reload.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

/// Reads the settings in a file.
///
/// Errors: also [`FileError::NoTable`], for a pyproject.toml that has none of arctos.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<GivenBySetting, ConfigError> {
    let place = |offset: usize| {
        let before = bytes.get(..offset).unwrap_or(bytes);
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        FileLine { path: path.to_owned(), line }
    };
    let text = str::from_utf8(bytes)
        .map_err(|error| FileError::Encoding { place: place(error.valid_up_to()) })?;
    let table = DeTable::parse(text).map_err(|error| {
        let place = place(error.span().map_or(0, |span| span.start));
        let reason = match (error.message(), error.span().and_then(|span| text.get(span))) {
            ("duplicate key", Some(key)) => format!("the key '{key}' is given twice"),
            (reason, _) => reason.replace('\n', " "),
        };
        FileError::Syntax { place, reason }
    })?;
    let settings = if path.file_name().is_some_and(|name| name == PYPROJECT) {
        tool_arctos(table.get_ref(), place)?
            .ok_or_else(|| FileError::NoTable { path: path.to_owned() })?
    } else {
        table.get_ref()
    };
    let mut entries: Vec<_> = settings.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let mut given = BTreeMap::new();
    for (key, value) in entries {
        let place = place(key.span().start);
        if is_only_worker_class(key.get_ref(), value.get_ref()) {
            continue;
        }
        let option = option(key.get_ref(), &place)?;
        let values = values(option, value.get_ref(), &place)?;
        let origin = Origin::File(place.clone());
        if let Some(text) = values.iter().find(|text| text.as_encoded_bytes().contains(&0)) {
            let expected = "text without NUL".to_owned();
            return Err(wrong(option.setting, &origin, text, expected));
        }
        if given.insert(option.setting, Given { values, origin }).is_some() {
            return Err(FileError::Twice { place, key: option.long }.into());
        }
    }
    Ok(given)
}

/// Returns the table `[tool.arctos]`, if there is one.
fn tool_arctos<'a, 'i>(
    table: &'a DeTable<'i>,
    place: impl Fn(usize) -> FileLine,
) -> Result<Option<&'a DeTable<'i>>, FileError> {
    let find = |table: &'a DeTable<'i>, name| {
        table.iter().find(|(key, _)| key.get_ref() == name).map(|(key, value)| (key.span(), value))
    };
    let tools = find(table, "tool").and_then(|(_, tools)| tools.get_ref().as_table());
    let Some((key, value)) = tools.and_then(|tools| find(tools, "arctos")) else {
        return Ok(None);
    };
    let not_a_table = || FileError::Type {
        place: place(key.start),
        key: "tool.arctos".to_owned(),
        expected: "a table".to_owned(),
        found: described(value.get_ref()),
    };
    value.get_ref().as_table().map(Some).ok_or_else(not_a_table)
}

/// Whether this is the one worker class that exists, which a file for gunicorn may name.
fn is_only_worker_class(key: &str, value: &DeValue<'_>) -> bool {
    key.replace('_', "-") == gunicorn::WORKER_CLASS
        && matches!(value, DeValue::String(class) if class == gunicorn::ONLY_WORKER_CLASS)
}

fn option(key: &str, place: &FileLine) -> Result<&'static OptionSpec, FileError> {
    let long = key.replace('_', "-");
    match OPTIONS.iter().find(|option| option.long == long) {
        Some(option) if option.setting == Setting::Config => {
            Err(FileError::Nested { place: place.clone() })
        }
        Some(option) => Ok(option),
        None => {
            let (place, key) = (place.clone(), key.to_owned());
            Err(FileError::UnknownKey { place, key, advice: advice(&long) })
        }
    }
}

/// Converts a TOML value to what the command line would have held.
fn values(
    option: &OptionSpec,
    value: &DeValue<'_>,
    place: &FileLine,
) -> Result<Vec<OsString>, FileError> {
    let refused = |found: &DeValue<'_>| FileError::Type {
        place: place.clone(),
        key: option.long.to_owned(),
        expected: expected(option),
        found: described(found),
    };
    match (value, option.takes) {
        (DeValue::Boolean(is_on), _) if takes_boolean(option) => {
            Ok(vec![if *is_on { "on" } else { "off" }.into()])
        }
        (DeValue::Array(array), Takes::Many(_)) => {
            let text_of = |value: &DeValue<'_>| text(value).ok_or_else(|| refused(value));
            array.iter().map(|value| text_of(value.get_ref())).collect()
        }
        (DeValue::Table(table), _) if option.setting == Setting::Env => table
            .iter()
            .map(|(name, value)| variable(name.get_ref(), value.get_ref(), place))
            .collect(),
        _ => Ok(vec![text(value).ok_or_else(|| refused(value))?]),
    }
}

/// Converts one variable of the table `env`.
fn variable(name: &str, value: &DeValue<'_>, place: &FileLine) -> Result<OsString, FileError> {
    let refused = |key: String, expected: &str, found: String| FileError::Type {
        place: place.clone(),
        key,
        expected: expected.to_owned(),
        found,
    };
    if name.is_empty() || name.contains('=') {
        let found = format!("'{name}'");
        return Err(refused("env".to_owned(), "names that are not empty and without =", found));
    }
    let text = text(value).ok_or_else(|| {
        // The application reads text, and `true` could become `true`, `True` or `1`.
        refused(format!("env.{name}"), "a string or a number", described(value))
    })?;
    let mut pair = OsString::from(format!("{name}="));
    pair.push(text);
    Ok(pair)
}

/// Returns the text of a string or a number. A number stays as it was written, because its option reads it.
fn text(value: &DeValue<'_>) -> Option<OsString> {
    match value {
        DeValue::String(text) => Some(text.as_ref().into()),
        DeValue::Integer(number) => Some(number.to_string().into()),
        DeValue::Float(number) => Some(number.to_string().into()),
        DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

fn expected(option: &OptionSpec) -> String {
    let more = match option.takes {
        Takes::Many(_) if option.setting == Setting::Env => ", an array of these, or a table",
        Takes::Many(_) => ", or an array of these",
        Takes::Once | Takes::Switch if takes_boolean(option) => ", or true or false",
        Takes::Once | Takes::Switch | Takes::Positional => "",
    };
    format!("{} as a string or a number{more}", option.value)
}

fn takes_boolean(option: &OptionSpec) -> bool {
    option.value.starts_with("on|off")
}

fn described(value: &DeValue<'_>) -> String {
    match value {
        DeValue::Boolean(is_true) => is_true.to_string(),
        DeValue::Datetime(datetime) => datetime.to_string(),
        DeValue::String(_) => "a string".to_owned(),
        DeValue::Integer(_) | DeValue::Float(_) => "a number".to_owned(),
        DeValue::Array(_) => "an array".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

#[cfg(test)]
mod tests;
