//! The settings of uWSGI that configurations commonly have: sockets, processes, limits and the application.
//!
//! uWSGI has more than 900. [`super::uwsgi_more`] has more rows, and [`super::families`] the answers for the rest.

use super::super::Setting as S;
use super::gunicorn::{DAEMON, PASTE, THREADS};
use super::{PeerSetting, Unit, always, near, no, same};

const PROTOCOL: &str = "arctos speaks HTTP/1.1, not the uwsgi protocol: configure the proxy to use HTTP (nginx: proxy_pass in \
    place of uwsgi_pass, and proxy_set_header for Host, X-Forwarded-For and X-Forwarded-Proto)";
const OTHER_PROTOCOL: &str =
    "arctos speaks HTTP/1.1; configure the proxy to use HTTP (nginx: proxy_pass)";
const PLUGINS: &str = "arctos has no plugins, and runs in the Python that it is installed in";
const TOUCH: &str =
    "let the deployment run arctos ctl reload --wait, or send HUP to the supervisor";
const CHEAPER: &str =
    "the number of workers is fixed; arctos ctl scale N changes it while the server runs";
const ONE_APPLICATION: &str =
    "a server has one application; mount others in a WSGI middleware, or run a server for each";
const LAST: &str = "an idle worker takes the next connection, and the kernel wakes only one";

