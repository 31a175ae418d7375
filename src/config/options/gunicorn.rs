//! Advice for options that gunicorn 27 has and arctos does not, and for the metrics options of uWSGI and Granian.
//!
//! A start script that was written for another server fails with advice and not with a spelling suggestion.

/// gunicorn's option for the worker class. It is accepted with [`ONLY_WORKER_CLASS`], which changes nothing.
pub const WORKER_CLASS: &str = "worker-class";
/// The only value of [`WORKER_CLASS`] that is accepted.
pub const ONLY_WORKER_CLASS: &str = "sync";

/// Returns what to do instead of an option of another server. `option` is as written, with its dashes.
pub fn hint(option: &str) -> Option<&'static str> {
    let (name, _value) = option.split_once('=').unwrap_or((option, ""));
    let row = HINTS.iter().find(|(names, _)| names.contains(&name))?;
    Some(row.1)
}

/// Returns the option for a setting of gunicorn's configuration file whose name differs from that of its option.
pub fn renamed(setting: &str) -> Option<&'static str> {
    let row = RENAMED.iter().find(|(gunicorns, _)| *gunicorns == setting)?;
    Some(row.1)
}

const RENAMED: [(&str, &str); 12] = [
    ("accesslog", "access-logfile"),
    ("keepalive", "keep-alive"),
    ("loglevel", "log-level"),
    ("on-starting", "on-start"),
    ("pidfile", "pid"),
    ("post-worker-init", "worker-ready"),
    ("preload-app", "preload"),
    ("proc-name", "name"),
    ("raw-env", "env"),
    ("reload-extra-file", "reload-extra"),
    ("reload-extra-files", "reload-extra"),
    ("wsgi-app", "app"),
];

const TLS: &str = "arctos offers TLS 1.2 and 1.3 with the secure cipher suites of rustls only; leave the option out";
const BACKLOG: &str = "backlog.len and backlog.max are always measured; leave the option out";
const METRICS: &str = "the supervisor serves metrics at /metrics of --admin-bind ADDRESS";
const PUSH: &str = "metrics are sent to --statsd-host HOST:PORT, with the prefix of --statsd-prefix, \
    at the interval of --statsd-interval";
const SYSLOG: &str =
    "arctos logs to standard error; let systemd or a pipe to logger(1) pass it to syslog";
const LOGGING: &str = "arctos writes its own log lines, controlled by --log-level and --log-format; \
    configure Python's logging in the application";
const LENIENT: &str = "arctos parses HTTP strictly, so that it and a proxy never see different requests; \
    leave the option out";
const ASGI: &str = "arctos serves WSGI only";
const HTTP2: &str = "arctos speaks HTTP/1.1; terminate HTTP/2 in the proxy in front";
const PASTE: &str = "serve the file with pserve and use = egg:arctos#main in [server:main], \
    or create the application in a module: MODULE:ATTR or MODULE:create_app()";

const HINTS: &[(&[&str], &str)] = &[
    (
        &["-k", "--worker-class"],
        "there is one worker class, sync: a single thread whose event loop also handles slow clients; \
         set --workers to the number that the CPUs and the waiting of the application require",
    ),
    (&["--threads"], "a worker runs one request at a time; raise --workers instead"),
    (&["--worker-connections"], "use --max-connections, which also counts idle connections"),
    (&["--spew"], "trace the application with a debugger or sys.settrace instead"),
    (
        &["-D", "--daemon"],
        "arctos stays in the foreground; run it under systemd, a container runtime or another process manager",
    ),
    (
        &["--worker-tmp-dir"],
        "workers report through shared memory, not files; leave the option out \
         (for large request bodies, there is --body-temp-dir)",
    ),
    (&["--initgroups"], "name the one group that workers need with --group"),
    (
        &["--no-sendfile", "--sendfile"],
        "wsgi.file_wrapper always uses sendfile(2); leave the option out",
    ),
    (
        &["--error-logfile", "--log-file", "--errorlog"],
        "arctos logs to standard error; redirect it: 2>>FILE",
    ),
    (
        &["--capture-output", "-R", "--enable-stdio-inheritance"],
        "workers already write to the standard output and error of arctos; leave the option out",
    ),
    (
        &["--access-logformat"],
        "the access log has one format, text or json, which --log-format sets",
    ),
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
        "metrics are sent in the statsd format; set --statsd-host to a daemon that passes them to carbon",
    ),
    (&["--paste", "--paster", "--paste-global"], PASTE),
    (
        &["--secure-scheme-headers"],
        "let the proxy send X-Forwarded-Proto or Forwarded; --forwarded-allow-ips says which proxies are believed",
    ),
    (
        &["--forwarder-headers"],
        "let the proxy send X-Forwarded-Prefix for SCRIPT_NAME; --forwarded-headers says which headers are believed",
    ),
    (&["--ciphers", "--ssl-version"], TLS),
    (
        &["--suppress-ragged-eofs", "--do-handshake-on-connect"],
        "the event loop carries handshakes and the ends of TLS connections out; leave the option out",
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
        "arctos speaks HTTP/1.1; configure the proxy to use HTTP (nginx: proxy_pass)",
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
        "give the server an admin socket with --admin-bind unix:/PATH, and use arctos ctl and arctos top",
    ),
];
