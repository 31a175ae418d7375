//! The configuration of one worker. The supervisor checks and resolves it, and this whole crate reads it.
//!
//! Plain values: nothing here imports anything else from this crate. Their defaults stand here and nowhere else: the
//! table of options, and with it the help and the guide, takes them from [`Limits::DEFAULT`], [`Timeouts::DEFAULT`]
//! and the constants of [`Settings`].

mod access_format;
mod access_log;
mod call_limits;
mod forwarding;
mod proxy_protocol;
mod trusted_peers;

use std::fmt;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use access_format::{
    AccessFormat, AccessLine, AccessObject, Atom, Field, FormatError, Layout, Letter, Member,
    Piece, Wanted,
};
pub use access_log::{AccessLogSettings, Facility, Share, SyslogSettings};
pub use call_limits::{CallLimits, RouteLimit};
pub use forwarding::{ForwardedHeader, ForwardedHeaders, Forwarding};
pub use proxy_protocol::{ProxyProtocol, ProxyVersion};
pub use trusted_peers::{Network, NotAPeer, TrustedPeer, TrustedPeers};

/// Everything that configures a worker, except for its sockets and shared memory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Limits on requests and connections.
    pub limits: Limits,
    /// How long a peer may take.
    pub timeouts: Timeouts,
    /// How long one call of the application may take. The supervisor enforces this, and the application can read it.
    pub call_limits: CallLimits,
    /// What happens to a header field with `_` in its name.
    pub header_map: HeaderMap,
    /// Whether responses carry `Server: arctos`.
    pub server_header: bool,
    /// The field of responses that has the identifier of the request, if one is sent.
    pub request_id_header: Option<String>,
    /// Whether a request is abandoned if its client has ended its stream before the application is called, although it
    /// may go on reading.
    pub abandon_on_half_close: bool,
    /// SCRIPT_NAME: empty, or a path with a leading slash and without a trailing one.
    pub root_path: String,
    /// Which headers of a proxy are believed.
    pub forwarding: Forwarding,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// The directory of the unlinked files that hold large request bodies.
    pub body_temp_dir: PathBuf,
    /// Whether other workers may run the same application at the same time (`wsgi.multiprocess`).
    pub multiprocess: bool,
    /// The path, and the query if there is one, that the application must answer with a status below 500 before
    /// the worker is ready ([`crate::event_loop::readiness_check`]).
    pub reload_check: Option<String>,
    /// Whether a failed request from this machine is answered with its traceback.
    pub debug: bool,
    /// What is served from files.
    pub files: FileSettings,
    /// Which worker serves a kept connection.
    pub keepalive_mode: KeepaliveMode,
    /// What the access log has a line for, and how it looks.
    pub access_log: AccessLogSettings,
}

/// Which worker serves the next request of a kept connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeepaliveMode {
    /// The one that has accepted it.
    Sticky,
    /// Any idle one.
    Shared,
    /// Any idle one while requests take longer than sharing costs, else the one that has it.
    Auto,
}

/// The files that workers send without the application, or by its order.
#[derive(Clone, Debug, Default)]
pub struct FileSettings {
    /// `--static`: paths of requests, and the directories of their files.
    pub mounts: Vec<StaticMount>,
    /// `--sendfile-root`: the directory of the files that the application names in `X-Sendfile` and
    /// `X-Accel-Redirect`; without one, these fields are fields like any other.
    pub sendfile_root: Option<PathBuf>,
}

/// A directory, and the path that its files have in requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticMount {
    /// Starts with a slash and does not end in one.
    pub prefix: String,
    /// The directory.
    pub dir: PathBuf,
}

impl Settings {
    /// The default of [`Settings::header_map`].
    pub const HEADER_MAP: HeaderMap = HeaderMap::Drop;
    /// The default of [`Settings::server_header`].
    pub const SERVER_HEADER: bool = true;
    /// The default of [`Settings::abandon_on_half_close`].
    pub const ABANDON_ON_HALF_CLOSE: bool = false;
    /// The default of [`Settings::keepalive_mode`].
    pub const KEEPALIVE_MODE: KeepaliveMode = KeepaliveMode::Auto;
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::DEFAULT,
            timeouts: Timeouts::DEFAULT,
            call_limits: CallLimits::default(),
            header_map: Self::HEADER_MAP,
            server_header: Self::SERVER_HEADER,
            request_id_header: None,
            abandon_on_half_close: Self::ABANDON_ON_HALF_CLOSE,
            root_path: String::new(),
            forwarding: Forwarding::default(),
            proxy_protocol: ProxyProtocol::default(),
            body_temp_dir: std::env::temp_dir(),
            multiprocess: true,
            reload_check: None,
            debug: false,
            files: FileSettings::default(),
            keepalive_mode: Self::KEEPALIVE_MODE,
            access_log: AccessLogSettings::default(),
        }
    }
}

/// Limits on what one peer can make a worker hold or do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum length of a request line without its CRLF; a longer one gets 414.
    pub request_line_bytes: usize,
    /// Maximum number of header fields; more get 431.
    pub header_count: usize,
    /// Maximum length of a header field line without its CRLF; a longer one gets 431.
    pub header_field_bytes: usize,
    /// Maximum length of the whole head; a longer one gets 431.
    pub head_bytes: usize,
    /// Maximum length of a request body; a longer one gets 413 (0 is unlimited).
    pub body_bytes: u64,
    /// A body up to this length stays in memory; a longer one goes to an unlinked file.
    pub body_memory_bytes: usize,
    /// Maximum length of all bodies that one worker keeps in memory; what exceeds it goes to a file, too.
    pub body_memory_total_bytes: usize,
    /// Maximum number of requests on one connection (0 is unlimited).
    pub requests_per_connection: u32,
    /// Maximum number of connections of one worker; beyond it the longest idle one is closed. The limit of
    /// descriptors may allow fewer ([`Limits::connections_within`]).
    pub connections: usize,
}

