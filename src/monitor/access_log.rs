//! The access log: opened before the workers give up the right to, and anew on USR1.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use arctos_worker::log::{Level, Value};
use nix::errno::Errno;
use nix::libc;
use nix::unistd::{Uid, geteuid};

use super::Monitor;
use crate::config::AccessLog;
use crate::error::Fatal;

impl Monitor<'_> {
    /// USR1, after the file was moved away: opens it anew, and gives it to the workers.
    pub(super) fn reopen_access_log(&mut self) {
        let loaded = self.generations.current();
        match open(&loaded.load.config.logging.access) {
            Ok(file) => self.access_log = file,
            Err(error) => {
                let pairs = [("reason", Value::Text(&error.chain()))];
                return self.log.line(Level::Error, "access_log.not_reopened", &pairs);
            }
        }
        if let Some(file) = &self.access_log {
            for member in &self.crew {
                match member.give_access_log(file.as_fd()) {
                    Ok(()) | Err(Errno::EPIPE) => {} // EPIPE: it has ended.
                    Err(error) => self.complain("worker.access_log_not_given", member, error),
                }
            }
        }
        self.log.line(Level::Info, "access_log.reopened", &[]);
    }
}

/// Opened before the workers give up the right to.
pub(super) fn open(access: &AccessLog) -> Result<Option<OwnedFd>, Fatal> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| Fatal::AccessLog { path, source }
    };
    match access {
        AccessLog::Off => Ok(None),
        AccessLog::Stdout => {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            Ok(Some(stdout.map_err(failed("-".as_ref()))?))
        }
        AccessLog::File(path) => Ok(Some(open_file(path).map_err(failed(path))?.into())),
    }
}

/// Root follows no link but root's own: in a folder that the workers' user can write to, a planted one would have
/// lines that clients can shape appended to a file of root's.
fn open_file(path: &Path) -> io::Result<File> {
    let open = |flags| OpenOptions::new().append(true).create(true).custom_flags(flags).open(path);
    match open(libc::O_NOFOLLOW) {
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            let owner = Uid::from_raw(std::fs::symlink_metadata(path)?.uid());
            match may_follow(owner, geteuid()) {
                true => open(0),
                false => Err(io::Error::other(format!(
                    "it is a link of user {owner}, which root does not follow; give its target"
                ))),
            }
        }
        opened => opened,
    }
}

fn may_follow(owner: Uid, own: Uid) -> bool {
    owner.is_root() || !own.is_root()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{lchown, symlink};

    use super::*;

    #[test]
    fn root_follows_only_links_of_roots() {
        let (root, other) = (Uid::from_raw(0), Uid::from_raw(1_234_567));
        assert!(may_follow(root, root));
        assert!(!may_follow(other, root));
        assert!(may_follow(other, other));
        assert!(may_follow(root, other));
    }

    #[test]
    fn a_link_leads_to_the_log_unless_somebody_else_has_made_it_for_root() {
        let folder = tempfile::tempdir().unwrap();
        let (link, target) = (folder.path().join("link"), folder.path().join("target"));
        symlink(&target, &link).unwrap();
        open_file(&link).unwrap();
        assert!(target.exists());
        if geteuid().is_root() {
            lchown(&link, Some(1_234_567), None).unwrap();
            assert!(open_file(&link).unwrap_err().to_string().contains("user 1234567"));
        }
        open_file(&folder.path().join("file")).unwrap();
    }
}
