//! `arctos ctl`: sends a verb to the admin socket of a running server, and shows the response to a person.
//!
//! It knows the server only over HTTP, so the server may have another version. It leaves out the parts of a status that
//! it does not know. Metrics that it does not know are the application's, or those of a later version.
//!
//! | file | owns |
//! |---|---|
//! | `client` | one request over TCP or a unix socket |
//! | `page` | the parser of Prometheus' text format |
//! | `distribution` | the percentiles of a histogram |
//! | `table` | samples as tables |
//! | `overview` | the server, its workers and its routes as tables |
//! | `routes` | the parser of routes, and their requests in some time |
//! | `quarantine` | the requests in quarantine as a table |
//! | `profile` | a profile in the format that was asked for, and its file |
//! | `columns` | rows of cells as lines |
//! | `units` | readable times and sizes, and texts without control characters |

pub(crate) mod client;
pub(crate) mod columns;
pub(crate) mod distribution;
pub(crate) mod overview;
pub(crate) mod page;
pub(crate) mod profile;
mod quarantine;
pub(crate) mod routes;
mod table;
pub(crate) mod units;

use std::io;
use std::path::PathBuf;

use arctos_worker::shared::log::ErrorText;

use crate::admin::verb::Verb;
use crate::profile::Profile;
use crate::system::address::BindAddress;
use crate::system::exit_code::ExitCode;

use client::{CtlResponse, ReadTimeout};
pub use profile::{ProfileFormat, ProfileOutput};

/// A command of `arctos ctl`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CtlCommand {
    /// The verb to send.
    pub verb: Verb,
    /// Whether status or quarantine is printed as the JSON of the server (`--json`).
    pub is_json: bool,
    /// How a profile is shown.
    pub profile: ProfileOutput,
    /// The admin socket of the server.
    pub server: BindAddress,
}

/// Why a command failed. The message is for standard error, after "error: ".
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// There is no server, or it cannot be connected to.
    #[error("cannot reach the server at {server}: {}", ErrorText(.source))]
    Unreachable {
        /// The address of the admin socket.
        server: BindAddress,
        /// The error of connect(2) or of the resolver.
        source: io::Error,
    },
    /// The response does not arrive, or not completely.
    #[error("the server at {server} does not answer: {}", ErrorText(.source))]
    Unanswered {
        /// The address of the admin socket.
        server: BindAddress,
        /// The error of the socket.
        source: io::Error,
    },
    /// The response is not from an admin socket.
    #[error(
        "{server} does not answer as the admin socket of arctos does; is it where the application is \
         served, or another server's?"
    )]
    Unknown {
        /// The address of the admin socket.
        server: BindAddress,
    },
    /// The server was stopped, or refuses this client.
    #[error("the server at {server} has closed the connection without an answer")]
    Closed {
        /// The address of the admin socket.
        server: BindAddress,
    },
    /// The server refuses the verb.
    #[error("the server at {server} answers {status}: {text}")]
    Refused {
        /// The address of the admin socket.
        server: BindAddress,
        /// The HTTP status.
        status: u16,
        /// The first line of its response.
        text: String,
    },
    /// The file of `--output` cannot be written.
    #[error("cannot write {}: {}", path.display(), ErrorText(.source))]
    Unwritten {
        /// The file.
        path: PathBuf,
        /// The error of open(2) or write(2).
        source: io::Error,
    },
    /// The reload failed.
    #[error("the reload failed: {report}")]
    NotReloaded {
        /// The outcome, followed by the report of the failure.
        report: String,
    },
}

impl CtlError {
    /// The exit code, which is always 1.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::Configuration
    }
}

/// Carries out a command, and returns the text to print.
pub fn run(command: &CtlCommand) -> Result<String, CtlError> {
    let CtlCommand { verb, is_json, profile, server } = command;
    let unknown = || CtlError::Unknown { server: server.clone() };
    let target = verb.target();
    let get = || client::get(server, &target, ReadTimeout::Short)?.into_success(server);
    // Nothing is cut if the output is a pipe or a file.
    let width = || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into());
    match verb {
        Verb::Metrics => {
            let text = get()?;
            let samples = page::read(&text).ok_or_else(unknown)?;
            Ok(table::draw(&samples, &page::kinds(&text), width()))
        }
        Verb::Status => {
            let text = get()?;
            let table = overview::draw(&text, width()).ok_or_else(unknown)?;
            Ok(if *is_json { text } else { table })
        }
        Verb::Quarantine => {
            let text = get()?;
            let table = quarantine::draw(&text, width()).ok_or_else(unknown)?;
            Ok(if *is_json { text } else { table })
        }
        Verb::Livez | Verb::Readyz => get().map(|text| units::printable(&text)),
        Verb::Reload { wait: true } => {
            reloaded(client::post(server, &target, ReadTimeout::Unlimited)?, server)
        }
        Verb::Profile { .. } => {
            let response = client::post(server, &target, ReadTimeout::Unlimited)?;
            let taken = Profile::from_json(&response.into_success(server)?).ok_or_else(unknown)?;
            profile.show(&taken)
        }
        Verb::Reload { wait: false }
        | Verb::Stop { .. }
        | Verb::Scale { .. }
        | Verb::Dump { .. }
        | Verb::Recycle { .. }
        | Verb::Release { .. } => {
            let response = client::post(server, &target, ReadTimeout::Short)?;
            response.into_success(server).map(|text| units::printable(&text))
        }
    }
}

/// The outcome of a reload. With 409 the whole report is shown, because it says what to fix.
fn reloaded(response: CtlResponse, server: &BindAddress) -> Result<String, CtlError> {
    match response.status {
        409 => {
            let report = units::printable(response.body.trim_end());
            Err(CtlError::NotReloaded { report })
        }
        _ => response.into_success(server).map(|text| units::printable(&text)),
    }
}

#[cfg(test)]
mod tests;
