//! The access log: opened before the workers give up the right to, and anew on USR1.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use arctos_worker::log::{Level, Value};
use nix::errno::Errno;

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
    let failed = |path: &std::path::Path| {
        let path = path.to_owned();
        move |source| Fatal::AccessLog { path, source }
    };
    match access {
        AccessLog::Off => Ok(None),
        AccessLog::Stdout => {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            Ok(Some(stdout.map_err(failed("-".as_ref()))?))
        }
        AccessLog::File(path) => {
            let file: File =
                OpenOptions::new().append(true).create(true).open(path).map_err(failed(path))?;
            Ok(Some(file.into()))
        }
    }
}
