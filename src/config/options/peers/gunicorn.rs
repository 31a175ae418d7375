//! The settings of gunicorn, in the order of its documentation.

use super::super::Setting as S;
use super::{PeerSetting, always, near, no, same};

/// gunicorn's option for the worker class. It is accepted with [`ONLY_WORKER_CLASS`], which changes nothing.
pub const WORKER_CLASS: &str = "worker-class";
/// The only value of [`WORKER_CLASS`] that is accepted.
pub const ONLY_WORKER_CLASS: &str = "sync";

const TLS: &str = "arctos offers TLS 1.2 and 1.3 with the secure cipher suites of rustls only";
const SYSLOG: &str = "the access log can go to syslog: --access-logfile syslog:///dev/log or syslog://HOST:PORT; all \
    else is logged to standard error, which systemd or a pipe to logger(1) passes on";
pub(super) const LOGGING: &str = "arctos writes its own log lines, controlled by --log-level and --log-format; \
    configure Python's logging in the application";
const LENIENT: &str = "arctos parses HTTP strictly, so that it and a proxy never see different requests; \
    leave the option out";
pub(super) const PASTE: &str = "serve the file with pserve and use = egg:arctos#main in [server:main], \
    or create the application in a module: MODULE:ATTR or MODULE:create_app()";
pub(super) const ASGI: &str = "arctos serves WSGI only";
pub(super) const HTTP2: &str = "arctos speaks HTTP/1.1; terminate HTTP/2 in the proxy in front";
pub(super) const THREADS: &str = "a worker runs one request at a time; raise --workers instead";
pub(super) const DAEMON: &str = "arctos stays in the foreground; run it under systemd, a container runtime or another process manager";
const UWSGI: &str = "arctos speaks HTTP/1.1; configure the proxy to use HTTP (nginx: proxy_pass)";
const DIRTY: &str = "run long jobs in a task queue beside arctos; leave the option out";
const DIRTY_HOOK: &str = "there are no dirty arbiters; run long jobs in a task queue beside arctos";
const CONTROL: &str = "give the server an admin socket with --admin-bind unix:/PATH, and use arctos ctl and arctos top";
const MIDDLEWARE: &str = "do this in a WSGI middleware around the application";
const SUPERVISOR: &str = "the supervisor runs no application code";
const EVENT_LOOP: &str = "the event loop carries out handshakes and the ends of TLS connections";

