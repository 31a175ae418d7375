//! What was given for an option, and where.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use nix::unistd::Uid;

use super::options::{OptionSpec, Setting};
use super::place::Reason;

/// The values of one option, and where they come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// The values; at least one unless an empty list was given.
    pub values: Vec<OsString>,
    /// Where they come from.
    pub origin: Origin,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An option on the command line.
    CommandLine,
    /// An argument of the Python function `serve()`.
    Keyword,
    /// This environment variable.
    Environment(String),
    /// This line of the configuration file.
    File(FileLine),
    /// A default that fits the place where the server runs.
    Place(Reason),
    /// The entry of this user in the password database.
    User(Uid),
    /// The value `auto` was given, and became this one in the place where the server runs.
    Auto {
        /// Where it was given.
        given: Box<Self>,
        /// Why it became this value.
        reason: Reason,
    },
    /// It follows from the value of another option.
    Because(Setting),
    /// Each of these contributed a part.
    Several(Vec<Self>),
    /// The default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("command line"),
            Self::Keyword => f.write_str("argument of serve()"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(place) => write!(f, "file {place}"),
            Self::Place(reason) => write!(f, "default: {reason}"),
            Self::Auto { given, reason } => write!(f, "{given}, auto: {reason}"),
            Self::User(uid) => write!(f, "group of user {uid}"),
            Self::Because(setting) => write!(f, "because of {}", OptionSpec::of(*setting).flag()),
            Self::Several(origins) => {
                let origins: Vec<_> = origins.iter().map(Self::to_string).collect();
                f.write_str(&origins.join(", "))
            }
            Self::Default => f.write_str("default"),
        }
    }
}

/// A line of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLine {
    /// The file.
    pub path: PathBuf,
    /// The line number, counted from 1.
    pub line: usize,
}

impl fmt::Display for FileLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Writes a value with its place, so that a person finds what to change: `--workers 'many'`,
/// `ARCTOS_WORKERS='many'`, `workers='many'` or `/etc/shop.toml:3: workers='many'`.
pub(super) fn source_of(setting: Setting, origin: &Origin, text: &str) -> String {
    let text = Printable(text);
    match origin {
        Origin::Keyword => format!("{}='{text}'", OptionSpec::of(setting).keyword()),
        Origin::Environment(variable) => format!("{variable}='{text}'"),
        Origin::File(place) => format!("{place}: {}='{text}'", OptionSpec::of(setting).long),
        Origin::Auto { given, .. } => source_of(setting, given, &text.to_string()),
        Origin::Place(Reason::Found) => format!("{text} in the current directory"),
        Origin::CommandLine
        | Origin::Place(_)
        | Origin::User(_)
        | Origin::Because(_)
        | Origin::Several(_)
        | Origin::Default => format!("{} '{text}'", OptionSpec::of(setting).flag()),
    }
}

/// Text from outside in a message: control characters are escaped, so that none of them controls the terminal that
/// shows the message or begins another line.
pub(crate) struct Printable<'a>(pub(crate) &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(char::is_control) {
            match part.chars().next_back().filter(|last| last.is_control()) {
                Some(last) => {
                    f.write_str(&part[..part.len() - last.len_utf8()])?;
                    write!(f, "{}", last.escape_default())?;
                }
                None => f.write_str(part)?,
            }
        }
        Ok(())
    }
}
