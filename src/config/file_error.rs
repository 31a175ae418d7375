//! Why a configuration file cannot be used. Each message names the file and, if there is one, the line.

use std::io;
use std::path::{Path, PathBuf};

use arctos_worker::shared::log::ErrorText;

use super::advice::Advice;
use super::options::Setting;
use super::origin::{FileLine, Origin, Printable, source_of};

/// The maximum size of a file. No list of options is longer, but a log that is named by mistake is.
pub(super) const MAX_BYTES: usize = 1 << 20;

/// Why a configuration file cannot be used. A value that its option refuses is a [`ConfigError`](super::ConfigError).
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is a configuration file of gunicorn, which is a Python program.
    #[error(
        "{}. A configuration file is TOML, and Python in it is not executed: convert the file with `arctos migrate \
         gunicorn FILE > arctos.toml`, and pass the result to --config",
        Printable(.reason)
    )]
    Python {
        /// The error of the parser.
        reason: String,
    },
    /// It does not exist, or cannot be read.
    #[error("{}: cannot read {}: {}", source_of(Setting::Config, .origin, .text), .path.display(), ErrorText(.error))]
    Unreadable {
        /// Where its name was given.
        origin: Origin,
        /// The name as given.
        text: String,
        /// The file.
        path: PathBuf,
        /// The error of the kernel.
        error: io::Error,
    },
    /// It is a directory, a pipe or a device, which a reload could not read again.
    #[error("{}: {} is not a regular file{}", source_of(Setting::Config, .origin, .text), .path.display(),
        if .path == Path::new("/dev/null") { "; --config off reads no file" } else { "" })]
    NoFile {
        /// Where its name was given.
        origin: Origin,
        /// The name as given.
        text: String,
        /// The path.
        path: PathBuf,
    },
    /// It is in a directory that everybody can write to, and belongs to another user.
    #[error(
        "{} belongs to user {owner} and is in a directory that everybody can write to, so anybody may have put it \
        there. To read it, name it in --config; to ignore it, start arctos with --config off",
        .path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A pyproject.toml without settings of arctos.
    #[error("{}: there is no table [tool.arctos]", .path.display())]
    NoTable {
        /// The file.
        path: PathBuf,
    },
    /// It is too long to be a configuration.
    #[error("{}: expected at most {MAX_BYTES} bytes of TOML", .path.display())]
    Long {
        /// The file.
        path: PathBuf,
    },
    /// It is not in UTF-8.
    #[error("{place}: expected TOML in UTF-8")]
    Encoding {
        /// The line of the first invalid byte.
        place: FileLine,
    },
    /// It is not TOML.
    #[error("{place}: {}", Printable(.reason))]
    Syntax {
        /// The line where the parser stopped.
        place: FileLine,
        /// The error of the parser.
        reason: String,
    },
    /// There is no option of that name.
    #[error("{place}: there is no option '{}'{advice}", Printable(.key))]
    UnknownKey {
        /// Its line.
        place: FileLine,
        /// The name as written.
        key: String,
        /// What the user may have meant.
        advice: Advice,
    },
    /// An option is given twice: once with dashes, and once with underscores.
    #[error("{place}: {key} is given twice")]
    Twice {
        /// The line of the second one.
        place: FileLine,
        /// The option.
        key: &'static str,
    },
    /// The file names another file.
    #[error(
        "{place}: config cannot be set in a configuration file; give --config on the command line"
    )]
    Nested {
        /// Its line.
        place: FileLine,
    },
    /// The value has a TOML type that its option does not take.
    #[error("{place}: {}: expected {expected}, not {}", Printable(.key), Printable(.found))]
    Type {
        /// The line of the value.
        place: FileLine,
        /// The option; for `env`, with the variable.
        key: String,
        /// What would have been accepted.
        expected: String,
        /// What was found.
        found: String,
    },
}

impl FileError {
    /// The exit code: 2 if the file is wrong on every machine, 1 if it cannot be read on this one.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Unreadable { .. } | Self::NoFile { .. } | Self::Foreign { .. } => 1,
            Self::Python { .. }
            | Self::Long { .. }
            | Self::NoTable { .. }
            | Self::Encoding { .. }
            | Self::Syntax { .. }
            | Self::UnknownKey { .. }
            | Self::Twice { .. }
            | Self::Nested { .. }
            | Self::Type { .. } => 2,
        }
    }
}