/// All settings.
pub(super) const SETTINGS: &[PeerSetting] = &[
    always("config", "-c --config", "arctos migrate has read this file"),
    near("wsgi_app", "", S::Application, "arctos looks for `app` before `application`").special(),
    // Server socket
    near(
        "bind",
        "-b --bind",
        S::Bind,
        "a port has to be given, and a port alone is bound at 127.0.0.1",
    )
    .special(),
    same("backlog", "--backlog", S::Backlog),
    // Worker processes
    near("workers", "-w --workers", S::Workers, "a worker runs one request at a time").special(),
    no(
        "worker_class",
        "-k --worker-class",
        "there is one worker class, sync: a single thread whose event loop also handles slow clients; \
         set --workers to the number that the CPUs and the waiting of the application require",
    )
    .special(),
    no("threads", "--threads", THREADS).special(),
    no(
        "worker_connections",
        "--worker-connections",
        "use --max-connections, which also counts idle connections",
    ),
    same("max_requests", "--max-requests", S::MaxRequests),
    same("max_requests_jitter", "--max-requests-jitter", S::MaxRequestsJitter),
    near(
        "timeout",
        "-t --timeout",
        S::Timeout,
        "it limits one request, which gets an exception and a 504 before its worker is replaced",
    )
    .special(),
    near(
        "graceful_timeout",
        "--graceful-timeout",
        S::GracefulTimeout,
        "it includes --drain-delay",
    ),
    near(
        "keepalive",
        "--keep-alive",
        S::KeepAlive,
        "gunicorn's sync worker keeps no connection; arctos keeps them without occupying a worker",
    )
    .special(),
    // Security
    near(
        "limit_request_line",
        "--limit-request-line",
        S::LimitRequestLine,
        "the maximum is 1M; 0 is not accepted",
    )
    .special(),
    same("limit_request_fields", "--limit-request-fields", S::LimitRequestFields),
    near(
        "limit_request_field_size",
        "--limit-request-field_size",
        S::LimitRequestFieldSize,
        "the maximum is 1M; 0 is not accepted",
    )
    .special(),
    // Debugging
    near("reload", "--reload", S::Reload, "for development: there is one worker unless --workers is given").switch(),
    same("reload_engine", "--reload-engine", S::ReloadEngine),
    near(
        "reload_extra_files reload_extra_file",
        "--reload-extra-file",
        S::ReloadExtra,
        "it also accepts directories",
    ),
    no("spew", "--spew", "trace the application with a debugger or sys.settrace instead").switch(),
    always("check_config", "--check-config", "`arctos --check` does this").switch(),
    always("print_config", "--print-config", "`arctos --print-config` does this").switch(),
    // Server mechanics
    near(
        "preload_app",
        "--preload",
        S::Preload,
        "a zygote imports the application, not the supervisor, and a reload imports it again",
    )
    .switch(),
    always("sendfile", "--no-sendfile --sendfile", "wsgi.file_wrapper always uses sendfile(2)")
        .switch(),
    same("reuse_port", "--reuse-port", S::ReusePort).switch(),
    same("chdir", "--chdir", S::Chdir),
    no("daemon", "-D --daemon", DAEMON).switch(),
    same("raw_env", "-e --env", S::Env),
    same("pidfile", "-p --pid", S::Pid),
    always(
        "worker_tmp_dir",
        "--worker-tmp-dir",
        "workers report through shared memory, not files (for large request bodies, there is --body-temp-dir)",
    ),
    same("user", "-u --user", S::User).special(),
    same("group", "-g --group", S::Group).special(),
    same("umask", "-m --umask", S::Umask).special(),
    no("initgroups", "--initgroups", "name the one group that workers need with --group").switch(),
    near(
        "tmp_upload_dir",
        "",
        S::BodyTempDir,
        "only request bodies above --body-memory are written there",
    ),
    no(
        "secure_scheme_headers",
        "--secure-scheme-headers",
        "let the proxy send X-Forwarded-Proto or Forwarded; --forwarded-allow-ips says which proxies are believed",
    )
    .special(),
    near(
        "forwarded_allow_ips",
        "--forwarded-allow-ips",
        S::ForwardedAllowIps,
        "nobody is trusted by default, not even 127.0.0.1, ::1 and the peers of unix sockets, and the \
         headers also set REMOTE_ADDR, HTTP_HOST, SERVER_PORT and SCRIPT_NAME",
    )
    .special(),
    // Logging
    near(
        "accesslog",
        "--access-logfile",
        S::AccessLogfile,
        "its default format has no query strings; --access-logformat combined is gunicorn's",
    ),
    no(
        "disable_redirect_access_to_syslog",
        "--disable-redirect-access-to-syslog",
        SYSLOG,
    )
    .switch(),
    near(
        "access_log_format",
        "--access-logformat",
        S::AccessLogformat,
        "an unknown atom is an error, times are in UTC, and control characters and backslashes are escaped",
    ),
    no(
        "errorlog",
        "--error-logfile --log-file --errorlog",
        "arctos logs to standard error; redirect it: 2>>FILE",
    )
    .special(),
    same("loglevel", "--log-level", S::LogLevel).special(),
    always(
        "capture_output",
        "--capture-output",
        "workers already write to the standard output and error of arctos",
    )
    .switch(),
    no("logger_class", "--logger-class", LOGGING),
    no("logconfig", "--log-config", LOGGING),
    no("logconfig_dict", "--log-config-dict", LOGGING),
    no("logconfig_json", "--log-config-json", LOGGING),
    no("syslog_addr", "--log-syslog-to", SYSLOG),
    no("syslog", "--log-syslog", SYSLOG).switch(),
    no("syslog_prefix", "--log-syslog-prefix", SYSLOG),
    no("syslog_facility", "--log-syslog-facility", SYSLOG),
    always(
        "enable_stdio_inheritance",
        "-R --enable-stdio-inheritance",
        "workers already write to the standard output and error of arctos",
    )
    .switch(),
    near("statsd_host", "--statsd-host", S::StatsdHost, "the metrics have other names"),
    same("dogstatsd_tags", "--dogstatsd-tags", S::DogstatsdTags),
    near(
        "statsd_prefix",
        "--statsd-prefix",
        S::StatsdPrefix,
        "the default is `arctos`, and gunicorn's is empty",
    ),
    always(
        "enable_backlog_metric",
        "--enable-backlog-metric",
        "backlog.len and backlog.max are always measured",
    )
    .switch(),
    // Process naming
    same("proc_name", "-n --name", S::Name),
    always("default_proc_name", "", "gunicorn sets it itself; --name names the processes"),
    // Server mechanics
    same("pythonpath", "--pythonpath", S::PythonPath),
    no(
        "paste",
        "--paste --paster",
        PASTE,
    ),
    // Server hooks
    near("on_starting", "", S::OnStart, "it runs at each load of the code, and gets an `arctos.Generation`")
        .special(),
    no("on_reload", "", "--on-start runs at each reload, too").special(),
    no(
        "when_ready",
        "",
        "arctos tells systemd and logs `server.ready`; --worker-ready runs in each worker",
    )
    .special(),
    near("pre_fork", "", S::PreFork, "it requires --preload, and gets an `arctos.Worker`").special(),
    near("post_fork", "", S::PostFork, "it gets an `arctos.Worker`").special(),
    near("post_worker_init", "", S::WorkerReady, "it gets an `arctos.Worker`").special(),
    no(
        "worker_int",
        "",
        "--worker-exit runs in each worker that was asked to exit",
    )
    .special(),
    no(
        "worker_abort",
        "",
        "a request that exceeds --timeout gets the exception arctos.RequestTimeout, and the log has its stack",
    )
    .special(),
    no("pre_exec", "", SUPERVISOR).special(),
    no("pre_request", "", MIDDLEWARE).special(),
    no("post_request", "", MIDDLEWARE).special(),
    no(
        "child_exit",
        "",
        "the supervisor runs no application code, and its metrics need no mark_process_dead(); \
         --worker-exit runs in each worker that was asked to exit",
    )
    .special(),
    near("worker_exit", "", S::WorkerExit, "it gets an `arctos.Worker`").special(),
    no("nworkers_changed", "", "the supervisor runs no application code; the log has each change").special(),
    no("on_exit", "", "the supervisor runs no application code; use ExecStopPost= of systemd").special(),
    no("ssl_context", "", TLS).special(),
    // Server mechanics
    near(
        "proxy_protocol",
        "--proxy-protocol",
        S::ProxyProtocol,
        "every connection has to begin with the header",
    )
    .optional()
    .special(),
    near(
        "proxy_allow_ips",
        "--proxy-allow-from",
        S::ProxyAllowFrom,
        "no proxy is allowed by default, and other peers are closed",
    )
    .special(),
    no("protocol", "--protocol", UWSGI).special(),
    no("uwsgi_allow_ips", "--uwsgi-allow-from", UWSGI),
    // SSL
    near("keyfile", "--keyfile", S::Keyfile, "it is repeatable: one for each certificate"),
    near(
        "certfile",
        "--certfile",
        S::Certfile,
        "it is repeatable (SNI), and unix sockets stay plain",
    ),
    always("ssl_version", "--ssl-version", TLS),
    same("cert_reqs", "--cert-reqs", S::CertReqs).special(),
    same("ca_certs", "--ca-certs", S::CaCerts),
    always("suppress_ragged_eofs", "--suppress-ragged-eofs", EVENT_LOOP).switch(),
    always("do_handshake_on_connect", "--do-handshake-on-connect", EVENT_LOOP).switch(),
    always("ciphers", "--ciphers", TLS),
    // HTTP/2
    no("http_protocols", "--http-protocols", HTTP2).special(),
    no("http2_cleartext", "--http2-cleartext", HTTP2),
    no("http2_max_concurrent_streams", "--http2-max-concurrent-streams", HTTP2),
    no("http2_initial_window_size", "--http2-initial-window-size", HTTP2),
    no("http2_max_frame_size", "--http2-max-frame-size", HTTP2),
    no("http2_max_header_list_size", "--http2-max-header-list-size", HTTP2),
    // Server mechanics
    no(
        "raw_paste_global_conf",
        "--paste-global",
        PASTE,
    ),
    no("permit_obsolete_folding", "--permit-obsolete-folding", LENIENT).switch(),
    no("strip_header_spaces", "--strip-header-spaces", LENIENT).switch(),
    no("permit_unconventional_http_method", "--permit-unconventional-http-method", LENIENT)
        .switch(),
    no("permit_unconventional_http_version", "--permit-unconventional-http-version", LENIENT)
        .switch(),
    no("casefold_http_method", "--casefold-http-method", LENIENT).switch(),
    no(
        "forwarder_headers",
        "--forwarder-headers",
        "let the proxy send X-Forwarded-Prefix for SCRIPT_NAME; --forwarded-headers says which headers are believed",
    ),
    near("header_map", "--header-map", S::HeaderMap, "`dangerous` is not accepted").special(),
    // Worker processes
    no("asgi_loop", "--asgi-loop", ASGI),
    no("asgi_lifespan", "--asgi-lifespan", ASGI),
    no("asgi_disconnect_grace_period", "--asgi-disconnect-grace-period", ASGI),
    no("websocket_max_message_size", "--websocket-max-message-size", ASGI),
    always("http_parser", "--http-parser", "there is one parser"),
    same("root_path", "--root-path", S::RootPath),
    // Dirty arbiters
    no("dirty_apps", "--dirty-app", DIRTY),
    no("dirty_workers", "--dirty-workers", DIRTY),
    no("dirty_timeout", "--dirty-timeout", DIRTY),
    no("dirty_threads", "--dirty-threads", DIRTY),
    no("dirty_graceful_timeout", "--dirty-graceful-timeout", DIRTY),
    no("on_dirty_starting", "", DIRTY_HOOK).special(),
    no("dirty_post_fork", "", DIRTY_HOOK).special(),
    no("dirty_worker_init", "", DIRTY_HOOK).special(),
    no("dirty_worker_exit", "", DIRTY_HOOK).special(),
    // Control
    no("control_socket", "--control-socket", CONTROL),
    no("control_socket_mode", "--control-socket-mode", CONTROL),
    no("control_socket_disable", "--no-control-socket", CONTROL).switch(),
];
