//! The rest of uWSGI's settings, which no configuration of a usual web application has: one answer for each family.

use super::{Peer, PeerArgument};

/// The name, the argument and the letter of every option of uWSGI, one a line, as its sources list them.
const OPTIONS: &str = include_str!("uwsgi-2.0.31.txt");

/// An option of uWSGI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UwsgiOption {
    /// Its name, without dashes.
    pub name: &'static str,
    /// What follows it.
    pub argument: PeerArgument,
    /// Its one-letter name.
    pub letter: Option<&'static str>,
}

/// All options of uWSGI.
pub fn uwsgi_options() -> impl Iterator<Item = UwsgiOption> {
    OPTIONS.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let name = words.next()?;
        let argument = match words.next()? {
            "n" => PeerArgument::None,
            "o" => PeerArgument::Optional,
            _ => PeerArgument::Required,
        };
        Some(UwsgiOption { name, argument, letter: words.next() })
    })
}

/// Prefixes of names, with the answer for them; the first match counts.
const FAMILIES: &[(&[&str], &str)] = &[
    (
        &["emperor", "vassal", "early-emperor", "imperial-", "heartbeat"],
        "arctos has no emperor; run each application under systemd: see arctos help systemd",
    ),
    (
        &[
            "fastrouter",
            "rawrouter",
            "sslrouter",
            "http-",
            "https-",
            "zerg",
            "subscri",
            "unsubscri",
            "tuntap",
            "zmq",
            "zeromq",
            "mongrel2",
            "fastcgi-",
            "scgi-",
            "raw-",
            "sub-",
            "start-unsub",
            "sni",
            "ssl-",
        ],
        "arctos has no routers; terminate TLS with --certfile or in a proxy such as nginx or HAProxy, and balance there",
    ),
    (
        &["route", "final-route", "error-route", "response-route", "rewrite"],
        "arctos routes no requests; do this in the proxy or in a WSGI middleware",
    ),
    (
        &[
            "cache",
            "add-cache",
            "del-cache",
            "load-file-in-cache",
            "check-cache",
            "queue",
            "sharedarea",
            "py-sharedarea",
            "locks",
            "lock-engine",
        ],
        "arctos has no shared memory for applications; use Redis or memcached",
    ),
    (
        &["spooler", "mule", "farm", "signal", "touch-mules", "touch-spoolers"],
        "run jobs in a task queue beside arctos, such as Celery, RQ or Huey",
    ),
    (
        &[
            "legion",
            "cluster",
            "multicast",
            "udp",
            "carbon",
            "snmp",
            "rrdtool",
            "nagios",
            "ping",
            "alarm",
            "segfault-alarm",
            "backlog-alarm",
            "lq-alarm",
            "listen-queue-alarm",
            "metric",
            "collectd",
            "statsd",
        ],
        "arctos serves metrics at /metrics of --admin-bind and sends them to --statsd-host; let the monitoring alert",
    ),
    (
        &[
            "gevent",
            "asyncio",
            "tornado",
            "greenlet",
            "ugreen",
            "async",
            "websocket",
            "loop",
            "fiber",
            "coroae",
            "stackless",
            "dumbloop",
        ],
        "arctos serves WSGI only, without green threads; raise --workers instead",
    ),
    (
        &["cheaper", "idle", "cheap"],
        "the number of workers is fixed; arctos ctl scale N changes it while the server runs",
    ),
    (
        &["if", "end", "for"],
        "arctos.toml has no logic; write one file for each place, or set ARCTOS_* variables there",
    ),
    (
        &[
            "setns",
            "mount-",
            "umount-",
            "wait-",
            "ns",
            "namespace",
            "unshare",
            "cgroup",
            "refork",
            "re-fork",
            "jail",
            "chroot",
            "pivot",
            "privileged-",
            "unprivileged-",
            "drop-",
            "immediate-",
        ],
        "use systemd or a container for this: see arctos help systemd",
    ),
    (
        &["exec-", "hook-", "call-", "symcall"],
        "arctos has its own hooks, which are Python functions: see arctos help hooks",
    ),
    (&["log", "req-log"], "arctos logs to standard error, in one format: see arctos help logs"),
    (
        &[
            "php", "perl", "psgi", "pl", "ruby", "rb", "rack", "rails", "gem", "rvm", "lua", "jvm",
            "jwsgi", "ring", "clojure", "cgi", "go", "gccgo", "rpc", "v8", "mono", "pypy",
            "webdav", "xslt", "pty", "forkpty", "shared-r", "require",
        ],
        "arctos serves WSGI only",
    ),
];

/// Returns the answer for a setting of uWSGI without a row of its own; `None` if its family has none.
pub fn family(name: &str) -> Option<&'static str> {
    debug_assert!(Peer::Uwsgi.setting(name).is_none());
    let row = FAMILIES
        .iter()
        .find(|(prefixes, _)| prefixes.iter().any(|prefix| name.starts_with(prefix)))?;
    Some(row.1)
}
