//! The rows for development.

use super::super::DefaultValue::{self, Word};
use super::super::{OptionSpec, Setting as S, Takes, Topic as T};
use super::row;

/// The rows, in the order of the help.
pub(super) const ROWS: &[OptionSpec] = &[
    row(
        S::Reload,
        T::Development,
        "reload",
        "Reload when a Python file of the application changes. Broken code is shown in the log, and \
         the old code keeps serving. For development: there is one worker unless \
         `--workers` is given, and new code serves without a probation.",
    )
    .switch(),
    row(
        S::ReloadExtra,
        T::Development,
        "reload-extra",
        "Let `--reload` also watch this file, or all files below this directory, such as templates.",
    )
    .takes("PATH", Takes::Many(','), DefaultValue::None),
    row(
        S::ReloadEngine,
        T::Development,
        "reload-engine",
        "How `--reload` notices changes: from the kernel (`inotify`), by reading all directories \
         twice a second (`poll`), or `auto`: `poll` only for network file systems and where the \
         kernel has no watches left.",
    )
    .once("auto|inotify|poll", Word("auto")),
    row(
        S::Debug,
        T::Development,
        "debug",
        "Answer a failed request from this machine with its traceback and variables. Every `--bind` \
         must be at a loopback address. There is one worker unless `--workers` is given.",
    )
    .switch(),
];