/// All rows of this file.
pub(super) const SETTINGS: &[PeerSetting] = &[
    // Sockets
    near("http-socket http11-socket", "", S::Bind, "connections are kept open between requests")
        .special(),
    near(
        "http httprouter",
        "",
        S::Bind,
        "there is no router process: each worker speaks HTTP/1.1 itself",
    )
    .special(),
    near("socket uwsgi-socket", "", S::Bind, PROTOCOL).special(),
    no(
        "fastcgi-socket fastcgi-nph-socket scgi-socket scgi-nph-socket raw-socket puwsgi-socket suwsgi-socket ssl-socket",
        "",
        OTHER_PROTOCOL,
    ),
    near(
        "https https-socket https2",
        "",
        S::Bind,
        "the certificate and the key are options of their own",
    )
    .special(),
    no("http-to-https", "", "let the proxy redirect, or Django's SECURE_SSL_REDIRECT"),
    no("protocol socket-protocol", "", OTHER_PROTOCOL).special(),
    near(
        "shared-socket",
        "",
        S::Bind,
        "the supervisor opens every socket, before workers change to --user",
    )
    .special(),
    same("abstract-socket", "", S::Bind).special(),
    near("chmod-socket chmod", "", S::UnixSocketMode, "the default is 0660").special(),
    no("chown-socket", "", "a unix socket belongs to --user and --group"),
    near("listen", "", S::Backlog, "the default is 2048, and uWSGI's is 100"),
    same("reuse-port", "", S::ReusePort),
    always("freebind thunder-lock no-defer-accept tcp-nodelay so-keepalive", "", LAST),
    near(
        "enable-proxy-protocol http-enable-proxy-protocol",
        "",
        S::ProxyProtocol,
        "every connection has to begin with the header, and --proxy-allow-from names the proxies",
    )
    .special(),
    // The application
    near("module wsgi", "", S::Application, "MODULE:ATTR").special(),
    near(
        "wsgi-file file",
        "",
        S::Application,
        "arctos imports a module: the path became a dotted name",
    )
    .special(),
    near("callable", "", S::Application, "it is the part after the colon").special(),
    near("mount", "", S::Application, ONE_APPLICATION).special(),
    always("manage-script-name", "", "--root-path and X-Forwarded-Prefix set SCRIPT_NAME"),
    no("paste ini-paste ini-paste-logged", "", PASTE),
    no(
        "pecan pump wsgi-lite web3 eval pyrun",
        "",
        "create the application in a module: MODULE:ATTR or MODULE:create_app()",
    ),
    same("chdir chdir2", "", S::Chdir),
    near("pythonpath python-path pp", "", S::PythonPath, "directories only, no wildcards")
        .special(),
    no(
        "virtualenv venv home pyhome",
        "",
        "install arctos into this environment and run its program: DIR/bin/arctos",
    )
    .special(),
    near("env", "", S::Env, "it is set in the workers").special(),
    no(
        "unenv envdir",
        "",
        "let systemd (Environment=, EnvironmentFile=) or the container runtime set the environment",
    ),
    always("plugins plugin need-plugins need-plugin plugins-dir plugin-dir autoload", "", PLUGINS),
    always("need-app", "", "arctos never serves without an application"),
    no(
        "import pyimport py-import python-import shared-import shared-pyimport shared-py-import shared-python-import",
        "",
        "import the module in the application, or name one of its functions in --post-fork or --on-start",
    ),
    no("pymodule-alias post-pymodule-alias", "", "set sys.modules in the application"),
    no("pyargv", "", "a WSGI application reads its settings from the environment: --env"),
    always("single-interpreter", "", "a worker has one interpreter"),
    no("wsgi-env-behaviour wsgi-env-behavior", "", "the environ of each request is a new dict"),
    // Processes
    near("processes workers", "", S::Workers, "a worker runs one request at a time").special(),
    no("threads", "", THREADS).special(),
    always(
        "enable-threads py-call-osafterfork py-call-uwsgi-fork-hooks",
        "",
        "threads of the application always work",
    ),
    no(
        "async gevent gevent-monkey-patch gevent-early-monkey-patch gevent-wait-for-hub asyncio tornado greenlet ugreen loop",
        "",
        "a worker runs one request at a time, without green threads; raise --workers instead",
    ),
    always("master", "", "there is always a supervisor"),
    always("master-as-root", "", "the supervisor keeps its user, and workers change to --user"),
    near(
        "lazy-apps lazy",
        "",
        S::Preload,
        "arctos loads the application in each worker unless --preload is given",
    )
    .special(),
    no(
        "cheap idle die-on-idle",
        "",
        "workers run from the start; for on-demand servers, use socket activation of systemd with a short-lived unit",
    ),
    no(
        "cheaper cheaper-initial cheaper-step cheaper-algo cheaper-overload cheaper-busyness-max cheaper-busyness-min cheaper-busyness-multiplier cheaper-busyness-backlog-alert cheaper-rss-limit-soft cheaper-rss-limit-hard",
        "",
        CHEAPER,
    ),
    same("max-requests", "", S::MaxRequests),
    no(
        "max-requests-delta",
        "",
        "it multiplies the number of the worker; --max-requests-jitter is random, a tenth of --max-requests by default",
    ),
    near("max-worker-lifetime", "", S::MaxLifetime, "up to a tenth is added at random"),
    always("max-worker-lifetime-delta", "", "--max-lifetime adds up to a tenth at random"),
    always(
        "min-worker-lifetime",
        "",
        "a worker whose replacements fail to boot is replaced with a growing delay",
    ),
    near(
        "reload-on-rss",
        "",
        S::MaxRss,
        "it takes two samples in a row; with --preload, it counts a worker's private memory and its share of the rest",
    )
    .in_unit(Unit::Mebibytes),
    near(
        "evil-reload-on-rss",
        "",
        S::MaxRss,
        "the worker drains; for a hard limit, use MemoryMax= of systemd",
    )
    .in_unit(Unit::Mebibytes),
    no(
        "reload-on-as evil-reload-on-as limit-as",
        "",
        "--max-rss limits memory that is in use; use LimitAS= of systemd for the address space",
    ),
    no("limit-nproc", "", "use LimitNPROC= of systemd"),
    always(
        "max-fd",
        "",
        "arctos raises the limit of open descriptors as far as it may; LimitNOFILE= of systemd is the maximum",
    ),
    near("uid", "", S::User, "workers run as this user; the supervisor keeps its own"),
    same("gid", "", S::Group),
    no("add-gid no-initgroups", "", "name the one group that workers need with --group"),
    near("umask", "", S::Umask, "it applies to workers").special(),
    no("cpu-affinity", "", "use CPUAffinity= of systemd, or taskset(1)"),
    no("prio", "", "use Nice= of systemd"),
    no(
        "chroot pivot-root cgroup namespace unshare",
        "",
        "use the hardening of systemd or a container: see arctos help systemd",
    ),
    same("procname", "", S::Name),
    near(
        "procname-prefix procname-prefix-spaced",
        "",
        S::Name,
        "the processes are called NAME with their part, such as the slot",
    ),
    always(
        "auto-procname procname-append procname-master",
        "",
        "processes have readable names; --name sets the first part",
    ),
    same("pidfile safe-pidfile pidfile2 safe-pidfile2", "", S::Pid),
    no("daemonize daemonize2", "", DAEMON),
    always("vacuum", "", "sockets and the pid file are always removed"),
    always(
        "die-on-term exit-on-reload",
        "",
        "TERM always stops the server, and HUP always reloads it",
    ),
    always("no-orphans", "", "workers end if their supervisor dies"),
    always(
        "close-on-exec close-on-exec2",
        "",
        "descriptors are always closed in programs that a worker executes",
    ),
    always("strict", "", "an unknown option is always an error"),
    // Times
    near(
        "harakiri",
        "",
        S::Timeout,
        "the request first gets an exception, then its client a 504; the default is 30s, and uWSGI has none",
    ),
    near(
        "harakiri-graceful-timeout",
        "",
        S::TimeoutGrace,
        "the request gets arctos.RequestTimeout in place of a signal",
    ),
    always(
        "harakiri-verbose py-tracebacker",
        "",
        "the log always has the Python stack of a worker that hangs; arctos ctl dump SLOT writes any",
    ),
    no(
        "harakiri-graceful-signal harakiri-queue-threshold harakiri-no-arh no-harakiri-arh no-harakiri-after-req-hook",
        "",
        "--timeout applies to every call of the application",
    ),
    near(
        "worker-reload-mercy reload-mercy",
        "",
        S::GracefulTimeout,
        "it limits the whole stop of a worker and of the server",
    ),
    near(
        "socket-timeout http-timeout so-send-timeout socket-send-timeout so-write-timeout socket-write-timeout",
        "",
        S::WriteTimeout,
        "it is the time without progress of a response; --body-timeout is that of a request body",
    ),
    near("http-headers-timeout", "", S::HeaderTimeout, "it limits the whole head"),
    near("http-keepalive", "", S::KeepAlive, "keep-alive is on, for 75s between two requests")
        .special(),
    always(
        "http-auto-chunked http-chunked-input http-manage-expect http-raw-body chunked-input-limit chunked-input-timeout",
        "",
        "arctos speaks HTTP/1.1 with chunked bodies and Expect: 100-continue",
    ),
    no("http-auto-gzip", "", "arctos does not compress; let the proxy or a middleware do so"),
    no("http-websockets", "", "arctos serves WSGI only"),
    // Limits
    near(
        "buffer-size http-buffer-size",
        "",
        S::LimitRequestHead,
        "the default is 64K, and uWSGI's is 4096 bytes",
    ),
    same("limit-post", "", S::LimitRequestBody),
    near(
        "post-buffering",
        "",
        S::BodyMemory,
        "request bodies are always complete before the application is called",
    ),
    always(
        "post-buffering-bufsize body-read-warning max-vars",
        "",
        "request bodies are always complete before the application is called",
    ),
    no("upload-progress", "", "arctos does not publish the progress of uploads"),
    // Reload
    no("touch-reload touch-workers-reload touch-chain-reload fs-reload", "", TOUCH),
    near(
        "py-auto-reload py-autoreload python-auto-reload python-autoreload",
        "",
        S::Reload,
        "for development: there is one worker unless --workers is given",
    )
    .special(),
];
