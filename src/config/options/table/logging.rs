//! The rows about logs.

use super::super::DefaultValue::{self, Word};
use super::super::{OptionSpec, Setting as S, Takes, Topic as T};
use super::row;

/// The rows, in the order of the help.
pub(super) const ROWS: &[OptionSpec] = &[
    row(
        S::LogLevel,
        T::Logging,
        "log-level",
        "Minimum level of the lines that are written to standard error: `debug`, `info`, \
         `warning`, `error` or `critical`.",
    )
    .once("LEVEL", Word("info")),
    row(S::LogFormat, T::Logging, "log-format", "Format of log lines.")
        .once("text|json", Word("text")),
    row(
        S::AccessLogfile,
        T::Logging,
        "access-logfile",
        "Write a line for each request to this file, to standard output (`-`), to an inherited \
         descriptor (`fd://N`), or to syslog: `syslog:///dev/log` or `syslog://HOST:PORT`, followed \
         by `?facility=local0&tag=NAME` for another facility than `user` and another tag than \
         `--name`.",
    )
    .optional("FILE"),
    row(
        S::AccessLogformat,
        T::Logging,
        "access-logformat",
        "Format of the access log: `text`, `json`, `json:FIELD,...` for selected fields, `combined`, \
         or a line in gunicorn's language, such as `%(h)s \"%(r)s\" %(s)s %(D)s`. The guide's page \
         on logs lists the atoms and fields.",
    )
    .derived("FORMAT", "`text` or `json`, as `--log-format`"),
    row(
        S::AccessLogSample,
        T::Logging,
        "access-log-sample",
        "Share of the requests that have a line in the access log: `0.01` or `1%`. Those that get a \
         status of 500 or above always have one.",
    )
    .once("SHARE", Word("1")),
    row(
        S::AccessLogExclude,
        T::Logging,
        "access-log-exclude",
        "Write no line for requests at a path and below it, such as `/healthz`. \
         `ARCTOS_ACCESS_LOG_EXCLUDE` separates paths by commas.",
    )
    .takes("/PATH", Takes::Many(','), DefaultValue::None),
];
