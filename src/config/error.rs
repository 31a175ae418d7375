//! Why a configuration cannot be used. Each message names the option, its value and what to do.

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
    /// A value is not of the kind that its option takes.
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
    /// `--drain-delay` is not shorter than the stop that it is a part of.
    #[error("{}: expected less than --graceful-timeout ({graceful}), which includes it",
        source_of(Setting::DrainDelay, .origin, .text))]
    DelayTooLong {
        /// Where the delay was given.
        origin: Origin,
        /// The delay as given.
        text: String,
        /// The time limit of the whole stop.
        graceful: String,
    },
    /// A hook is given for a process that only another option starts.
    #[error(
        "{}: requires --preload, because only its zygote runs application code before a fork; without it, use \
        --post-fork or --on-start",
        source_of(*.setting, .origin, .text)
    )]
    NeedsPreload {
        /// The option.
        setting: Setting,
        /// Where the value was given.
        origin: Origin,
        /// The value as given.
        text: String,
    },
    /// Connections have to begin with a PROXY header, and nobody may send one.
    #[error("{}: requires --proxy-allow-from with the addresses of the proxies that send the header",
        source_of(Setting::ProxyProtocol, .origin, .text))]
    NeedsSenders {
        /// Where the value was given.
        origin: Origin,
        /// The value as given.
        text: String,
    },
    /// This build has no TLS.
    #[error(
        "{}: this build of arctos has no TLS: it was compiled without the cargo feature tls",
        source_of(*.setting, .origin, .text)
    )]
    NoTls {
        /// The option.
        setting: Setting,
        /// Where the value was given.
        origin: Origin,
        /// The value as given.
        text: String,
    },
    /// All tags together leave too little of a datagram for the rest of a line.
    #[error(
        "--dogstatsd-tags: expected at most {max_bytes} bytes of tags per line, including those of --zone and \
        DD_*, but there are {bytes} ({origin})"
    )]
    LongTags {
        /// Where the tags were given.
        origin: Origin,
        /// The size of all tags in a line.
        bytes: usize,
        /// The maximum.
        max_bytes: usize,
    },
    /// MODULE:ATTR does not name an application.
    #[error("{}: {reason}", source_of(Setting::Application, .origin, .text))]
    Application {
        /// Where the value was given.
        origin: Origin,
        /// The value as given.
        text: String,
        /// What is wrong with it.
        reason: AppNameError,
    },
    /// The configuration file cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// No application is given.
    #[error("no application to serve")]
    NoApplication,
    /// LISTEN_FDS is meant for this process and is not a number.
    #[error(transparent)]
    ListenFds(#[from] BadListenFds),
    /// A directory that an option needs does not exist or cannot be used.
    #[error("{}: cannot use the directory {}: {}",
        source_of(*.setting, .origin, .text), .directory.display(), ErrorText(.error))]
    Directory {
        /// The option.
        setting: Setting,
        /// Where the value was given.
        origin: Origin,
        /// The value as given.
        text: String,
        /// The directory.
        directory: PathBuf,
        /// The error of the kernel.
        error: io::Error,
    },
    /// This machine has no such user or group.
    #[error("{}: there is no such {} on this machine", source_of(*.setting, .origin, .text),
        OptionSpec::of(*.setting).long)]
    UnknownAccount {
        /// [`Setting::User`] or [`Setting::Group`].
        setting: Setting,
        /// Where the value was given.
        origin: Origin,
        /// The value as given.
        text: String,
    },
    /// Only root can run workers as another user or group.
    #[error("{}: only root can run workers as another {}; start arctos as root, or leave the option out",
        source_of(*.setting, .origin, .text), OptionSpec::of(*.setting).long)]
    NotRoot {
        /// [`Setting::User`] or [`Setting::Group`].
        setting: Setting,
        /// Where the value was given.
        origin: Origin,
        /// The value as given.
        text: String,
    },
    /// The directory that arctos was started in no longer exists.
    #[error("cannot determine the current directory: {}; start arctos in another directory", ErrorText(.0))]
    NoCurrentDirectory(io::Error),
}

impl ConfigError {
    /// The exit code: 2 if the value is wrong on every machine, 1 if it cannot be used on this one.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Value { .. }
            | Self::DelayTooLong { .. }
            | Self::NeedsPreload { .. }
            | Self::NeedsSenders { .. }
            | Self::NoTls { .. }
            | Self::LongTags { .. }
            | Self::Application { .. }
            | Self::NoApplication
            | Self::ListenFds(_) => 2,
            Self::File(error) => error.exit_code(),
            Self::Directory { .. }
            | Self::UnknownAccount { .. }
            | Self::NotRoot { .. }
            | Self::NoCurrentDirectory(_) => 1,
        }
    }
}

/// What is wrong with MODULE:ATTR.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppNameError {
    /// It does not have that form.
    #[error("expected MODULE:ATTR, two dotted names, such as shop.wsgi:application")]
    Form,
    /// It is the path of a file.
    #[error("expected a module, not a file: write {0}")]
    File(String),
    /// It is a call with arguments.
    #[error(
        "expected a call without arguments, such as shop:create_app(); \
             write a function that passes them"
    )]
    Arguments,
    /// `--factory` is given without the name of a function.
    #[error("--factory needs the name of a function, such as shop:create_app")]
    NamelessFactory,
}
