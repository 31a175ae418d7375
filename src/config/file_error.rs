//! Why a configuration file cannot be used, in words that name the file and the line.

use std::io;
use std::path::PathBuf;

use arctos_worker::shared::log::ErrorText;

use super::advice::Advice;
use super::options::Setting;
use super::origin::{FileLine, Origin, source_of};

/// No list of options is longer; a log that is named by mistake is.
pub(super) const MOST_BYTES: usize = 1 << 20;

/// Why a configuration file cannot be used. A value that its option refuses is no case of these.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file of gunicorn's, which is a program.
    #[error(
        "{reason}. A configuration file is TOML, and Python in it is not executed: write each setting \
         under its option's long name into a file such as arctos.toml (workers = 4, bind = \
         ['0.0.0.0:8000'], timeout = '30s'), a function as MODULE:FUNCTION (post-fork = \
         'shop.hooks:post_fork'), and give that file with --config"
    )]
    Python {
        /// What stopped the parser.
        reason: String,
    },
    /// It is not there, or may not be read.
    #[error("{}: {} cannot be read: {}", source_of(Setting::Config, .origin, .text), .path.display(), ErrorText(.error))]
    Unreadable {
        /// Where it was named.
        origin: Origin,
        /// As named.
        text: String,
        /// The file.
        path: PathBuf,
        /// What the kernel says of it.
        error: io::Error,
    },
    /// A folder, a pipe or a device: nothing that a reload could read again.
    #[error("{}: {} is no regular file", source_of(Setting::Config, .origin, .text), .path.display())]
    NoFile {
        /// Where it was named.
        origin: Origin,
        /// As named.
        text: String,
        /// What is there.
        path: PathBuf,
    },
    /// Nobody wrote that as a configuration.
    #[error("{}: expected at most {MOST_BYTES} bytes of TOML", .path.display())]
    Long {
        /// The file.
        path: PathBuf,
    },
    /// Not in UTF-8.
    #[error("{place}: expected TOML in UTF-8")]
    Encoding {
        /// Where the first wrong byte stands.
        place: FileLine,
    },
    /// No TOML.
    #[error("{place}: {reason}")]
    Syntax {
        /// Where the parser stopped.
        place: FileLine,
        /// What the parser says.
        reason: String,
    },
    /// No option is called so.
    #[error("{place}: there is no option '{key}'{advice}")]
    UnknownKey {
        /// Where it stands.
        place: FileLine,
        /// As written.
        key: String,
        /// What may have been meant.
        advice: Advice,
    },
    /// Once with dashes, once with underscores.
    #[error("{place}: {key} is given a second time")]
    Twice {
        /// Where it stands the second time.
        place: FileLine,
        /// The option.
        key: &'static str,
    },
    /// A file that names another one.
    #[error("{place}: config cannot stand in a configuration file; give it on the command line")]
    Nested {
        /// Where it stands.
        place: FileLine,
    },
    /// TOML has types, and this option takes another one.
    #[error("{place}: {key}: expected {expected}, not {found}")]
    Type {
        /// Where the value stands.
        place: FileLine,
        /// The option, and the variable of `env`.
        key: String,
        /// What would have been accepted.
        expected: String,
        /// What is there.
        found: String,
    },
}

impl FileError {
    /// The exit code: 2 for what is wrong everywhere, 1 for what cannot be on this machine.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Unreadable { .. } | Self::NoFile { .. } => 1,
            Self::Python { .. }
            | Self::Long { .. }
            | Self::Encoding { .. }
            | Self::Syntax { .. }
            | Self::UnknownKey { .. }
            | Self::Twice { .. }
            | Self::Nested { .. }
            | Self::Type { .. } => 2,
        }
    }
}
