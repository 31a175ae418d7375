//! What one worker is configured to do: checked and resolved by the supervisor, read by all of this
//! crate.
//!
//! The defaults of these settings stand here and nowhere else: the table of options, and with it the help and the
//! guide, takes them from [`Limits::DEFAULT`], [`Timeouts::DEFAULT`] and the constants of [`Settings`].

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Everything a worker needs to know that is not a socket or shared memory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bounds on what a request may carry.
    pub limits: Limits,
    /// How long a peer may take.
    pub timeouts: Timeouts,
    /// What happens to a field name with `_` in it.
    pub header_map: HeaderMap,
    /// Whether responses carry `Server: arctos`.
    pub server_header: bool,
    /// SCRIPT_NAME of the application: empty, or a path with a leading and without a final slash.
    pub root_path: String,
    /// Folder of the unlinked files that hold large request bodies.
    pub body_temp_dir: PathBuf,
    /// Whether other workers may run the same application at the same time (`wsgi.multiprocess`).
    pub multiprocess: bool,
    /// Path, and query if there is one, that a worker's own application must answer with a status below
    /// 500 before the worker is ready ([`crate::event_loop::readiness_check`]).
    pub reload_check: Option<String>,
}

impl Settings {
    /// The default of [`Settings::header_map`].
    pub const HEADER_MAP: HeaderMap = HeaderMap::Drop;
    /// The default of [`Settings::server_header`].
    pub const SERVER_HEADER: bool = true;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::DEFAULT,
            timeouts: Timeouts::DEFAULT,
            header_map: Self::HEADER_MAP,
            server_header: Self::SERVER_HEADER,
            root_path: String::new(),
            body_temp_dir: std::env::temp_dir(),
            multiprocess: true,
            reload_check: None,
        }
    }
}

/// Bounds on what one peer can make a worker hold or do. Bytes, unless the name says otherwise.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Longest request line, its CRLF not counted; above it 414.
    pub request_line_bytes: usize,
    /// Most header fields; above it 431.
    pub header_count: usize,
    /// Longest header field line, its CRLF not counted; above it 431.
    pub header_field_bytes: usize,
    /// Longest whole head; above it 431.
    pub head_bytes: usize,
    /// Longest request body; above it 413; 0 is unlimited.
    pub body_bytes: u64,
    /// A body up to this size stays in memory; a longer one goes to an unlinked file.
    pub body_memory_bytes: usize,
    /// Requests that one connection may send; 0 is unlimited.
    pub requests_per_connection: u32,
    /// Connections one worker holds; above it the longest idle one is closed. Descriptors may set a lower
    /// bound ([`Limits::connections_within`]).
    pub connections: usize,
}

/// Descriptors that a worker leaves to its listeners, spools and the application: a quarter of all, but no
/// fewer and no more than these.
const RESERVED_DESCRIPTORS: RangeInclusive<u64> = 32..=256;

impl Limits {
    /// The limits of a server that is given none.
    pub const DEFAULT: Self = Self {
        request_line_bytes: 8190,
        header_count: 100,
        header_field_bytes: 8190,
        head_bytes: 64 * 1024,
        body_bytes: 1 << 30,
        body_memory_bytes: 512 * 1024,
        requests_per_connection: 0,
        connections: 10_000,
    };

    /// How many connections a worker holds that may open so many descriptors: [`Limits::connections`], but
    /// no more than leave something for all else.
    pub fn connections_within(&self, descriptors: u64) -> usize {
        let (least, most) = RESERVED_DESCRIPTORS.into_inner();
        let reserved = (descriptors / 4).clamp(least, most);
        let possible = usize::try_from(descriptors.saturating_sub(reserved)).unwrap_or(usize::MAX);
        self.connections.min(possible.max(1))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How long a peer may take before its connection is given up.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the first byte of a head to its last, whatever trickles in between; then 408.
    pub head: Duration,
    /// Between two pieces of a body; also the window over which [`Timeouts::body_rate_bytes`] is
    /// measured; then 408.
    pub body: Duration,
    /// Least bytes of body in one window of [`Timeouts::body`].
    pub body_rate_bytes: u64,
    /// An idle kept connection is closed after this, without a word.
    pub keep_alive: Duration,
    /// Without any progress of a response; then the connection is closed.
    pub write: Duration,
    /// How long the next bytes of a refused request are waited for, to be thrown away (RFC 9112 §9.6).
    pub linger: Duration,
    /// How long they are thrown away in all.
    pub linger_total: Duration,
}

impl Timeouts {
    /// The default of `--body-min-rate`, in bytes per second.
    pub const BODY_MIN_RATE_BYTES: u64 = 512;
    /// The timeouts of a server that is given none.
    pub const DEFAULT: Self = Self {
        head: Duration::from_secs(30),
        body: Duration::from_secs(Self::BODY_SECONDS),
        body_rate_bytes: Self::BODY_MIN_RATE_BYTES * Self::BODY_SECONDS,
        keep_alive: Duration::from_secs(75),
        write: Duration::from_secs(60),
        linger: Duration::from_secs(2),
        linger_total: Duration::from_secs(30),
    };
    const BODY_SECONDS: u64 = 30;
}

impl Default for Timeouts {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// What happens to a request header whose name has `_`, and so would pose as one with `-` in environ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMap {
    /// The field is left out and counted.
    Drop,
    /// The request is answered 400.
    Refuse,
}

impl HeaderMap {
    /// How `--header-map` writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Drop => "drop",
            Self::Refuse => "refuse",
        }
    }
}

