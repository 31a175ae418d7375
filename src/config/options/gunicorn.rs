//! Options that gunicorn 27 has and arctos does not, and those of uWSGI and Granian for metrics: what
//! to do instead, a line each.
//!
//! A start script that is moved over should fail with advice, not with a spelling suggestion.

/// gunicorn's option for the kind of worker. With [`ONLY_WORKER_CLASS`] it says what is so anyway, and is
/// accepted.
pub const WORKER_CLASS: &str = "worker-class";
/// See [`WORKER_CLASS`].
pub const ONLY_WORKER_CLASS: &str = "sync";

/// What to do instead of an option of another server; `option` is as written, with its dashes.
pub fn hint(option: &str) -> Option<&'static str> {
    let (name, _value) = option.split_once('=').unwrap_or((option, ""));
    let row = HINTS.iter().find(|(names, _)| names.contains(&name))?;
    Some(row.1)
}

/// What a setting of gunicorn's configuration file is called here, where its option is called otherwise
/// there, too.
pub fn renamed(setting: &str) -> Option<&'static str> {
    let row = RENAMED.iter().find(|(theirs, _)| *theirs == setting)?;
    Some(row.1)
}

const RENAMED: [(&str, &str); 10] = [
    ("accesslog", "access-logfile"),
    ("keepalive", "keep-alive"),
    ("loglevel", "log-level"),
    ("on-starting", "on-start"),
    ("pidfile", "pid"),
    ("post-worker-init", "worker-ready"),
    ("preload-app", "preload"),
    ("proc-name", "name"),
    ("raw-env", "env"),
    ("wsgi-app", "app"),
];

const TLS: &str = "arctos speaks plain HTTP; let the proxy or balancer in front speak TLS";
const BACKLOG: &str = "backlog.len and backlog.max are always counted; leave the option out";
const METRICS: &str = "the supervisor shows metrics at /metrics of --admin-bind ADDRESS";
const PUSH: &str = "metrics are sent to --statsd-host HOST:PORT, named after --statsd-prefix, \
    as often as --statsd-interval says";
const SYSLOG: &str = "arctos logs to standard error; systemd, or a pipe to logger(1), takes it on";
const LOGGING: &str = "arctos writes its own log lines; see --log-level and --log-format, \
    and configure Python's logging in the application";
const LENIENT: &str = "arctos is strict about HTTP, so that no two readers see different requests; \
    leave the option out";
const PROXY: &str = "this version trusts no proxy's headers or PROXY lines; leave the option out, \
    and read X-Forwarded-For in the application";
const ASGI: &str = "arctos serves WSGI only";
const HTTP2: &str = "arctos speaks HTTP/1.1; let the proxy in front speak HTTP/2";
const RELOAD: &str = "arctos watches no files; send its process HUP to load new code";
const PASTE: &str = "make the application in a module: MODULE:ATTR or MODULE:create_app()";

const HINTS: &[(&[&str], &str)] = &[
    (
        &["-k", "--worker-class"],
        "there is one kind of worker, sync: a single thread that also waits for slow clients; \
         set --workers to what the CPUs and the application's waiting need",
    ),
    (&["--threads"], "a worker runs one request at a time; raise --workers instead"),
    (&["--worker-connections"], "use --max-connections, which counts idle ones too"),
    (&["--reload", "--reload-engine", "--reload-extra-file"], RELOAD),
    (&["--spew"], "trace the application with a debugger or sys.settrace instead"),
    (
        &["-D", "--daemon"],
        "arctos stays in the foreground; let systemd, a container or another supervisor keep it",
    ),
    (
        &["--worker-tmp-dir"],
        "workers report through shared memory, not files; leave the option out \
         (large bodies: --body-temp-dir)",
    ),
    (&["--initgroups"], "give the one group that is needed with --group"),
    (&["--no-sendfile", "--sendfile"], "wsgi.file_wrapper uses sendfile(2); leave the option out"),
    (
        &["--error-logfile", "--log-file", "--errorlog"],
        "arctos logs to standard error; redirect it: 2>>FILE",
    ),
    (
        &["--capture-output", "-R", "--enable-stdio-inheritance"],
        "workers write to the standard output and error of arctos already; leave the option out",
    ),
    (&["--access-logformat"], "the access log has one form, as --log-format says: text or json"),
    (&["--logger-class", "--log-config", "--log-config-json", "--log-config-dict"], LOGGING),
    (
        &[
            "--log-syslog",
            "--log-syslog-to",
            "--log-syslog-prefix",
            "--log-syslog-facility",
            "--disable-redirect-access-to-syslog",
        ],
        SYSLOG,
    ),
    (&["--enable-backlog-metric"], BACKLOG),
    (
        &[
            "--stats",
            "--stats-server",
            "--stats-http",
            "--stats-minified",
            "--metrics",
            "--no-metrics",
            "--metrics-address",
            "--metrics-port",
            "--metrics-scrape-interval",
        ],
        METRICS,
    ),
    (&["--stats-push", "--stats-pusher-default-freq", "--stats-pushers-default-freq"], PUSH),
    (
        &["--carbon"],
        "metrics are sent as statsd; give a daemon that hands them on to carbon with --statsd-host",
    ),
    (&["--paste", "--paster", "--paste-global"], PASTE),
    (
        &[
            "--proxy-protocol",
            "--proxy-allow-from",
            "--forwarded-allow-ips",
            "--forwarder-headers",
            "--secure-scheme-headers",
        ],
        PROXY,
    ),
    (
        &[
            "--certfile",
            "--keyfile",
            "--ca-certs",
            "--ciphers",
            "--cert-reqs",
            "--ssl-version",
            "--suppress-ragged-eofs",
            "--do-handshake-on-connect",
        ],
        TLS,
    ),
    (
        &[
            "--permit-obsolete-folding",
            "--strip-header-spaces",
            "--permit-unconventional-http-method",
            "--permit-unconventional-http-version",
            "--casefold-http-method",
        ],
        LENIENT,
    ),
    (
        &["--protocol", "--uwsgi-allow-from"],
        "arctos speaks HTTP/1.1 to its clients; let the proxy use HTTP (nginx: proxy_pass)",
    ),
    (&["--http-parser"], "there is one parser; leave the option out"),
    (
        &[
            "--http-protocols",
            "--http2-cleartext",
            "--http2-max-concurrent-streams",
            "--http2-initial-window-size",
            "--http2-max-frame-size",
            "--http2-max-header-list-size",
        ],
        HTTP2,
    ),
    (
        &[
            "--asgi-loop",
            "--asgi-lifespan",
            "--asgi-disconnect-grace-period",
            "--websocket-max-message-size",
        ],
        ASGI,
    ),
    (
        &[
            "--dirty-app",
            "--dirty-workers",
            "--dirty-timeout",
            "--dirty-threads",
            "--dirty-graceful-timeout",
        ],
        "run long jobs in a task queue beside arctos; leave the option out",
    ),
    (
        &["--control-socket", "--control-socket-mode", "--no-control-socket"],
        "a server is looked at and controlled through --admin-bind unix:/PATH, with arctos ctl and \
         arctos top",
    ),
];
