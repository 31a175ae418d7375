//! Why the server cannot start or go on, and the exit code that says so.

use std::io;
use std::path::PathBuf;

use arctos_worker::shared::log::without_numbers;
use nix::unistd::Uid;
use thiserror::Error;

use crate::listener::ListenError;
use crate::supervisor::Verdict;

/// The exit codes of a server, the same for any number of workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum ExitCode {
    /// It was asked to stop.
    Asked = 0,
    /// Configuration, bind or permissions.
    Configuration = 1,
    /// A command line that cannot be understood ([`crate::cli::UsageError`]): it made no server.
    Usage = 2,
    /// A worker failed to boot at first start.
    NotBooted = 3,
    /// The application could not be imported at first start.
    NotImportable = 4,
    /// No worker was ready for too long.
    CrashLoop = 5,
    /// A defect of arctos, or a kernel that refuses what every server needs.
    Internal = 70,
}

impl ExitCode {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Asked,
        Self::Configuration,
        Self::Usage,
        Self::NotBooted,
        Self::NotImportable,
        Self::CrashLoop,
        Self::Internal,
    ];

    /// What it tells an operator.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Asked => "it was asked to stop",
            Self::Configuration => "configuration, address or permissions: the message names which",
            Self::Usage => "usage: a wrong option or value",
            Self::NotBooted => {
                "at the first start, a worker could not boot: it crashed, was killed, a hook failed, \
                 or it was not ready within `--boot-timeout`; or one died before an \
                 [upgrade](#upgrade) was over"
            }
            Self::NotImportable => {
                "at the first start, the application could not be imported, or left by \
                 `sys.exit()`; the reason is printed once, with a hint"
            }
            Self::CrashLoop => {
                "no worker has been ready for 60 s, or for `--boot-timeout` where that is longer"
            }
            Self::Internal => "a defect of arctos",
        }
    }

    /// Whether the same command may succeed a little later, with nothing changed by hand: an import may
    /// have needed a database that was away. Who starts servers gives up on the others.
    pub fn may_heal(self) -> bool {
        match self {
            Self::NotBooted | Self::NotImportable | Self::CrashLoop | Self::Internal => true,
            Self::Asked | Self::Configuration | Self::Usage => false,
        }
    }
}

