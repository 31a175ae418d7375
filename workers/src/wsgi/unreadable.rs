//! Finds directories that the user of this process cannot read. With `--user`, they are the usual reason for a failed
//! boot, and Python only reports what it did not find there.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{AccessFlags, Uid, access};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::settings::AppSpec;
use crate::worker_init::BootFailure;

/// Adds to the report which directories of the application or of Python cannot be read, if any.
pub(super) fn explain(py: Python<'_>, spec: &AppSpec, mut failure: BootFailure) -> BootFailure {
    // Writing to a String cannot fail.
    let uid = Uid::effective();
    let mut say = |whose: &str, directory: &Path, advice: &str| {
        let Some(blocked) = blocked_at(directory) else { return false };
        if !failure.report.ends_with('\n') {
            failure.report.push('\n');
        }
        let (directory, blocked) = (directory.display(), blocked.display());
        let _ = writeln!(
            failure.report,
            "The user {uid} cannot read {whose} {directory}: it has no access to {blocked}. {advice}"
        );
        true
    };
    let current = std::env::current_dir().ok();
    let own = spec.chdir.iter().chain(&spec.pythonpath).chain(&current);
    let advice =
        "Give it read and search permission there (chmod, chgrp), or choose another --user.";
    for directory in own {
        if say("the application's directory", &absolute(directory, current.as_deref()), advice) {
            break;
        }
    }
    // Of the standard library and the packages, one directory is enough.
    let advice = "Install Python and its packages where it can read them, such as below /opt.";
    for directory in search_path(py).unwrap_or_default() {
        if say("Python's directory", &directory, advice) {
            break;
        }
    }
    failure
}

fn absolute(directory: &Path, current: Option<&Path>) -> PathBuf {
    current.map_or_else(|| directory.to_owned(), |current| current.join(directory))
}

/// Returns the directory of the standard library, and `sys.path`.
fn search_path(py: Python<'_>) -> PyResult<Vec<PathBuf>> {
    let path = py.import("sys")?.getattr("path")?.cast_into::<PyList>()?;
    let texts = path.iter().filter_map(|entry| entry.extract::<OsString>().ok());
    let home = py.import("os")?.getattr("__file__")?.extract::<OsString>()?;
    let home = Path::new(&home).parent().map(Path::to_owned);
    Ok(home
        .into_iter()
        .chain(texts.map(PathBuf::from))
        .filter(|entry| entry.is_absolute())
        .collect())
}

/// Returns what blocks the access to a directory: the first directory above it that may not be searched, or the
/// directory itself.
///
/// Source: access(2), which checks the real user. In all processes of the server, that is the effective one.
fn blocked_at(directory: &Path) -> Option<&Path> {
    let denied = |path: &Path, flags| access(path, flags) == Err(Errno::EACCES);
    let mut way: Vec<_> = directory.ancestors().collect();
    way.reverse();
    way.into_iter()
        .find(|step| denied(step, AccessFlags::X_OK))
        .or_else(|| denied(directory, AccessFlags::R_OK).then_some(directory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_readable_or_missing_directory_is_not_blocked() {
        assert_eq!(blocked_at(Path::new("/usr")), None);
        assert_eq!(blocked_at(Path::new("/usr/no such directory")), None);
    }
}
