//! The rows of the table of options.

mod development;
mod http;
mod logging;
mod metrics;
mod tls;

use std::time::Duration;

use arctos_worker::settings::{Limits, Timeouts};

use super::{DefaultValue, OptionSpec, Setting, Takes, Topic};

const LIMITS: Limits = Limits::DEFAULT;
const TIMEOUTS: Timeouts = Timeouts::DEFAULT;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A row; the methods below set its value, how often it may be given, and its letter.
const fn row(
    setting: Setting,
    topic: Topic,
    long: &'static str,
    meaning: &'static str,
) -> OptionSpec {
    OptionSpec {
        setting,
        long,
        short: None,
        value: "",
        takes: Takes::Once,
        default: DefaultValue::None,
        topic,
        meaning,
    }
}

impl OptionSpec {
    const fn letter(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn takes(mut self, value: &'static str, takes: Takes, default: DefaultValue) -> Self {
        self.value = value;
        self.takes = takes;
        self.default = default;
        self
    }

    const fn once(self, value: &'static str, default: DefaultValue) -> Self {
        self.takes(value, Takes::Once, default)
    }

    const fn optional(self, value: &'static str) -> Self {
        self.takes(value, Takes::Once, DefaultValue::None)
    }

    const fn derived(self, value: &'static str, default: &'static str) -> Self {
        self.takes(value, Takes::Once, DefaultValue::Derived(default))
    }

    const fn hook(self) -> Self {
        self.takes("MODULE:FUNCTION", Takes::Many(','), DefaultValue::None)
    }

    const fn switch(self) -> Self {
        self.takes("on|off", Takes::Switch, DefaultValue::Switch(false))
    }
}

/// All options, in the order of the help. An option that gunicorn also has carries gunicorn's name and meaning.
///
/// No variable may be `ARCTOS_PORT` or begin with `ARCTOS_SERVICE_` or `ARCTOS_PORT_`: Kubernetes sets these in
/// every pod beside a Service named `arctos`.
pub const OPTIONS: &[OptionSpec] = {
    const PARTS: [&[OptionSpec]; 6] =
        [BASE, tls::ROWS, http::ROWS, logging::ROWS, metrics::ROWS, development::ROWS];
    const COUNT: usize = BASE.len()
        + tls::ROWS.len()
        + http::ROWS.len()
        + logging::ROWS.len()
        + metrics::ROWS.len()
        + development::ROWS.len();
    &joined::<COUNT>(&PARTS)
};

/// Joins the parts of the table, which together have `COUNT` rows.
const fn joined<const COUNT: usize>(parts: &[&[OptionSpec]]) -> [OptionSpec; COUNT] {
    let mut all = [parts[0][0]; COUNT];
    let (mut part, mut count) = (0, 0);
    while part < parts.len() {
        let mut index = 0;
        while index < parts[part].len() {
            all[count] = parts[part][index];
            (index, count) = (index + 1, count + 1);
        }
        part += 1;
    }
    assert!(count == COUNT);
    all
}

/// The rows up to the limits.
const BASE: &[OptionSpec] = {
    use DefaultValue::{Count, Size, Time, Word};
    use Setting as S;
    use Topic as T;
    &[
        row(
            S::Application,
            T::Application,
            "app",
            "WSGI callable to serve: a dotted module name and the callable in it. Without \
             `:ATTR`, arctos looks for `app`, then for `application`. `MODULE:create_app()` \
             calls a factory.",
        )
        .takes("MODULE:ATTR", Takes::Positional, DefaultValue::None),
        row(
            S::Config,
            T::Application,
            "config",
            "Read options from this TOML file, each under its long name: `workers = 4`; in a \
             `pyproject.toml`, from the table `[tool.arctos]`. The command line and `ARCTOS_*` take \
             precedence; a list replaces the file's list. A reload reads the file again. A relative \
             FILE is relative to the directory in which arctos was started; paths inside the file are \
             relative to `--chdir`, as those of all options are. `off` reads no file.",
        )
        .letter('c')
        .derived("off|FILE", "`arctos.toml`, else `pyproject.toml`, if found in the current directory"),
        row(
            S::Factory,
            T::Application,
            "factory",
            "Call ATTR, a function without arguments, to get the application.",
        )
        .switch(),
        row(
            S::Chdir,
            T::Application,
            "chdir",
            "Change to this directory before the application is loaded, and import from it. \
             Relative paths of all options start there.",
        )
        .derived("DIR", "the current directory"),
        row(
            S::PythonPath,
            T::Application,
            "pythonpath",
            "Additional directories to import from, searched before `--chdir`; separated by \
             commas.",
        )
        .takes("DIR", Takes::Many(','), DefaultValue::None),
        row(
            S::Env,
            T::Application,
            "env",
            "Set an environment variable in the workers. `ARCTOS_ENV` takes one per line.",
        )
        .letter('e')
        .takes("KEY=VALUE", Takes::Many('\n'), DefaultValue::None),
        row(
            S::Bind,
            T::Listening,
            "bind",
            "Address to listen on: `HOST:PORT`, `[IPv6]:PORT`, `:PORT` (all addresses), \
             `PORT` (127.0.0.1), `unix:/path`, `unix:@abstract` or `fd://N`. A host name is \
             bound at each of its addresses. `ARCTOS_BIND` separates addresses by commas.",
        )
        .letter('b')
        .takes(
            "ADDRESS",
            Takes::Many(','),
            DefaultValue::Derived("systemd's sockets, else `0.0.0.0:$PORT`, else `127.0.0.1:8000`"),
        ),
        row(
            S::ReusePort,
            T::Listening,
            "reuse-port",
            "Share the address with another server of the same user that already listens \
             there.",
        )
        .switch(),
        row(
            S::ListenMode,
            T::Listening,
            "listen-mode",
            "Open one socket for all workers (`shared`), so that an idle worker takes the \
             next connection, or one for each worker (`per-slot`).",
        )
        .once("shared|per-slot", Word("shared")),
        row(
            S::Backlog,
            T::Listening,
            "backlog",
            "Maximum number of connections that wait to be accepted, per socket.",
        )
        .once("N", Count(2048)),
        row(
            S::UnixSocketMode,
            T::Listening,
            "unix-socket-mode",
            "Permissions of `unix:/path`; connecting requires write permission. The socket \
             belongs to `--user` and `--group`.",
        )
        .once("MODE", Word("0660")),
        row(
            S::MaxConnections,
            T::Listening,
            "max-connections",
            "Maximum connections per worker; above it, the worker closes the connection that \
             has been idle longest. The limit of open descriptors may lower it.",
        )
        .once("N", Count(LIMITS.connections as u64)),
        row(
            S::AdminBind,
            T::Listening,
            "admin-bind",
            "Serve `/status`, `/metrics` and `arctos ctl` at this address, in the notation of \
             `--bind` except `unix:@abstract` and `fd://N`. Only the owner can connect to \
             `unix:/path`; TCP authenticates nobody. `ARCTOS_ADMIN_BIND` separates addresses \
             by commas.",
        )
        .takes("ADDRESS", Takes::Many(','), DefaultValue::None),
        row(
            S::ReadyMaxBacklog,
            T::Listening,
            "ready-max-backlog",
            "Let `/readyz` answer 503 once more than N connections wait to be accepted, until at \
             most half as many wait (0 disables). Unix sockets are not counted.",
        )
        .once("N", Count(0)),
        row(
            S::ReadyMinWorkers,
            T::Listening,
            "ready-min-workers",
            "Let `/readyz` answer 503 while fewer than N workers are ready, or fewer than all if \
             the server has less than N.",
        )
        .once("N", Count(1)),
        row(S::Workers, T::Processes, "workers", "Number of worker processes at start.")
            .letter('w')
            .derived("N", "`$WEB_CONCURRENCY`, else 1 with `--reload` or `--debug`, else the CPUs, at least 2, as far as the cgroup's quota and memory allow"),
        row(
            S::Preload,
            T::Processes,
            "preload",
            "Import the application once, in a zygote process that forks the workers, so that \
             they share its memory. A reload imports the new code in a new zygote.",
        )
        .switch(),
        row(
            S::MaxRequests,
            T::Processes,
            "max-requests",
            "Recycle a worker after N requests, once its replacement is ready (0 disables).",
        )
        .once("N", Count(0)),
        row(
            S::MaxRequestsJitter,
            T::Processes,
            "max-requests-jitter",
            "Add up to N requests to `--max-requests`, at random for each worker, so that \
             workers are not recycled together.",
        )
        .derived("N", "a tenth of `--max-requests`"),
        row(
            S::MaxRss,
            T::Processes,
            "max-rss",
            "Recycle a worker whose memory exceeds this size: its resident memory, or with \
             `--preload` its private memory and its share of the rest. `auto` divides the \
             memory limit of the cgroup among the workers (0 disables).",
        )
        .once("SIZE", Size(0)),
        row(
            S::MaxLifetime,
            T::Processes,
            "max-lifetime",
            "Recycle a worker after this time plus up to a tenth, at random for each worker \
             (0 disables).",
        )
        .once("TIME", Time(Duration::ZERO)),
        row(
            S::ReloadCheck,
            T::Processes,
            "reload-check",
            "Path, such as `/health`, that each worker requests from its own application before \
             it serves. A status of 500 or above fails the start or the reload.",
        )
        .optional("PATH"),
        row(
            S::OnStart,
            T::Processes,
            "on-start",
            "Function to call once per load of the code, before the first worker starts: in a \
             process of its own, or with `--preload` in the zygote before it imports the \
             application.",
        )
        .hook(),
        row(
            S::PreFork,
            T::Processes,
            "pre-fork",
            "Function to call in the zygote before each fork; requires `--preload`.",
        )
        .hook(),
        row(
            S::PostFork,
            T::Processes,
            "post-fork",
            "Function to call first in each worker, before it imports the application.",
        )
        .hook(),
        row(
            S::WorkerReady,
            T::Processes,
            "worker-ready",
            "Function to call in each worker once it has loaded the application, before it \
             serves.",
        )
        .hook(),
        row(
            S::WorkerExit,
            T::Processes,
            "worker-exit",
            "Function to call in each worker that was asked to exit, after its last request.",
        )
        .hook(),
        row(S::User, T::Processes, "user", "User, by name or number, that workers run as.")
            .letter('u')
            .optional("USER"),
        row(S::Group, T::Processes, "group", "Group, by name or number, that workers run as.")
            .letter('g')
            .derived("GROUP", "the user's group"),
        row(
            S::AllowNewPrivileges,
            T::Processes,
            "allow-new-privileges",
            "Let workers that run as another `--user` gain privileges through programs that \
             they execute: setuid and setgid programs such as sudo and sendmail, and programs \
             with file capabilities.",
        )
        .switch(),
        row(
            S::Umask,
            T::Processes,
            "umask",
            "File mode creation mask of the workers, in octal with a leading 0.",
        )
        .letter('m')
        .optional("MASK"),
        row(S::Name, T::Processes, "name", "Name of the processes in ps(1).")
            .letter('n')
            .optional("NAME"),
        row(S::Pid, T::Processes, "pid", "File to write the supervisor's process ID to.")
            .letter('p')
            .optional("FILE"),
        row(
            S::Timeout,
            T::Times,
            "timeout",
            "Time limit for one call of the application: a request, or one item of its response. A \
             request that takes longer gets the exception `arctos.RequestTimeout`; its client \
             gets 504, and its worker is replaced (0 disables).",
        )
        .letter('t')
        .once("TIME", Time(seconds(30))),
        row(
            S::TimeoutFor,
            T::Times,
            "timeout-for",
            "Another `--timeout` for the requests at a path and below it: `/reports=5m`. The \
             longest matching path counts (0 disables). `ARCTOS_TIMEOUT_FOR` separates them by \
             commas.",
        )
        .takes("/PATH=TIME", Takes::Many(','), DefaultValue::None),
        row(
            S::TimeoutGrace,
            T::Times,
            "timeout-grace",
            "Time for a request to clean up and respond after `arctos.RequestTimeout`. A worker \
             that takes longer is killed; the log names the request and shows the worker's Python \
             stack (0 kills it without the exception).",
        )
        .once("TIME", Time(seconds(2))),
        row(
            S::Quarantine,
            T::Times,
            "quarantine",
            "Once N workers have died or hung within TIME in requests with the same method and \
             path, answer 503 with `Retry-After` to such requests for as long (off by default): \
             `3/60s`.",
        )
        .once("off|N/TIME", Word("off")),
        row(
            S::GracefulTimeout,
            T::Times,
            "graceful-timeout",
            "Time limit for a graceful stop; requests still running then are aborted.",
        )
        .once("TIME", Time(seconds(25))),
        row(
            S::DrainDelay,
            T::Times,
            "drain-delay",
            "Time to keep accepting connections after SIGTERM, while load balancers still \
             send them. `auto` is 5s in Kubernetes and 0 elsewhere.",
        )
        .once("auto|TIME", Word("auto")),
        row(
            S::BootTimeout,
            T::Times,
            "boot-timeout",
            "Time limit for a worker to import the application and become ready.",
        )
        .once("TIME", Time(seconds(60))),
        row(
            S::KeepAlive,
            T::Times,
            "keep-alive",
            "Maximum idle time of a connection between requests; then it is closed. Keep it \
             longer than that of the proxy in front. The default is 95s on Heroku and 620s on \
             Cloud Run, whose routers keep connections for longer.",
        )
        .once("TIME", Time(TIMEOUTS.keep_alive)),
        row(
            S::HeaderTimeout,
            T::Times,
            "header-timeout",
            "Time limit for receiving a request head, from its first byte to its last; then \
             408.",
        )
        .once("TIME", Time(TIMEOUTS.head)),
        row(
            S::BodyTimeout,
            T::Times,
            "body-timeout",
            "Maximum wait for the next byte of a request body; then 408. Also the window of \
             `--body-min-rate`.",
        )
        .once("TIME", Time(TIMEOUTS.body)),
        row(
            S::BodyMinRate,
            T::Times,
            "body-min-rate",
            "Minimum request-body rate in bytes per second, averaged over `--body-timeout`; \
             slower requests get 408 (0 disables).",
        )
        .once("SIZE", Size(Timeouts::BODY_MIN_RATE_BYTES)),
        row(
            S::WriteTimeout,
            T::Times,
            "write-timeout",
            "Maximum time without progress of a response; then the connection is closed.",
        )
        .once("TIME", Time(TIMEOUTS.write)),
        row(
            S::MaxQueueTime,
            T::Times,
            "max-queue-time",
            "Maximum time that a complete request waits for a worker; then it gets 503 with \
             `Retry-After`, and the application is not called (0 disables).",
        )
        .once("TIME", Time(Duration::ZERO)),
        row(
            S::SlowRequest,
            T::Times,
            "slow-request",
            "Log each request that takes longer (`request.slow`), and how much of the time it \
             waited, ran in the application and was sent (0 disables).",
        )
        .once("TIME", Time(Duration::ZERO)),
        row(
            S::LimitRequestLine,
            T::Limits,
            "limit-request-line",
            "Maximum length of the request line; longer ones get 414.",
        )
        .once("SIZE", Size(LIMITS.request_line_bytes as u64)),
        row(
            S::LimitRequestFields,
            T::Limits,
            "limit-request-fields",
            "Maximum number of header fields; requests with more get 431.",
        )
        .once("N", Count(LIMITS.header_count as u64)),
        row(
            S::LimitRequestFieldSize,
            T::Limits,
            "limit-request-field-size",
            "Maximum length of a header field; longer ones get 431.",
        )
        .once("SIZE", Size(LIMITS.header_field_bytes as u64)),
        row(
            S::LimitRequestHead,
            T::Limits,
            "limit-request-head",
            "Maximum length of the request line and the header fields together; longer heads \
             get 431.",
        )
        .once("SIZE", Size(LIMITS.head_bytes as u64)),
        row(
            S::LimitRequestBody,
            T::Limits,
            "limit-request-body",
            "Maximum length of a request body; longer ones get 413 (0 disables).",
        )
        .once("SIZE", Size(LIMITS.body_bytes)),
        row(
            S::BodyMemory,
            T::Limits,
            "body-memory",
            "Maximum length of a request body that is kept in memory; longer ones go to an \
             unlinked temporary file.",
        )
        .once("SIZE", Size(LIMITS.body_memory_bytes as u64)),
        row(
            S::BodyMemoryTotal,
            T::Limits,
            "body-memory-total",
            "Maximum length of all request bodies together that a worker keeps in memory, until the \
             application has dropped them; a body that would exceed it goes to an unlinked temporary file.",
        )
        .once("SIZE", Size(LIMITS.body_memory_total_bytes as u64)),
        row(
            S::BodyTempDir,
            T::Limits,
            "body-temp-dir",
            "Directory for the temporary files of request bodies.",
        )
        .derived("DIR", "`$TMPDIR`, else `/tmp`"),
        row(
            S::MaxRequestsPerConnection,
            T::Limits,
            "max-requests-per-connection",
            "Maximum number of requests per connection (0 disables; 1 turns keep-alive off).",
        )
        .once("N", Count(LIMITS.requests_per_connection as u64)),
    ]
};
