//! More settings of uWSGI: logs, metrics, static files, hooks, and everything that is no part of serving an application.

use super::super::Setting as S;
use super::{PeerSetting, always, near, no};

const LOG_FILE: &str =
    "arctos logs to standard error; redirect it: 2>>FILE, or let systemd keep it";
const LOG_FORM: &str = "--access-logformat has gunicorn's atoms: %(addr) is %(h)s, %(msecs) is %(M)s, %(var.NAME) is \
    %({NAME}e)s; other log lines are text or JSON, as --log-format says";
const ROTATE: &str =
    "arctos writes no log file; let systemd-journald, or logrotate with copytruncate, limit it";
const SELECT: &str = "--access-log-sample and --access-log-exclude choose the lines of the access log; with \
    --access-log-sample, a response with status 500 or above always has one";
const STATIC: &str = "--static has no such setting: there are no index files and no Cache-Control, and compressed files \
    beside a file are always used";
const STATS: &str = "the supervisor serves metrics at /metrics of --admin-bind ADDRESS";
const PUSH: &str = "metrics are sent to --statsd-host HOST:PORT, with the prefix of --statsd-prefix, \
    at the interval of --statsd-interval";
const QUEUE: &str = "run jobs in a task queue beside arctos, such as Celery, RQ or Huey";
const CRON: &str = "use a timer of systemd, cron, or Celery beat";
const DAEMONS: &str = "give each program a unit of systemd or a container of its own";
const CONFIGURATION: &str = "arctos migrate has read this file";

/// All rows of this file.
pub(super) const SETTINGS: &[PeerSetting] = &[
    // Logs
    near(
        "disable-logging",
        "",
        S::AccessLogfile,
        "requests are not logged unless --access-logfile is given",
    )
    .special(),
    no("logto logto2 logger log-socket", "", LOG_FILE),
    near(
        "req-logger logger-req",
        "",
        S::AccessLogfile,
        "its lines have no query strings; --access-logformat sets another format",
    )
    .special(),
    no(
        "log-syslog rsyslog-packet-size",
        "",
        "the access log can go to syslog: --access-logfile syslog:///dev/log or syslog://HOST:PORT; all else is logged \
         to standard error, which systemd or a pipe to logger(1) passes on",
    ),
    no(
        "log-format logformat log-format-strftime logformat-strftime log-date logdate log-prefix log-encoder log-req-encoder log-micros",
        "",
        LOG_FORM,
    ),
    no(
        "log-maxsize log-backupname log-reopen log-truncate touch-logrotate touch-logreopen logfile-chown logfile-chmod",
        "",
        ROTATE,
    ),
    no("log-4xx log-5xx log-slow log-big log-zero log-sendfile log-ioerror", "", SELECT),
    always(
        "log-master threaded-logger log-x-forwarded-for",
        "",
        "log lines are written whole, and a trusted proxy's X-Forwarded-For is the client",
    ),
    always(
        "ignore-sigpipe ignore-write-errors disable-write-exception write-errors-tolerance write-errors-exception-only",
        "",
        "a client that leaves is not an error, and is not logged",
    ),
    always("memory-report", "", "arctos top and /metrics show the memory of each worker"),
    no(
        "catch-exceptions",
        "",
        "an exception is logged with its traceback, and is never sent to the client",
    ),
    no(
        "reload-on-exception reload-on-exception-type reload-on-exception-value",
        "",
        "a worker continues after an exception; --quarantine stops requests that kill workers",
    ),
    // Metrics and administration
    near(
        "stats stats-server",
        "",
        S::AdminBind,
        "HTTP with /status and /metrics; arctos top takes the place of uwsgitop",
    )
    .special(),
    no(
        "stats-http stats-minified stats-min stats-no-cores stats-no-metrics enable-metrics",
        "",
        STATS,
    ),
    no("stats-push stats-pusher-default-freq stats-pushers-default-freq", "", PUSH),
    no(
        "carbon",
        "",
        "metrics are sent in the statsd format; set --statsd-host to a daemon that passes them to carbon",
    ),
    no("master-fifo", "", "use arctos ctl with --admin-bind, or signals"),
    no(
        "touch-signal touch-exec touch-mules-reload touch-spoolers-reload",
        "",
        "arctos watches files only for --reload",
    ),
    // Static files
    near(
        "static-map static-map2",
        "",
        S::Static,
        "what does not exist below the path gets 404, and the application is not asked",
    )
    .special(),
    no(
        "check-static static-check check-static-docroot",
        "",
        "--static /PATH=DIR has a path of its own; the application is not asked below it",
    ),
    no(
        "static-index static-skip-ext static-safe static-cache-paths static-cache-paths-name static-expires static-expires-mtime static-expires-uri static-expires-uri-mtime static-expires-type static-expires-type-mtime static-expires-path-info static-expires-path-info-mtime static-gzip static-gzip-all static-gzip-dir static-gzip-prefix static-gzip-ext static-gzip-suffix mimefile mime-file honour-range",
        "",
        STATIC,
    ),
    always(
        "offload-threads offload-thread file-serve-mode fileserve-mode disable-sendfile wsgi-disable-file-wrapper",
        "",
        "files are sent with sendfile(2), and slow clients occupy no worker",
    ),
    no(
        "error-page-403 error-page-404 error-page-500",
        "",
        "let the proxy or the application answer errors",
    ),
    no(
        "add-header rem-header del-header collect-header pull-header response-headers-limit",
        "",
        "set headers in the application or the proxy",
    ),
    // Other programs and jobs
    no(
        "attach-daemon attach-daemon2 smart-attach-daemon smart-attach-daemon2 attach-control-daemon legion-attach-daemon",
        "",
        DAEMONS,
    ),
    no(
        "cron cron2 unique-cron legion-cron cron-legion cron-harakiri timer rbtimer signal-timer signal-rbtimer",
        "",
        CRON,
    ),
    // Hooks
    no(
        "exec-asap exec-pre-jail exec-post-jail exec-in-jail exec-as-root hook-asap hook-pre-jail hook-post-jail hook-in-jail hook-as-root",
        "",
        "use ExecStartPre= of systemd, or --on-start MODULE:FUNCTION",
    ),
    no(
        "exec-as-user exec-pre-app hook-as-user hook-pre-app hook-master-start call-pre-app call-as-user",
        "",
        "--on-start MODULE:FUNCTION runs before the first worker",
    ),
    no(
        "exec-post-app hook-post-app hook-accepting hook-accepting1 hook-accepting-once call-post-app",
        "",
        "--worker-ready MODULE:FUNCTION runs in each worker that has loaded the application",
    ),
    no(
        "hook-post-fork symcall-post-fork",
        "",
        "--post-fork MODULE:FUNCTION runs first in each worker",
    ),
    no(
        "exec-as-user-atexit hook-as-user-atexit call-as-user-atexit",
        "",
        "--worker-exit MODULE:FUNCTION runs in each worker that was asked to exit; use ExecStopPost= of systemd for the server",
    ),
    no(
        "after-request-hook after-request-call",
        "",
        "do this in a WSGI middleware around the application",
    ),
    // Jobs
    no(
        "spooler spooler-processes spooler-frequency spooler-freq spooler-import spooler-harakiri spooler-max-tasks spooler-quiet mule mules mule-harakiri farm",
        "",
        QUEUE,
    ),
    // The configuration itself
    always(
        "ini config yaml yml json xml xmlconfig include inherit set set-placeholder set-ph",
        "",
        CONFIGURATION,
    ),
    always("show-config", "", "`arctos --print-config` does this"),
];