/// Why the server ended without having been asked to.
#[derive(Debug, Error)]
pub enum Fatal {
    /// The access log cannot be opened.
    #[error("cannot open the access log {path}")]
    AccessLog {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The pid file cannot be written.
    #[error("cannot write the pid file {path}")]
    PidFile {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Only root can run workers as somebody else.
    #[error("only root can run workers as another user or group")]
    NotRoot,
    /// The user has no entry in the user database, so its group is unknown.
    #[error("user {user} is not in the user database: its group must be given, too")]
    UnknownUser {
        /// Which user.
        user: Uid,
    },
    /// The user database cannot be read.
    #[error("cannot read the user database")]
    UserDatabase {
        /// Why.
        source: nix::Error,
    },
    /// Something has started threads in this process, so fork(2) would copy locks that nobody opens.
    #[error("cannot fork: this process has threads beside the main one: {}", names.join(", "))]
    Threads {
        /// The names of all threads.
        names: Vec<String>,
    },
    /// The admin socket cannot be bound.
    #[error("--admin-bind")]
    Admin {
        /// Which address, and why.
        source: ListenError,
    },
    /// A worker failed to boot at first start.
    #[error("a worker could not boot{}", because(cause.as_ref()))]
    NotBooted {
        /// What became of it.
        cause: Option<String>,
    },
    /// A worker of a server that was to replace another one died before it did.
    #[error("a worker died before this server has replaced the one before it{}", because(cause.as_ref()))]
    Unfit {
        /// What became of it.
        cause: Option<String>,
    },
    /// The application could not be imported at first start.
    #[error("the application could not be imported")]
    NotImportable,
    /// No worker was ready for too long.
    #[error("no worker became ready for too long{}", because(cause.as_ref()))]
    CrashLoop {
        /// What became of the last one.
        cause: Option<String>,
    },
    /// The kernel refused something that needs no permission.
    #[error("{call} failed")]
    System {
        /// Which system call.
        call: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn because(cause: Option<&String>) -> String {
    cause.map(|cause| format!(": {cause}")).unwrap_or_default()
}

impl Fatal {
    /// The result of a server that ended with this verdict. `cause` is what became of its workers.
    pub(super) fn check(verdict: Verdict, cause: Option<String>) -> Result<(), Self> {
        match verdict {
            Verdict::Asked => Ok(()),
            Verdict::NotBooted => Err(Self::NotBooted { cause }),
            Verdict::NotImportable => Err(Self::NotImportable),
            Verdict::CrashLoop => Err(Self::CrashLoop { cause }),
        }
    }

    /// The exit code that tells it.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::AccessLog { .. }
            | Self::PidFile { .. }
            | Self::NotRoot
            | Self::UnknownUser { .. }
            | Self::UserDatabase { .. }
            | Self::Threads { .. }
            | Self::Admin { .. } => ExitCode::Configuration,
            Self::NotBooted { .. } | Self::Unfit { .. } => ExitCode::NotBooted,
            Self::NotImportable => ExitCode::NotImportable,
            Self::CrashLoop { .. } => ExitCode::CrashLoop,
            Self::System { .. } => ExitCode::Internal,
        }
    }

    /// What happened and why, on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        without_numbers(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- exit-codes:begin -->\n";
    const END: &str = "<!-- exit-codes:end -->";

    fn markdown() -> String {
        let mut text = "| code | meaning | start it again? |\n|---|---|---|".to_owned();
        for code in ExitCode::ALL {
            let again = if code.may_heal() { "yes" } else { "no" };
            text.push_str(&format!("\n| {} | {} | {again} |", code as i32, code.meaning()));
        }
        text
    }

    /// `ARCTOS_BLESS=1 cargo test -p arctos --no-default-features error` writes the table anew.
    #[test]
    fn the_readme_holds_the_table_of_exit_codes() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = std::fs::read_to_string(path).unwrap();
        let (before, rest) = readme.split_once(BEGIN).unwrap();
        let (table, after) = rest.split_once(END).unwrap();
        if std::env::var_os("ARCTOS_BLESS").is_some() {
            let text = format!("{before}{BEGIN}\n{}\n\n{END}{after}", markdown());
            std::fs::write(path, text).unwrap();
            return;
        }
        assert_eq!(table, format!("\n{}\n\n", markdown()), "run this test with ARCTOS_BLESS=1");
    }

    #[test]
    fn a_command_line_without_an_application_is_wrong_usage() {
        assert_eq!(crate::cli::UsageError::NoApplication.exit_code(), ExitCode::Usage as i32);
    }

    #[test]
    fn the_causes_of_an_error_stand_behind_it_on_one_line() {
        let source = io::Error::from_raw_os_error(nix::libc::EACCES);
        let fatal = Fatal::AccessLog { path: "/var/log/x".into(), source };
        assert_eq!(fatal.chain(), "cannot open the access log /var/log/x: Permission denied");
        assert_eq!(fatal.exit_code(), ExitCode::Configuration);
    }

    #[test]
    fn each_way_of_not_starting_has_the_exit_code_that_is_documented() {
        assert_eq!(Fatal::NotBooted { cause: None }.exit_code() as i32, 3);
        assert_eq!(Fatal::NotImportable.exit_code() as i32, 4);
        assert_eq!(Fatal::CrashLoop { cause: None }.exit_code() as i32, 5);
        let cause = Some("it was too tired".to_owned());
        assert_eq!(
            Fatal::NotBooted { cause }.to_string(),
            "a worker could not boot: it was too tired"
        );
        let source = io::Error::from_raw_os_error(nix::libc::ENOMEM);
        assert_eq!(Fatal::System { call: "poll(2)", source }.exit_code() as i32, 70);
    }
}