/// `MODULE:ATTR` and how to load it.
#[derive(Clone, Debug)]
pub struct AppSpec {
    /// Dotted module path.
    pub module: String,
    /// Dotted attribute; `None` tries `app`, then `application`.
    pub attribute: Option<String>,
    /// Whether the attribute is called without arguments to make the application.
    pub is_factory: bool,
    /// Folder to change to first; the current one otherwise. It goes to the front of `sys.path`.
    pub chdir: Option<PathBuf>,
    /// Further folders for `sys.path`, before that one.
    pub pythonpath: Vec<PathBuf>,
    /// Environment of the workers, over the inherited one.
    pub env: Vec<(String, String)>,
    /// What else of the application's is called, and when.
    pub hooks: Hooks,
}

/// Functions of the application's that are called beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// `--on-start`: once for a load of the code, before the first worker.
    pub on_start: Vec<HookName>,
    /// `--pre-fork`: in the zygote, before each worker.
    pub pre_fork: Vec<HookName>,
    /// `--post-fork`: in each worker, before the application is loaded.
    pub post_fork: Vec<HookName>,
    /// `--worker-ready`: in each worker, before it serves.
    pub worker_ready: Vec<HookName>,
    /// `--worker-exit`: in each worker that is told to leave, after its last request.
    pub worker_exit: Vec<HookName>,
    /// What the server is called, for them to be told.
    pub server_name: String,
}

/// `MODULE:FUNCTION`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookName {
    /// Dotted module path.
    pub module: String,
    /// Dotted attribute.
    pub attribute: String,
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.module, self.attribute)
    }
}

/// When a hook is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Once for a load of the code.
    OnStart,
    /// Before a worker is forked with the application.
    PreFork,
    /// At the beginning of a worker.
    PostFork,
    /// A worker has the application, and is about to serve.
    WorkerReady,
    /// A worker has served, and is about to end.
    WorkerExit,
}

impl Moment {
    /// All of them, in the order in which they come.
    pub const ALL: [Self; 5] =
        [Self::OnStart, Self::PreFork, Self::PostFork, Self::WorkerReady, Self::WorkerExit];

    /// The option that names its hooks.
    pub fn option(self) -> &'static str {
        match self {
            Self::OnStart => "--on-start",
            Self::PreFork => "--pre-fork",
            Self::PostFork => "--post-fork",
            Self::WorkerReady => "--worker-ready",
            Self::WorkerExit => "--worker-exit",
        }
    }
}

impl Hooks {
    /// Those of a moment, in their order.
    pub fn of(&self, moment: Moment) -> &[HookName] {
        match moment {
            Moment::OnStart => &self.on_start,
            Moment::PreFork => &self.pre_fork,
            Moment::PostFork => &self.post_fork,
            Moment::WorkerReady => &self.worker_ready,
            Moment::WorkerExit => &self.worker_exit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_all_else() {
        let limits = |connections| Limits { connections, ..Limits::default() };
        let of_10_000 = |descriptors| limits(10_000).connections_within(descriptors);
        assert_eq!(of_10_000(128), 96);
        assert_eq!(of_10_000(1024), 768);
        assert_eq!(of_10_000(10_255), 9_999);
        assert_eq!(of_10_000(10_256), 10_000);
        assert_eq!(of_10_000(u64::MAX), 10_000);
        assert_eq!(of_10_000(0), 1, "a worker without connections serves nobody");
        assert_eq!(limits(50).connections_within(128), 50);
    }
}
