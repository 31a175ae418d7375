//! Why the server cannot start or continue, and the exit code for it.
#![expect(missing_docs, reason = "`path`, `source`, `call` and `cause` say what they are")]

use std::io;
use std::path::PathBuf;

use arctos_worker::shared::log::without_error_numbers;
use arctos_worker::tls::TlsError;
use thiserror::Error;

use crate::listener::ListenError;
use crate::process::privileges::IdentityError;
use crate::supervisor::Verdict;
use crate::system::exit_code::ExitCode;

/// Why the server ended without having been asked to.
#[derive(Debug, Error)]
pub enum Fatal {
    /// The access log cannot be opened.
    #[error("cannot open the access log {path}")]
    AccessLog { path: PathBuf, source: io::Error },
    /// The pid file cannot be written.
    #[error("cannot write the pid file {path}")]
    PidFile { path: PathBuf, source: io::Error },
    /// The identity of the workers cannot be resolved.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A certificate or a private key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Other threads run in this process, so fork(2) would copy locks that no thread releases.
    #[error(
        "cannot fork: this process has threads beside the main one: {}. \
         What starts threads, as ddtrace-run and opentelemetry-instrument do, has to run in the workers, from --post-fork",
        names.join(", ")
    )]
    Threads { names: Vec<String> },
    /// The admin socket cannot be bound.
    #[error("--admin-bind")]
    Admin { source: ListenError },
    /// A worker failed to boot at the first start.
    #[error("a worker could not boot{}", because(cause.as_ref()))]
    NotBooted { cause: Option<String> },
    /// A worker crashed before this server had taken over from its predecessor.
    #[error("a worker died before this server took over from its predecessor{}", because(cause.as_ref()))]
    Unfit { cause: Option<String> },
    /// The application could not be imported at the first start.
    #[error("the application could not be imported")]
    NotImportable,
    /// No worker was ready for too long.
    #[error("no worker became ready for too long{}", because(cause.as_ref()))]
    CrashLoop { cause: Option<String> },
    /// The kernel refused something that needs no permission.
    #[error("{call} failed")]
    System { call: &'static str, source: io::Error },
}

fn because(cause: Option<&String>) -> String {
    cause.map(|cause| format!(": {cause}")).unwrap_or_default()
}

impl Fatal {
    /// Returns the result of a server that ended with this verdict. `cause` says what happened to its workers.
    pub(super) fn check(verdict: Verdict, cause: Option<String>) -> Result<(), Self> {
        match verdict {
            Verdict::Asked => Ok(()),
            Verdict::NotBooted => Err(Self::NotBooted { cause }),
            Verdict::NotImportable => Err(Self::NotImportable),
            Verdict::CrashLoop => Err(Self::CrashLoop { cause }),
        }
    }

    /// The exit code of a server that ends with this error.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::AccessLog { .. }
            | Self::PidFile { .. }
            | Self::Identity(_)
            | Self::Tls(_)
            | Self::Threads { .. }
            | Self::Admin { .. } => ExitCode::Configuration,
            Self::NotBooted { .. } | Self::Unfit { .. } => ExitCode::NotBooted,
            Self::NotImportable => ExitCode::NotImportable,
            Self::CrashLoop { .. } => ExitCode::CrashLoop,
            Self::System { .. } => ExitCode::Internal,
        }
    }

    /// The error and its causes on one line.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        without_error_numbers(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_without_an_application_is_wrong_usage() {
        assert_eq!(crate::cli::UsageError::NoApplication.exit_code(), ExitCode::Usage as i32);
    }

    #[test]
    fn an_error_and_its_causes_are_one_line() {
        let source = io::Error::from_raw_os_error(nix::libc::EACCES);
        let fatal = Fatal::AccessLog { path: "/var/log/x".into(), source };
        assert_eq!(fatal.chain(), "cannot open the access log /var/log/x: Permission denied");
        assert_eq!(fatal.exit_code(), ExitCode::Configuration);
    }

    #[test]
    fn each_failure_to_start_has_its_documented_exit_code() {
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
