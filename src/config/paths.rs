//! Files and directories that options name, and whether this process can use them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::Privileges;
use super::error::ConfigError;
use super::options::Setting;
use super::origin::Origin;
use super::reader::Reader;
use crate::system::environment::Environment;

pub(super) fn body_temp_dir(
    reader: &mut Reader<'_>,
    environment: &Environment,
    privileges: &Privileges,
) -> Result<PathBuf, ConfigError> {
    let tmpdir = Origin::Environment("TMPDIR".to_owned());
    let (text, origin) = match (reader.last(Setting::BodyTempDir), environment.value("TMPDIR")) {
        (Some(given), _) => given,
        (None, Some(directory)) => (directory, &tmpdir),
        (None, None) => (OsStr::new("/tmp"), &Origin::Default),
    };
    let directory = reader.base().join(text);
    usable_directory(Setting::BodyTempDir, text, origin, &directory)?;
    if privileges.user.is_none() {
        let writable = access(&directory, AccessFlags::W_OK | AccessFlags::X_OK);
        writable.map_err(|error| {
            not_usable(Setting::BodyTempDir, text, origin, &directory, error.into())
        })?;
    }
    reader.note(Setting::BodyTempDir, directory.display().to_string(), origin.clone());
    Ok(directory)
}

/// Reads the path of a file that will be created. Its directory must exist.
pub(super) fn file_in_directory(
    reader: &mut Reader<'_>,
    setting: Setting,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = reader.path(setting)? else { return Ok(None) };
    if let (Some((text, origin)), Some(directory)) = (reader.last(setting), path.parent()) {
        usable_directory(setting, text, origin, directory)?;
    }
    Ok(Some(path))
}

pub(super) fn usable_directory(
    setting: Setting,
    text: &OsStr,
    origin: &Origin,
    directory: &Path,
) -> Result<(), ConfigError> {
    let found = match fs::metadata(directory) {
        Ok(found) if found.is_dir() => {
            access(directory, AccessFlags::X_OK).map_err(io::Error::from)
        }
        Ok(_) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        Err(error) => Err(error),
    };
    found.map_err(|error| not_usable(setting, text, origin, directory, error))
}

/// Checks that a file or directory exists.
pub(super) fn existing_path(
    setting: Setting,
    text: &OsStr,
    origin: &Origin,
    path: &Path,
) -> Result<(), ConfigError> {
    let found = fs::metadata(path).map(drop);
    found.map_err(|error| not_usable(setting, text, origin, path, error))
}

/// Checks a directory whose files workers read. Whether another user may search it shows when its workers start.
pub(super) fn readable_directory(
    setting: Setting,
    text: &OsStr,
    origin: &Origin,
    directory: &Path,
    privileges: &Privileges,
) -> Result<(), ConfigError> {
    match (privileges.user, fs::metadata(directory)) {
        // The supervisor may see less than they do.
        (Some(_), Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        (Some(_) | None, _) => usable_directory(setting, text, origin, directory),
    }
}

fn not_usable(
    setting: Setting,
    text: &OsStr,
    origin: &Origin,
    directory: &Path,
    error: io::Error,
) -> ConfigError {
    let text = text.to_string_lossy().into_owned();
    ConfigError::Directory {
        setting,
        origin: origin.clone(),
        text,
        directory: directory.to_owned(),
        error,
    }
}
