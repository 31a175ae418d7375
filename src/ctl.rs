//! `arctos ctl`: asks a running server, through its admin socket, and shows the answer to a person.
//!
//! A client like any other: all that it knows of the server comes over HTTP, so it may be of another
//! version. What it does not know of the answer it leaves out; scrapers get everything.
//!
//! | file | owns |
//! |---|---|
//! | `client` | one request over TCP or a unix socket |
//! | `page` | reads Prometheus' text format |
//! | `table` | samples as a table for people |

mod client;
mod page;
mod table;

use std::io;

use crate::address::BindAddress;
use crate::error::ExitCode;

/// What can be asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `metrics`.
    Metrics,
}

impl Verb {
    /// All of them, in the order of the help.
    pub const ALL: [Self; 1] = [Self::Metrics];

    /// How it is written.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
        }
    }

    /// What it does, in one sentence.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Metrics => "Shows all metrics, in total and worker by worker",
        }
    }
}

/// What the command line of `arctos ctl` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What to do.
    pub verb: Verb,
    /// The admin socket of the server.
    pub server: BindAddress,
}

/// Why a server could not be asked, or did not do it. The message is for standard error, after "error: ".
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// Nobody is there, or nobody who lets us in.
    #[error("cannot reach the server at {server}: {source}")]
    Unreachable {
        /// Where.
        server: BindAddress,
        /// What the kernel or the resolver says.
        source: io::Error,
    },
    /// Somebody is there and says nothing, or stops in between.
    #[error("the server at {server} does not answer: {source}")]
    Unanswered {
        /// Where.
        server: BindAddress,
        /// What the kernel says.
        source: io::Error,
    },
    /// What came is no answer of an admin socket.
    #[error(
        "{server} does not answer as the admin socket of arctos does; is it where the application is \
         served, or another server's?"
    )]
    Strange {
        /// Where.
        server: BindAddress,
    },
    /// The server says no.
    #[error("the server at {server} answers {status}: {words}")]
    Refused {
        /// Where.
        server: BindAddress,
        /// HTTP's status.
        status: u16,
        /// Its own words.
        words: String,
    },
}

impl CtlError {
    /// The exit code: always 1.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::Configuration
    }
}

/// Does it; what is to be printed.
pub fn obey(order: &Order) -> Result<String, CtlError> {
    match order.verb {
        Verb::Metrics => {
            let text = client::get(&order.server, "/metrics")?;
            let strange = || CtlError::Strange { server: order.server.clone() };
            let samples = page::read(&text).ok_or_else(strange)?;
            // Nothing is cut for who reads it from a pipe or a file.
            let width = terminal_size::terminal_size_of(io::stdout());
            Ok(table::draw(&samples, width.map(|(width, _)| usize::from(width.0))))
        }
    }
}
