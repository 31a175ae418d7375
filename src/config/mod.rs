//! The configuration: the given options, checked, with units resolved and defaults filled in. Each value has its origin.
//!
//! A [`Source`] is what was given and where. It can be resolved to a [`Config`] any number of times, because a reload
//! resolves it again; a [`ConfigError`] names the option at fault. The syntax of the command line is not known here.

mod access_log;
mod advice;
mod app_name;
mod application;
mod binds;
mod call_limits;
mod datadog;
mod development;
mod discovery;
mod error;
mod file;
mod file_error;
mod hints;
mod hooks;
mod identity;
pub mod options;
mod origin;
mod paths;
mod place;
mod proxies;
mod quarantine;
mod reader;
mod recycle;
mod resolve;
mod restart_needed;
mod source;
mod static_mounts;
mod statsd;
pub mod template;
mod times;
mod tls;
pub mod value;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use arctos_worker::settings::{AppSpec, Settings, TlsFiles};
use arctos_worker::shared::log::{Level, LogFormat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use self::options::Setting;
use crate::metrics::statsd::Statsd;
use crate::supervisor::quarantine::QuarantineLimits;
use crate::supervisor::recycling::RecycleLimits;
use crate::system::address::BindAddress;

pub use access_log::{AccessLog, SyslogAddress};
pub use development::{ReloadEngine, Watching};
pub use error::{AppNameError, ConfigError};
pub use file_error::FileError;
pub use hints::Hint;
pub(crate) use origin::Printable;
pub use origin::{FileLine, Given, Origin};
pub use place::Reason;
pub use reader::Effective;
pub use resolve::Resolved;
pub use source::Source;

/// The name of a server in ps(1) and to its hooks where `--name` gives none.
pub(crate) const SERVER_NAME: &str = "arctos";

/// Everything that the supervisor needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where this was read from; a reload reads it again.
    pub source: Source,
    /// What to serve.
    pub application: AppSpec,
    /// The addresses to listen on; never empty. Sockets from systemd are [`BindAddress::Fd`].
    pub binds: Vec<BindAddress>,
    /// Whether another server may already be bound to the same address.
    pub reuse_port: bool,
    /// How workers share the listening sockets.
    pub listen_mode: ListenMode,
    /// Length of the accept queue of each socket.
    pub backlog: u32,
    /// Permissions of the sockets at `unix:/path`.
    pub unix_socket_mode: Mode,
    /// Number of workers at start.
    pub workers: u16,
    /// Whether a zygote imports the application and forks the workers.
    pub preload: bool,
    /// When workers are recycled.
    pub limits: RecycleLimits,
    /// When requests that have killed or hung workers are refused; `None` if never.
    pub quarantine: Option<QuarantineLimits>,
    /// The user and group that workers run as.
    pub privileges: Privileges,
    /// Name of the processes in ps(1), if one is given.
    pub name: Option<String>,
    /// The file to write the supervisor's pid to.
    pub pid_file: Option<PathBuf>,
    /// Time limits that the supervisor enforces.
    pub patience: Patience,
    /// Logging.
    pub logging: Logging,
    /// Where metrics are sent, if anywhere.
    pub statsd: Option<Statsd>,
    /// The sanitized zone: a tag of the metrics that are sent, and a label of those that `/metrics` shows.
    pub zone: Option<String>,
    /// The maximum number of series of application metrics.
    pub metrics_series: u32,
    /// The addresses of the admin socket; empty if there is none.
    pub admin_binds: Vec<BindAddress>,
    /// What `/readyz` requires.
    pub readiness: Readiness,
    /// What `--reload` watches; `None` if it is off.
    pub watching: Option<Watching>,
    /// The files of TLS, if connections over TCP are encrypted.
    pub tls: Option<TlsFiles>,
    /// The settings of each worker.
    pub worker: Settings,
    /// The effective value and the origin of every setting, in the order of the table.
    pub effective: Vec<Effective>,
}

impl Config {
    /// The name of the processes in ps(1), or the default if none is given.
    pub fn process_name(&self) -> &str {
        self.name.as_deref().unwrap_or(SERVER_NAME)
    }

    /// The effective value of a setting, and where it comes from.
    pub fn effective(&self, setting: Setting) -> &Effective {
        let found = self.effective.iter().find(|effective| effective.setting == setting);
        found.expect("a test finds every setting")
    }

    /// The configuration file that was read, and where its name comes from.
    pub fn file(&self) -> Option<(&str, &Origin)> {
        let Effective { value, origin, .. } = self.effective(Setting::Config);
        (!value.is_empty() && value != source::NO_FILE).then_some((value, origin))
    }

    /// The defaults that fit the place where the server runs, each with its reason.
    pub fn chosen_defaults(&self) -> impl Iterator<Item = (&Effective, &Reason)> {
        self.effective.iter().filter_map(|effective| match &effective.origin {
            Origin::Place(reason) => Some((effective, reason)),
            Origin::Auto { reason, .. } => Some((effective, reason)),
            Origin::CommandLine
            | Origin::Keyword
            | Origin::Environment(_)
            | Origin::File(_)
            | Origin::User(_)
            | Origin::Because(_)
            | Origin::Several(_)
            | Origin::Default => None,
        })
    }
}

/// How listening sockets are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenMode {
    /// One socket per address, which all workers share.
    Shared,
    /// One SO_REUSEPORT socket per address and slot. The supervisor holds them all.
    PerSlot,
}

/// What `/readyz` requires of a server that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// Maximum length of the accept queues together; `None` is unlimited.
    pub max_backlog: Option<u32>,
    /// Minimum number of ready workers, or all if fewer are wanted.
    pub min_workers: u16,
}

/// The identity that workers run under.
#[derive(Clone, Debug, Default)]
pub struct Privileges {
    /// The user that a worker switches to before it runs application code.
    pub user: Option<Uid>,
    /// The group; that of the user if only a user is given.
    pub group: Option<Gid>,
    /// Whether workers of another user may gain privileges by execve(2).
    pub allow_new_privileges: bool,
    /// File mode creation mask.
    pub umask: Option<Mode>,
}

/// Time limits that the supervisor enforces.
#[derive(Clone, Debug)]
pub struct Patience {
    /// For a request to react to the exception that its time limit raises (`--timeout-grace`); zero raises none.
    pub reaction: Duration,
    /// For a worker to become ready.
    pub boot: Duration,
    /// For a graceful stop as a whole.
    pub graceful: Duration,
    /// How long to keep accepting connections after SIGTERM.
    pub drain_delay: Duration,
    /// For a quick stop.
    pub quick: Duration,
}

/// Where log lines go and how they look.
#[derive(Clone, Debug)]
pub struct Logging {
    /// The minimum level that is written.
    pub level: Level,
    /// Text or JSON.
    pub format: LogFormat,
    /// `--access-logfile`.
    pub access: AccessLog,
}

#[cfg(test)]
mod tests;
