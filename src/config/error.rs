//! Why a configuration cannot be used, in words that name the option, its value and what to do.

use std::io;
use std::path::PathBuf;

use arctos_worker::shared::log::ErrorText;

use super::file_error::FileError;
use super::options::{OptionSpec, Setting};
use super::origin::{Origin, source_of};
use crate::system::listen_fds::BadListenFds;

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is not of its option's kind.
    #[error("{}: expected {expected}", source_of(*.setting, .origin, .text))]
    Value {
        /// The option.
        setting: Setting,
        /// Where the value was given.
        origin: Origin,
        /// The value as given.
        text: String,
        /// What would have been accepted.
        expected: String,
    },
    /// A value that is fine by itself does not go with another one.
    #[error("{}: expected less than --graceful-timeout ({graceful}), of which it is a part",
        source_of(Setting::DrainDelay, .origin, .text))]
    DelayTooLong {
        /// Where the delay was given.
        origin: Origin,
        /// The delay as given.
        text: String,
        /// The budget it is a part of.
        graceful: String,
    },
    /// A hook for a process that only another option starts.
    #[error(
        "{}: expected --preload beside it, for only its zygote forks with the application's code; \
        --post-fork and --on-start do without",
        source_of(*.setting, .origin, .text)
    )]
    NeedsPreload {
        /// The option.
        setting: Setting,
        /// Where it was given.
        origin: Origin,
        /// As given.
        text: String,
    },
    /// Tags that are fine one by one leave too little of a datagram to the rest of a line.
    #[error(
        "--dogstatsd-tags: expected at most {most_bytes} bytes of tags in a line, with those of \
        --zone and DD_*; these are {bytes} ({origin})"
    )]
    LongTags {
        /// Where the tags were given.
        origin: Origin,
        /// What they come to.
        bytes: usize,
        /// What is left for them.
        most_bytes: usize,
    },
    /// `MODULE:ATTR` is none.
    #[error("{}: {reason}", source_of(Setting::Application, .origin, .text))]
    Application {
        /// Where it was given.
        origin: Origin,
        /// As given.
        text: String,
        /// What is wrong with it.
        reason: AppNameError,
    },
    /// The configuration file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nobody says what to serve.
    #[error("no application to serve")]
    NoApplication,
    /// LISTEN_FDS is for us and no number.
    #[error(transparent)]
    ListenFds(#[from] BadListenFds),
    /// A folder that an option needs is not there or may not be used.
    #[error("{}: {} is not a usable folder: {}",
        source_of(*.setting, .origin, .text), .folder.display(), ErrorText(.error))]
    Folder {
        /// The option.
        setting: Setting,
        /// Where the value was given.
        origin: Origin,
        /// The value as given.
        text: String,
        /// The folder.
        folder: PathBuf,
        /// What the kernel says of it.
        error: io::Error,
    },
    /// No such user or group on this machine.
    #[error("{}: there is no such {} on this machine", source_of(*.setting, .origin, .text),
        OptionSpec::of(*.setting).long)]
    Nobody {
        /// [`Setting::User`] or [`Setting::Group`].
        setting: Setting,
        /// Where it was given.
        origin: Origin,
        /// As given.
        text: String,
    },
    /// Only root may become somebody else.
    #[error("{}: only root may start workers as another {}; leave the option out",
        source_of(*.setting, .origin, .text), OptionSpec::of(*.setting).long)]
    NotRoot {
        /// [`Setting::User`] or [`Setting::Group`].
        setting: Setting,
        /// Where it was given.
        origin: Origin,
        /// As given.
        text: String,
    },
    /// The folder that we were started in is gone.
    #[error("the current folder cannot be told: {}; start from another one or give --chdir", ErrorText(.0))]
    NoCurrentFolder(io::Error),
}

impl ConfigError {
    /// The exit code: 2 for what is wrong everywhere, 1 for what cannot be on this machine.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Value { .. }
            | Self::DelayTooLong { .. }
            | Self::NeedsPreload { .. }
            | Self::LongTags { .. }
            | Self::Application { .. }
            | Self::NoApplication
            | Self::ListenFds(_) => 2,
            Self::File(error) => error.exit_code(),
            Self::Folder { .. }
            | Self::Nobody { .. }
            | Self::NotRoot { .. }
            | Self::NoCurrentFolder(_) => 1,
        }
    }
}

/// What is wrong with `MODULE:ATTR`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppNameError {
    /// Not of that form.
    #[error("expected MODULE:ATTR, both names in dots, such as shop.wsgi:application")]
    Form,
    /// A path or a file.
    #[error("expected a module, not a file: write {0}")]
    File(String),
    /// `factory(1)`.
    #[error(
        "expected a call without arguments, such as shop:create_app(); \
             write a function that gives them"
    )]
    Arguments,
    /// `--factory` without a name.
    #[error("--factory needs the function's name, such as shop:create_app")]
    NamelessFactory,
}
