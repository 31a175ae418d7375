//! The rows of the table, and how they are written.

use std::time::Duration;

use arctos_worker::settings::{Limits, Settings, Timeouts};

use super::{DefaultValue, OptionSpec, Setting, Takes, Topic};
use crate::metrics::statsd;

const LIMITS: Limits = Limits::DEFAULT;
const TIMEOUTS: Timeouts = Timeouts::DEFAULT;

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// A row; its value, how often it is given and its letter are set by the methods below.
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

/// All options, in the order of the help. Names and meanings are gunicorn's where it has them.
///
/// No variable may be `ARCTOS_PORT` or begin with `ARCTOS_SERVICE_` or `ARCTOS_PORT_`: Kubernetes
/// sets these in every pod beside a Service named `arctos`.
pub const OPTIONS: &[OptionSpec] = {
    use DefaultValue::{Count, Size, Switch, Time, Word};
    use Setting as S;
    use Topic as T;
    &[
        row(
            S::Application,
            T::Application,
            "app",
            "Module, in dots, and the WSGI callable in it; without `:ATTR` its `app`, then its \
             `application`. `MODULE:create_app()` calls a factory.",
        )
        .takes("MODULE:ATTR", Takes::Positional, DefaultValue::None),
        row(
            S::Config,
            T::Application,
            "config",
            "TOML file of options, each under its long name: `workers = 4`. The command line and \
             `ARCTOS_*` win over it, a list as a whole. A reload reads it again. A relative FILE \
             starts in the folder of the start; paths in it start where those of all options do.",
        )
        .letter('c')
        .optional("FILE"),
        row(
            S::Factory,
            T::Application,
            "factory",
            "ATTR is a function without arguments that makes the application.",
        )
        .switch(),
        row(
            S::Chdir,
            T::Application,
            "chdir",
            "Folder that the application runs in and is imported from. Relative paths of all \
             options start there.",
        )
        .derived("DIR", "the current one"),
        row(
            S::PythonPath,
            T::Application,
            "pythonpath",
            "Further folders to import from, before that one; separated by commas.",
        )
        .takes("DIR", Takes::Many(','), DefaultValue::None),
        row(
            S::Env,
            T::Application,
            "env",
            "Sets an environment variable of the workers. `ARCTOS_ENV` has one in a line.",
        )
        .letter('e')
        .takes("KEY=VALUE", Takes::Many('\n'), DefaultValue::None),
        row(
            S::Bind,
            T::Listening,
            "bind",
            "Where to listen: `HOST:PORT`, `[IPv6]:PORT`, `:PORT` (all addresses), `PORT` \
             (127.0.0.1), `unix:/path`, `unix:@abstract`, `fd://N`. A name is bound at each of \
             its addresses. `ARCTOS_BIND` separates by commas.",
        )
        .letter('b')
        .takes(
            "ADDRESS",
            Takes::Many(','),
            DefaultValue::Derived("systemd's sockets; else `0.0.0.0:$PORT`; else `127.0.0.1:8000`"),
        ),
        row(
            S::ReusePort,
            T::Listening,
            "reuse-port",
            "Share the address with another server of the same user that is bound there already.",
        )
        .switch(),
        row(
            S::ListenMode,
            T::Listening,
            "listen-mode",
            "One socket for all workers, so that an idle one takes the next connection; or one \
             for each.",
        )
        .once("shared|per-slot", Word("shared")),
        row(S::Backlog, T::Listening, "backlog", "Connections that may wait to be accepted.")
            .once("N", Count(2048)),
        row(
            S::UnixSocketMode,
            T::Listening,
            "unix-socket-mode",
            "Permissions of `unix:/path`; to connect takes the right to write. The socket belongs \
             to `--user` and `--group`.",
        )
        .once("MODE", Word("0660")),
        row(
            S::MaxConnections,
            T::Listening,
            "max-connections",
            "Maximum connections per worker; above it, the worker closes the one that has been idle longest. The \
             limit of open descriptors may lower it.",
        )
        .once("N", Count(LIMITS.connections as u64)),
        row(
            S::AdminBind,
            T::Listening,
            "admin-bind",
            "Where the supervisor answers operators, in the notation of `--bind`; no \
             `unix:@abstract` and no `fd://N`. `unix:/path` is for the owner alone; TCP asks nobody \
             who they are. `ARCTOS_ADMIN_BIND` separates by commas.",
        )
        .takes("ADDRESS", Takes::Many(','), DefaultValue::None),
        row(S::Workers, T::Processes, "workers", "Worker processes at start.")
            .letter('w')
            .derived("N", "`$WEB_CONCURRENCY`; else the CPUs of the cgroup quota, at least 2"),
        row(
            S::Preload,
            T::Processes,
            "preload",
            "Import the application once, in a zygote that forks the workers, so that they share its \
             memory. A reload imports the new code in a new zygote.",
        )
        .switch(),
        row(
            S::MaxRequests,
            T::Processes,
            "max-requests",
            "Replace a worker after so many requests, when its successor is ready. 0: never.",
        )
        .once("N", Count(0)),
        row(
            S::MaxRequestsJitter,
            T::Processes,
            "max-requests-jitter",
            "Each worker gets a number of requests more, between 0 and this, so that they are not \
             replaced together.",
        )
        .derived("N", "a tenth of `--max-requests`"),
        row(
            S::MaxRss,
            T::Processes,
            "max-rss",
            "Replace a worker whose resident memory is above this. 0: never.",
        )
        .once("SIZE", Size(0)),
        row(
            S::MaxLifetime,
            T::Processes,
            "max-lifetime",
            "Replace a worker after this and up to a tenth more, another part for each. 0: never.",
        )
        .once("TIME", Time(Duration::ZERO)),
        row(
            S::ReloadCheck,
            T::Processes,
            "reload-check",
            "Before the first worker of a reload takes part, its application must answer a GET of \
             this path, such as `/health`, with a status below 500; else the old code serves on.",
        )
        .optional("PATH"),
        row(
            S::OnStart,
            T::Processes,
            "on-start",
            "Function to call once for a load of the code, before its first worker: in a process of its \
             own, or with `--preload` in the zygote, before the application is imported.",
        )
        .hook(),
        row(
            S::PreFork,
            T::Processes,
            "pre-fork",
            "Function to call in the zygote of `--preload`, which it needs, before each fork.",
        )
        .hook(),
        row(
            S::PostFork,
            T::Processes,
            "post-fork",
            "Function to call in each worker first, before it imports the application.",
        )
        .hook(),
        row(
            S::WorkerReady,
            T::Processes,
            "worker-ready",
            "Function to call in each worker that has the application, before it serves.",
        )
        .hook(),
        row(
            S::WorkerExit,
            T::Processes,
            "worker-exit",
            "Function to call in each worker that was told to leave, after its last request.",
        )
        .hook(),
        row(S::User, T::Processes, "user", "User, by name or number, that workers run as.")
            .letter('u')
            .optional("USER"),
        row(S::Group, T::Processes, "group", "Group, by name or number, that workers run as.")
            .letter('g')
            .derived("GROUP", "the user's"),
        row(
            S::AllowNewPrivileges,
            T::Processes,
            "allow-new-privileges",
            "Let workers that run as another `--user` gain privileges through the programs that they run: setuid \
             and setgid ones, such as sudo and sendmail, and those with file capabilities.",
        )
        .switch(),
        row(
            S::Umask,
            T::Processes,
            "umask",
            "File mode creation mask of the workers, octal with a leading 0.",
        )
        .letter('m')
        .optional("MASK"),
        row(S::Name, T::Processes, "name", "Name of the processes in ps(1).")
            .letter('n')
            .optional("NAME"),
        row(S::Pid, T::Processes, "pid", "File for the supervisor's process id.")
            .letter('p')
            .optional("FILE"),
        row(
            S::Timeout,
            T::Times,
            "timeout",
            "For one request. A worker in one that takes longer is killed and replaced; the request \
             and the worker's Python stack are in the log. 0: no limit.",
        )
        .letter('t')
        .once("TIME", Time(seconds(30))),
        row(
            S::GracefulTimeout,
            T::Times,
            "graceful-timeout",
            "For a graceful stop as a whole; what still runs then is abandoned.",
        )
        .once("TIME", Time(seconds(25))),
        row(
            S::DrainDelay,
            T::Times,
            "drain-delay",
            "How long to go on accepting after SIGTERM, while balancers still send. `auto`: 5s in \
             Kubernetes, else 0.",
        )
        .once("auto|TIME", Word("auto")),
        row(
            S::BootTimeout,
            T::Times,
            "boot-timeout",
            "For a worker to import the application and be ready.",
        )
        .once("TIME", Time(seconds(60))),
        row(
            S::KeepAlive,
            T::Times,
            "keep-alive",
            "An idle connection is closed after this; keep it longer than the proxy in front \
             does.",
        )
        .once("TIME", Time(TIMEOUTS.keep_alive)),
        row(
            S::HeaderTimeout,
            T::Times,
            "header-timeout",
            "From the first byte of a request's head to its last; then 408.",
        )
        .once("TIME", Time(TIMEOUTS.head)),
        row(
            S::BodyTimeout,
            T::Times,
            "body-timeout",
            "Without a byte of a request's body; then 408. Also the window of `--body-min-rate`.",
        )
        .once("TIME", Time(TIMEOUTS.body)),
        row(
            S::BodyMinRate,
            T::Times,
            "body-min-rate",
            "Least bytes a second of a request's body, over `--body-timeout`; then 408. 0: no \
             least rate.",
        )
        .once("SIZE", Size(Timeouts::BODY_MIN_RATE_BYTES)),
        row(
            S::WriteTimeout,
            T::Times,
            "write-timeout",
            "Without any progress of a response; then the connection is closed.",
        )
        .once("TIME", Time(TIMEOUTS.write)),
        row(
            S::LimitRequestLine,
            T::Limits,
            "limit-request-line",
            "Longest request line; above it 414.",
        )
        .once("SIZE", Size(LIMITS.request_line_bytes as u64)),
        row(
            S::LimitRequestFields,
            T::Limits,
            "limit-request-fields",
            "Most header fields; above it 431.",
        )
        .once("N", Count(LIMITS.header_count as u64)),
        row(
            S::LimitRequestFieldSize,
            T::Limits,
            "limit-request-field-size",
            "Longest header field; above it 431.",
        )
        .once("SIZE", Size(LIMITS.header_field_bytes as u64)),
        row(
            S::LimitRequestHead,
            T::Limits,
            "limit-request-head",
            "Longest request line and header fields together; above it 431.",
        )
        .once("SIZE", Size(LIMITS.head_bytes as u64)),
        row(
            S::LimitRequestBody,
            T::Limits,
            "limit-request-body",
            "Longest request body; above it 413. 0: no limit.",
        )
        .once("SIZE", Size(LIMITS.body_bytes)),
        row(
            S::BodyMemory,
            T::Limits,
            "body-memory",
            "A longer request body goes to an unlinked file.",
        )
        .once("SIZE", Size(LIMITS.body_memory_bytes as u64)),
        row(S::BodyTempDir, T::Limits, "body-temp-dir", "Folder of these files.")
            .derived("DIR", "`$TMPDIR`, else `/tmp`"),
        row(
            S::MaxRequestsPerConnection,
            T::Limits,
            "max-requests-per-connection",
            "Requests that one connection may send. 0: no limit; 1: no keep-alive.",
        )
        .once("N", Count(LIMITS.requests_per_connection as u64)),
        row(
            S::HeaderMap,
            T::Http,
            "header-map",
            "A header with `_` in its name, which could pose as one with `-`: leave it out, or \
             answer 400.",
        )
        .once("drop|refuse", Word(Settings::HEADER_MAP.word())),
        row(S::ServerHeader, T::Http, "server-header", "Whether responses say `Server: arctos`.")
            .once("on|off", Switch(Settings::SERVER_HEADER)),
        row(
            S::RootPath,
            T::Http,
            "root-path",
            "SCRIPT_NAME: the path that a proxy serves the application under, such as `/shop`.",
        )
        .optional("PATH"),
        row(S::LogLevel, T::Logging, "log-level", "Least level written to standard error.")
            .once("LEVEL", Word("info")),
        row(S::LogFormat, T::Logging, "log-format", "How lines are written.")
            .once("text|json", Word("text")),
        row(
            S::AccessLogfile,
            T::Logging,
            "access-logfile",
            "Write a line for each request to this file, or `-` for standard output.",
        )
        .optional("FILE"),
        row(
            S::Statsd,
            T::Metrics,
            "statsd",
            "Send metrics: to `--statsd-host` where that is given; with `auto` also to the Datadog \
             agent that `DD_DOGSTATSD_URL`, or `DD_AGENT_HOST` and `DD_DOGSTATSD_PORT`, names, and \
             tagged as `DD_*` says; with `off` nowhere.",
        )
        .once("on|off|auto", Word("on")),
        row(
            S::StatsdHost,
            T::Metrics,
            "statsd-host",
            "Where to send metrics: `HOST`, `HOST:PORT`, `[IPv6]:PORT`, over UDP, port 8125 if \
             none is given; or `unix:///path`, a datagram socket.",
        )
        .optional("ADDRESS"),
        row(
            S::StatsdPrefix,
            T::Metrics,
            "statsd-prefix",
            "What every name begins with, before a dot. `''`, or `.` in a variable: nothing.",
        )
        .once("PREFIX", Word("arctos")),
        row(S::StatsdInterval, T::Metrics, "statsd-interval", "How often metrics are sent.")
            .once("TIME", Time(statsd::INTERVAL)),
        row(
            S::StatsdFormat,
            T::Metrics,
            "statsd-format",
            "`dogstatsd` has tags and distributions; `plain` has neither, and sums over workers. \
             `auto`: `dogstatsd` where there is anything to tag or the agent is Datadog's.",
        )
        .once("dogstatsd|plain|auto", Word("auto")),
        row(
            S::StatsdWorkerTag,
            T::Metrics,
            "statsd-worker-tag",
            "Tag what is sent of one worker with its number, as `worker:0`.",
        )
        .once("on|off", Switch(true)),
        row(
            S::DogstatsdTags,
            T::Metrics,
            "dogstatsd-tags",
            "Tags of everything that is sent, separated by commas, such as \
             `app:shop,zone:central-europe`; its `zone:` is the zone.",
        )
        .optional("TAGS"),
        row(
            S::Zone,
            T::Metrics,
            "zone",
            "The tag `zone` of everything that is sent, and a label of what is looked at.",
        )
        .derived("ZONE", "that of `--dogstatsd-tags`"),
    ]
};
