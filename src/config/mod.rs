//! The configuration: what was given, checked, with units resolved and defaults filled in, each
//! value with its origin.
//!
//! A [`Source`] is what was given and where; it makes a [`Config`] of that or says, in a
//! [`ConfigError`], which option stands in the way, and does so as often as it is asked: a reload is
//! the same again. Syntax of the command line is [`crate::cli`]'s.

mod advice;
mod app_name;
mod application;
mod binds;
mod datadog;
mod error;
mod file;
mod file_error;
mod hints;
mod hooks;
mod identity;
pub mod options;
mod origin;
mod paths;
mod reader;
mod recycle;
mod resolve;
mod restart_needed;
mod source;
mod statsd;
mod times;
pub mod value;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use arctos_worker::settings::{AppSpec, Settings};
use arctos_worker::shared::log::{Level, LogFormat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use crate::metrics::statsd::Statsd;
use crate::supervisor::health::RecycleLimits;
use crate::system::address::BindAddress;

pub use error::{AppNameError, ConfigError};
pub use file_error::FileError;
pub use hints::Hint;
pub use origin::{FileLine, Given, Origin};
pub use reader::Effective;
pub use resolve::Resolved;
pub use source::Source;

/// The name of a server in ps(1) and to its hooks where `--name` gives none.
pub(crate) const SERVER_NAME: &str = "arctos";

/// Everything the supervisor needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// What this was read from, to be read again for a reload.
    pub source: Source,
    /// What to serve.
    pub application: AppSpec,
    /// Where to listen; never empty. Sockets from systemd are here as [`BindAddress::Fd`].
    pub binds: Vec<BindAddress>,
    /// Whether another server may be bound to the same address already.
    pub reuse_port: bool,
    /// One shared socket an address, or one a slot.
    pub listen_mode: ListenMode,
    /// Length of the accept queue.
    pub backlog: u32,
    /// Permissions of `unix:/path`.
    pub unix_socket_mode: Mode,
    /// Workers at start.
    pub workers: u16,
    /// Whether workers are forked from a process that has the application.
    pub preload: bool,
    /// When workers are worn out.
    pub limits: RecycleLimits,
    /// Identity of the workers.
    pub privileges: Privileges,
    /// Name of the processes in ps(1).
    pub name: Option<String>,
    /// Where to write the supervisor's pid.
    pub pid_file: Option<PathBuf>,
    /// How long things may take.
    pub patience: Patience,
    /// Logging.
    pub logging: Logging,
    /// Where metrics are sent, if they are.
    pub statsd: Option<Statsd>,
    /// `--zone`, sanitised: a tag of metrics that are sent, a label of those that are looked at.
    pub zone: Option<String>,
    /// Where the admin socket listens; empty for nowhere.
    pub admin_binds: Vec<BindAddress>,
    /// What each worker gets.
    pub worker: Settings,
}

impl Config {
    /// Name of the processes in ps(1), the default filled in.
    pub fn process_name(&self) -> &str {
        self.name.as_deref().unwrap_or(SERVER_NAME)
    }
}

/// How listening sockets are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListenMode {
    /// One socket an address, shared by all workers.
    Shared,
    /// One SO_REUSEPORT socket an address and slot, held by the supervisor.
    PerSlot,
}

/// What workers run as.
#[derive(Clone, Debug, Default)]
pub struct Privileges {
    /// User, dropped to before application code runs.
    pub user: Option<Uid>,
    /// Group; the user's own where only a user is given.
    pub group: Option<Gid>,
    /// Whether workers of another user may gain privileges by execve(2).
    pub allow_new_privileges: bool,
    /// File mode creation mask.
    pub umask: Option<Mode>,
}

/// How long the supervisor waits for what.
#[derive(Clone, Debug)]
pub struct Patience {
    /// One request (`--timeout`); zero is unlimited.
    pub request: Duration,
    /// A worker's start until it is ready.
    pub boot: Duration,
    /// The whole of a graceful stop.
    pub graceful: Duration,
    /// On TERM: how long to go on accepting before the door closes.
    pub drain_delay: Duration,
    /// A quick stop.
    pub quick: Duration,
}

/// Where log lines go and how they look.
#[derive(Clone, Debug)]
pub struct Logging {
    /// Least level written.
    pub level: Level,
    /// Text or JSON.
    pub format: LogFormat,
    /// `--access-logfile`.
    pub access: AccessLog,
}

/// Where the access log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output (`-`).
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

#[cfg(test)]
mod tests;
