//! The rows about logs.

use super::super::DefaultValue::Word;
use super::super::{OptionSpec, Setting as S, Topic as T};
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
        "Write a line for each request to this file, or to standard output if FILE is \
         `-`.",
    )
    .optional("FILE"),
];
