//! The configuration, checked, with units resolved and defaults filled in.

use std::path::PathBuf;
use std::time::Duration;

use arctos_worker::log::{Level, LogFormat};
use arctos_worker::settings::{AppSpec, Settings};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

use crate::address::BindAddress;

/// Everything the supervisor needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// What to serve.
    pub application: AppSpec,
    /// Where to listen. Empty: systemd's LISTEN_FDS.
    pub binds: Vec<BindAddress>,
    /// Whether another server may be bound to the same address already.
    pub reuse_port: bool,
    /// One shared socket an address, or one a slot.
    pub listen_mode: ListenMode,
    /// Length of the accept queue.
    pub backlog: u32,
    /// Workers at start.
    pub workers: u16,
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
    /// What each worker gets.
    pub worker: Settings,
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
    /// Group.
    pub group: Option<Gid>,
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
    /// A quick stop.
    pub quick: Duration,
    /// On TERM: how long to go on accepting before the door closes.
    pub drain_delay: Duration,
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
