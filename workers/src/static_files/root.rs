//! A directory, and the regular files below it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use crate::process::fork_guard::{self, GuardedFd};
use crate::shared::fd::file::{self, FileId, FileStatus};

/// How often a file is opened again while the kernel cannot tell where it lies, because something on its path is being
/// moved (EAGAIN of openat2(2)).
const ATTEMPTS: u32 = 8;

/// A directory that was opened when the worker started. It stays the same directory even if another one takes its
/// path.
pub(super) struct Root {
    /// `None` once it is lost.
    dir: Option<GuardedFd<OwnedFd>>,
    id: Option<FileId>,
    pub(super) path: PathBuf,
}

/// A regular file that is open.
pub(super) struct OpenFile {
    pub(super) fd: OwnedFd,
    pub(super) status: FileStatus,
}

/// Why a file is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// There is no such file.
    #[error("there is no such file")]
    Missing,
    /// It is a directory, a FIFO, a socket or a device.
    #[error("it is not a regular file")]
    NotRegular,
    /// A symbolic link leads out of the directory.
    #[error("it lies outside of the directory")]
    Outside,
    /// The application has named it in a way that can name no file below the directory.
    #[error("it does not name a file below --sendfile-root")]
    Name,
    /// The worker may not read it.
    #[error("permission denied")]
    Denied,
    /// The worker cannot open anything, or the disk fails.
    #[error("{}", .0.desc())]
    Failed(Errno),
}

impl From<Errno> for OpenError {
    fn from(error: Errno) -> Self {
        const MISSING: [Errno; 4] =
            [Errno::ENOENT, Errno::ENOTDIR, Errno::ENAMETOOLONG, Errno::EINVAL];
        // ENXIO: a socket. ENODEV: a device without a driver.
        const NOT_REGULAR: [Errno; 3] = [Errno::ENXIO, Errno::ENODEV, Errno::EISDIR];
        const OUTSIDE: [Errno; 2] = [Errno::EXDEV, Errno::ELOOP];
        if MISSING.contains(&error) {
            Self::Missing
        } else if NOT_REGULAR.contains(&error) {
            Self::NotRegular
        } else if OUTSIDE.contains(&error) {
            Self::Outside
        } else if [Errno::EACCES, Errno::EPERM].contains(&error) {
            Self::Denied
        } else {
            Self::Failed(error)
        }
    }
}

impl OpenError {
    /// Whether there is no such file, as opposed to one that must not be sent.
    pub(super) fn is_missing(self) -> bool {
        match self {
            Self::Missing | Self::NotRegular => true,
            Self::Outside | Self::Name | Self::Denied | Self::Failed(_) => false,
        }
    }
}

impl Root {
    /// Opens a directory.
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let dir = file::open_dir(path)?;
        let id = FileId::of(&dir);
        Ok(Self { dir: Some(GuardedFd::new(dir)), id, path: path.to_owned() })
    }

    /// Gives the descriptor up, without closing its number, if the application has closed it or has put another file in
    /// its place: what is below that is not meant to be served.
    pub(super) fn give_up_if_lost(&mut self) -> Option<()> {
        let id = self.id;
        let is_lost = |dir: &mut GuardedFd<OwnedFd>| FileId::of(&*dir) != id;
        let lost = self.dir.take_if(is_lost)?;
        fork_guard::forget(lost.as_fd());
        std::mem::forget(lost);
        Some(())
    }

    /// Opens a regular file below the directory.
    pub(super) fn open_file(&self, name: &str) -> Result<OpenFile, OpenError> {
        let dir = self.dir.as_ref().ok_or(OpenError::Failed(Errno::EBADF))?;
        let mut attempts_left = ATTEMPTS;
        let fd = loop {
            match file::open_beneath(dir.as_fd(), OsStr::new(name)) {
                Err(Errno::EAGAIN) if attempts_left > 0 => attempts_left -= 1,
                opened => break opened?,
            }
        };
        match file::regular_status(fd.as_fd())? {
            Some(status) => Ok(OpenFile { fd, status }),
            None => Err(OpenError::NotRegular),
        }
    }
}