/// How many descriptors a worker reserves for its listeners, spools and the application: a quarter of all, within
/// these bounds.
const RESERVED_DESCRIPTORS: RangeInclusive<u64> = 32..=256;

impl Limits {
    /// The limits of a server that is given none.
    pub const DEFAULT: Self = Self {
        request_line_bytes: 8190,
        header_count: 100,
        header_field_bytes: 8190,
        head_bytes: 64 * 1024,
        body_bytes: 1 << 30,
        body_memory_bytes: 16 << 20,
        body_memory_total_bytes: 64 << 20,
        requests_per_connection: 0,
        connections: 10_000,
    };

    /// The maximum number of connections of a worker with this limit of descriptors: [`Limits::connections`], but
    /// not more than leave the reserved ones.
    pub fn connections_within(&self, descriptors: u64) -> usize {
        let (min, max) = RESERVED_DESCRIPTORS.into_inner();
        let reserved = (descriptors / 4).clamp(min, max);
        let possible = usize::try_from(descriptors.saturating_sub(reserved)).unwrap_or(usize::MAX);
        self.connections.min(possible.max(1))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// How long a peer may take before the worker gives its connection up.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// From the first byte of a head to its last; then 408.
    pub head: Duration,
    /// For the next byte of a body, and the window over which [`Timeouts::body_rate_bytes`] is measured; then
    /// 408.
    pub body: Duration,
    /// Minimum number of body bytes in one window of [`Timeouts::body`].
    pub body_rate_bytes: u64,
    /// For the next request of a kept connection; then the connection is closed.
    pub keep_alive: Duration,
    /// For the next progress of a response; then the connection is closed.
    pub write: Duration,
    /// For a complete request to wait before the application is called; then 503. `None` is unlimited.
    pub queue: Option<Duration>,
    /// For a request until a line of the log says where its time went. `None` is unlimited.
    pub slow: Option<Duration>,
    /// For the next bytes of a refused request, which are discarded (RFC 9112 §9.6).
    pub linger: Duration,
    /// For all of these bytes together.
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
        queue: None,
        slow: None,
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

/// The files of TLS. Only the supervisor reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Never empty; the first pair is for clients that name no host, or an unknown one.
    pub pairs: Vec<CertificatePair>,
    /// The authorities that client certificates are checked against.
    pub ca_certs: Option<PathBuf>,
    /// Whether clients are asked for certificates.
    pub client_certificates: ClientCertificates,
}

/// A certificate with its chain, and its private key; maybe in the same file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say what the fields are")]
pub struct CertificatePair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Whether clients are asked for certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// No client is.
    None,
    /// A client may have one, which is then checked.
    Optional,
    /// A client without a valid one cannot connect.
    Required,
}

/// What happens to a header field whose name contains `_`: in `environ` it would look like one with `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMap {
    /// The field is dropped and counted.
    Drop,
    /// The request is answered 400.
    Refuse,
}

impl KeepaliveMode {
    /// How `--keepalive-mode` writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Sticky => "sticky",
            Self::Shared => "shared",
            Self::Auto => "auto",
        }
    }
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
    /// Dotted attribute; `None` tries `app` and then `application`.
    pub attribute: Option<String>,
    /// Whether the application is what a call of the attribute without arguments returns.
    pub is_factory: bool,
    /// The directory to change to first, by default the current one. It goes to the front of `sys.path`.
    pub chdir: Option<PathBuf>,
    /// Further directories for `sys.path`, before that one.
    pub pythonpath: Vec<PathBuf>,
    /// Environment variables of the workers, beside the inherited ones.
    pub env: Vec<(String, String)>,
    /// Further functions of the application to call, and when.
    pub hooks: Hooks,
    /// With `--reload`: the pipe on which a process sends what it imported: the time before which it had
    /// not imported anything, a space, and the path of a module or package, each followed by a NUL.
    pub import_reports: Option<Arc<OwnedFd>>,
}

/// Functions of the application that arctos calls at certain moments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// `--on-start`: once per generation, before its first worker.
    pub on_start: Vec<HookName>,
    /// `--pre-fork`: in the zygote, before each worker.
    pub pre_fork: Vec<HookName>,
    /// `--post-fork`: in each worker, before the application is loaded.
    pub post_fork: Vec<HookName>,
    /// `--worker-ready`: in each worker, before it serves.
    pub worker_ready: Vec<HookName>,
    /// `--worker-exit`: in each worker that exits on request, after its last request.
    pub worker_exit: Vec<HookName>,
    /// The name of the server, which the hooks get as an argument.
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
    /// Once per generation.
    OnStart,
    /// Before a worker is forked with the application.
    PreFork,
    /// When a worker starts, before it loads the application.
    PostFork,
    /// When a worker has loaded the application and is about to serve.
    WorkerReady,
    /// When a worker has served its last request and is about to exit.
    WorkerExit,
}

impl Moment {
    /// All moments, in their order.
    pub const ALL: [Self; 5] =
        [Self::OnStart, Self::PreFork, Self::PostFork, Self::WorkerReady, Self::WorkerExit];

    /// The option that names the hooks of this moment.
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
    /// The hooks of a moment, in their order.
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
    fn connections_leave_descriptors_for_everything_else() {
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
