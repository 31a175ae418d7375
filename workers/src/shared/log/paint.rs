//! The colors of log lines in a terminal.

use super::Level;

/// Whether lines are colored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paint {
    /// They are plain text.
    #[default]
    Plain,
    /// They have colors, by the escape sequences of ECMA-48.
    Colored,
}

const RESET: &str = "\x1b[0m";
const DIM: &str = "\x1b[2m";
const BOLD: &str = "\x1b[1m";

impl Paint {
    /// What begins and ends a part that matters less.
    pub(super) fn dim(self) -> (&'static str, &'static str) {
        self.around(DIM)
    }

    /// What begins and ends the name of an event.
    pub(super) fn event(self) -> (&'static str, &'static str) {
        self.around(BOLD)
    }

    /// What begins and ends the name of a level.
    pub(super) fn level(self, level: Level) -> (&'static str, &'static str) {
        self.around(match level {
            Level::Debug => "\x1b[2m",
            Level::Info => "\x1b[32m",
            Level::Notice => "\x1b[36m",
            Level::Warning => "\x1b[33m",
            Level::Error => "\x1b[31m",
            Level::Critical => "\x1b[1;31m",
        })
    }

    fn around(self, begin: &'static str) -> (&'static str, &'static str) {
        match self {
            Self::Plain => ("", ""),
            Self::Colored => (begin, RESET),
        }
    }
}
