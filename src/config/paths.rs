//! Files and directories that options name.

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
        (None, Some(folder)) => (folder, &tmpdir),
        (None, None) => (OsStr::new("/tmp"), &Origin::Default),
    };
    let folder = reader.base().join(text);
    usable_folder(Setting::BodyTempDir, text, origin, &folder)?;
    if privileges.user.is_none() {
        let writable = access(&folder, AccessFlags::W_OK | AccessFlags::X_OK);
        writable.map_err(|error| {
            not_usable(Setting::BodyTempDir, text, origin, &folder, error.into())
        })?;
    }
    reader.note(Setting::BodyTempDir, folder.display().to_string(), origin.clone());
    Ok(folder)
}

/// A file to be made: its folder must be there.
pub(super) fn file_in_folder(
    reader: &mut Reader<'_>,
    setting: Setting,
) -> Result<Option<PathBuf>, ConfigError> {
    let Some(path) = reader.path(setting)? else { return Ok(None) };
    if let (Some((text, origin)), Some(folder)) = (reader.last(setting), path.parent()) {
        usable_folder(setting, text, origin, folder)?;
    }
    Ok(Some(path))
}

pub(super) fn usable_folder(
    setting: Setting,
    text: &OsStr,
    origin: &Origin,
    folder: &Path,
) -> Result<(), ConfigError> {
    let found = match fs::metadata(folder) {
        Ok(found) if found.is_dir() => access(folder, AccessFlags::X_OK).map_err(io::Error::from),
        Ok(_) => Err(io::Error::from(io::ErrorKind::NotADirectory)),
        Err(error) => Err(error),
    };
    found.map_err(|error| not_usable(setting, text, origin, folder, error))
}

fn not_usable(
    setting: Setting,
    text: &OsStr,
    origin: &Origin,
    folder: &Path,
    error: io::Error,
) -> ConfigError {
    let text = text.to_string_lossy().into_owned();
    ConfigError::Folder { setting, origin: origin.clone(), text, folder: folder.to_owned(), error }
}
