//! Finds the configuration file of a server that is started without `--config`, in the directory of the start.
//!
//! | `arctos.toml` | settings in `[tool.arctos]` of `pyproject.toml` | read |
//! |---|---|---|
//! | exists | any | `arctos.toml` |
//! | does not exist | at least one | `pyproject.toml` |
//! | does not exist | none | no file |
//!
//! A file can name code to execute. In a directory that everybody can write to, such as /tmp, only files of the user
//! who starts the server, or of root, are therefore read.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::error::ConfigError;
use super::file::{self, GivenBySetting, PYPROJECT};
use super::file_error::FileError;
use super::origin::Origin;
use super::place::Reason;

/// The name of a file that has only settings of arctos.
const ARCTOS_TOML: &str = "arctos.toml";
const WRITABLE_BY_ALL: u32 = 0o002;

/// Finds and reads the file. Each setting in it has its line as its origin.
///
/// Errors: the file exists and cannot be read or used.
pub(super) fn find(directory: &Path) -> Result<Option<(PathBuf, GivenBySetting)>, ConfigError> {
    if let Some(bytes) = contents(directory, ARCTOS_TOML)? {
        let path = directory.join(ARCTOS_TOML);
        let given = file::parse(&path, &bytes)?;
        return Ok(Some((path, given)));
    }
    let path = directory.join(PYPROJECT);
    let Some(bytes) = contents(directory, PYPROJECT)? else { return Ok(None) };
    // A mistake in a file without settings of arctos is a matter of other tools.
    if !mentions_arctos(&bytes) {
        return Ok(None);
    }
    match file::parse(&path, &bytes) {
        Ok(given) if given.is_empty() => Ok(None),
        Ok(given) => Ok(Some((path, given))),
        Err(ConfigError::File(FileError::NoTable { .. })) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a file would be found, whatever is in it.
pub(super) fn finds_file(directory: &Path) -> bool {
    !matches!(find(directory), Ok(None))
}

/// Returns the pyproject.toml whose settings are ignored, because there is an arctos.toml.
pub(super) fn ignored(directory: &Path) -> Option<PathBuf> {
    contents(directory, ARCTOS_TOML).ok()??;
    let bytes = contents(directory, PYPROJECT).ok()??;
    let path = directory.join(PYPROJECT);
    let given = file::parse(&path, &bytes).ok()?;
    (!given.is_empty()).then_some(path)
}

fn mentions_arctos(bytes: &[u8]) -> bool {
    bytes.windows(b"arctos".len()).any(|window| window == b"arctos")
}

/// Returns what is in a file, or `None` if it does not exist.
fn contents(directory: &Path, name: &str) -> Result<Option<Vec<u8>>, ConfigError> {
    let path = directory.join(name);
    let origin = Origin::Place(Reason::Found);
    let file = match file::open(&path) {
        Ok(file) => file,
        Err(error) if is_absent(&path, &error) => return Ok(None),
        Err(error) => {
            let text = name.to_owned();
            return Err(FileError::Unreadable { origin, text, path, error }.into());
        }
    };
    if let Some(owner) = stranger(directory, &file) {
        return Err(FileError::Foreign { path, owner }.into());
    }
    Ok(Some(file::read_all(file, &path, name, &origin)?))
}

/// Whether there is no such file, as far as this process can know: in a directory that it may not search, nothing can
/// be found.
fn is_absent(path: &Path, error: &io::Error) -> bool {
    let is_missing = matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
    is_missing || (error.kind() == ErrorKind::PermissionDenied && fs::metadata(path).is_err())
}

/// Returns the owner of a file that anybody could have put into the directory.
fn stranger(directory: &Path, file: &File) -> Option<u32> {
    let is_open_to_all = fs::metadata(directory).ok()?.mode() & WRITABLE_BY_ALL != 0;
    let owner = file.metadata().ok()?.uid();
    (is_open_to_all && owner != 0 && owner != geteuid().as_raw()).then_some(owner)
}

#[cfg(test)]
mod tests;
