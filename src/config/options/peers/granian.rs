//! The settings of Granian. The name of each is that of its option.

use super::super::Setting as S;
use super::gunicorn::{ASGI, HTTP2, LOGGING};
use super::{PeerSetting, Unit, always, near, no, same};

const EVENT_LOOP: &str = "the event loop of a worker has one thread and needs no tuning";
const IGNORED: &str = "only Python files of the application and the paths of --reload-extra are watched, and no file \
    in __pycache__, .git or node_modules";
const BUFFERS: &str =
    "buffers grow with need; --limit-request-head and --body-memory are their limits";
const METRICS: &str = "the supervisor serves metrics at /metrics of --admin-bind ADDRESS";
const RSS: &str =
    "the supervisor samples the memory of workers every 2 s, and two samples in a row count";
const RESPAWN: &str = "a worker that ends unexpectedly is always replaced, with a growing delay if its replacements fail to boot";

/// All settings.
pub(super) const SETTINGS: &[PeerSetting] = &[
    near("app", "", S::Application, "a module, not the path of a file, is named").special(),
    same("host", "--host", S::Bind).special(),
    same("port", "--port", S::Bind).special(),
    same("uds", "--uds", S::Bind).special(),
    same("uds-permissions", "--uds-permissions", S::UnixSocketMode).special(),
    no("interface", "--interface", "arctos serves WSGI only; to serve an ASGI application, wrap it in `a2wsgi.ASGIMiddleware(app)`")
        .special(),
    no("http", "--http", HTTP2).special(),
    no("ws", "--ws --no-ws", ASGI).switch(),
    near("workers", "--workers", S::Workers, "a worker runs one request at a time").special(),
    no("blocking-threads", "--blocking-threads", "a worker runs one request at a time; raise --workers instead")
        .special(),
    always("blocking-threads-idle-timeout", "--blocking-threads-idle-timeout", "a worker has one thread"),
    always("runtime-threads", "--runtime-threads", EVENT_LOOP),
    always("runtime-blocking-threads", "--runtime-blocking-threads", EVENT_LOOP),
    always("runtime-mode", "--runtime-mode", EVENT_LOOP),
    always("loop", "--loop", EVENT_LOOP),
    always("task-impl", "--task-impl", EVENT_LOOP),
    same("backlog", "--backlog", S::Backlog),
    no(
        "backpressure",
        "--backpressure",
        "a worker runs one request at a time, and others wait for an idle worker; --max-queue-time limits the wait",
    ),
    always("http1-buffer-size", "--http1-buffer-size", BUFFERS),
    same("http1-header-read-timeout", "--http1-header-read-timeout", S::HeaderTimeout)
        .in_unit(Unit::Milliseconds),
    near(
        "http1-keep-alive",
        "--http1-keep-alive --no-http1-keep-alive",
        S::MaxRequestsPerConnection,
        "keep-alive is on, and 1 turns it off",
    )
    .switch()
    .special(),
    always(
        "http1-pipeline-flush",
        "--http1-pipeline-flush --no-http1-pipeline-flush",
        "pipelined requests are answered in their order",
    )
    .switch(),
    no("http2-adaptive-window", "--http2-adaptive-window --no-http2-adaptive-window", HTTP2).switch(),
    no("http2-initial-connection-window-size", "--http2-initial-connection-window-size", HTTP2),
    no("http2-initial-stream-window-size", "--http2-initial-stream-window-size", HTTP2),
    no("http2-keep-alive-interval", "--http2-keep-alive-interval", HTTP2),
    no("http2-keep-alive-timeout", "--http2-keep-alive-timeout", HTTP2),
    no("http2-max-concurrent-streams", "--http2-max-concurrent-streams", HTTP2),
    no("http2-max-frame-size", "--http2-max-frame-size", HTTP2),
    no("http2-max-headers-size", "--http2-max-headers-size", HTTP2),
    no("http2-max-send-buffer-size", "--http2-max-send-buffer-size", HTTP2),
    near("log", "--log --no-log", S::LogLevel, "`critical` is the quietest level").switch().special(),
    same("log-level", "--log-level", S::LogLevel).special(),
    no("log-config", "--log-config", LOGGING),
    near(
        "access-log",
        "--access-log --no-access-log",
        S::AccessLogfile,
        "its lines have no query strings; --access-logformat sets another format",
    )
    .switch()
    .special(),
    no("access-log-fmt", "--access-log-fmt", "--access-logformat has gunicorn's atoms: %(addr)s is %(h)s, %(dt_ms).3f is %(arctos.duration_ms)s"),
    near("ssl-certificate", "--ssl-certificate", S::Certfile, "unix sockets stay plain"),
    same("ssl-keyfile", "--ssl-keyfile", S::Keyfile),
    no("ssl-keyfile-password", "--ssl-keyfile-password", "the key has to be unencrypted; decrypt it with openssl pkey, and protect the file"),
    always("ssl-protocol-min", "--ssl-protocol-min", "arctos offers TLS 1.2 and 1.3 with the secure cipher suites of rustls only"),
    same("ssl-ca", "--ssl-ca", S::CaCerts),
    no("ssl-crl", "--ssl-crl", "arctos reads no revocation lists; issue short-lived client certificates, or check them in a proxy"),
    same("ssl-client-verify", "--ssl-client-verify --no-ssl-client-verify", S::CertReqs)
        .switch()
        .special(),
    near("url-path-prefix", "--url-path-prefix", S::RootPath, "requests whose path is without the prefix reach the application, too")
        .special(),
    always("respawn-failed-workers", "--respawn-failed-workers --no-respawn-failed-workers", RESPAWN).switch(),
    always("respawn-interval", "--respawn-interval", RESPAWN),
    always("rss-sample-interval", "--rss-sample-interval", RSS),
    always("rss-samples", "--rss-samples", RSS),
    near(
        "workers-lifetime",
        "--workers-lifetime",
        S::MaxLifetime,
        "up to a tenth is added at random",
    )
    .special(),
    same("workers-max-rss", "--workers-max-rss", S::MaxRss)
    .in_unit(Unit::Mebibytes),
    near(
        "workers-kill-timeout",
        "--workers-kill-timeout",
        S::GracefulTimeout,
        "it limits the whole stop and includes --drain-delay",
    )
    .special(),
    same("factory", "--factory --no-factory", S::Factory).switch(),
    same("working-dir", "--working-dir", S::Chdir),
    no("env-files", "--env-files", "let systemd (EnvironmentFile=) or the container runtime read the file, or use --env"),
    same("static-path-route", "--static-path-route", S::Static).special(),
    near(
        "static-path-mount",
        "--static-path-mount",
        S::Static,
        "the route and the directory are one value: /PATH=DIR",
    )
    .special(),
    no("static-path-dir-to-file", "--static-path-dir-to-file", "--static serves no index files; let the application or the proxy do so"),
    no("static-path-expires", "--static-path-expires", "--static sends ETag and Last-Modified, and no Cache-Control; set it in the proxy"),
    near("metrics", "--metrics --no-metrics", S::AdminBind, "the admin socket also serves arctos ctl and the probes")
        .switch()
        .special(),
    always("metrics-scrape-interval", "--metrics-scrape-interval", "metrics are always current"),
    no("metrics-address", "--metrics-address", METRICS).special(),
    no("metrics-port", "--metrics-port", METRICS).special(),
    near(
        "reload",
        "--reload --no-reload",
        S::Reload,
        "for development: there is one worker unless --workers is given",
    )
    .switch(),
    near(
        "reload-paths",
        "--reload-paths",
        S::ReloadExtra,
        "the Python files of the application are watched without it",
    ),
    no("reload-ignore-dirs", "--reload-ignore-dirs", IGNORED),
    no("reload-ignore-patterns", "--reload-ignore-patterns", IGNORED),
    no("reload-ignore-paths", "--reload-ignore-paths", IGNORED),
    always("reload-tick", "--reload-tick", "the kernel tells arctos at once that a file has changed"),
    always(
        "reload-ignore-worker-failure",
        "--reload-ignore-worker-failure --no-reload-ignore-worker-failure",
        "broken code is shown in the log, and the old code keeps serving",
    )
    .switch(),
    same("process-name", "--process-name", S::Name),
    same("pid-file", "--pid-file", S::Pid),
];
