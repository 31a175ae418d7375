//! `arctos ctl`: asks a running server, through its admin socket, and shows the answer to a person.
//!
//! A client like any other: all that it knows of the server comes over HTTP, so it may be of another
//! version. What it does not know of the answer it leaves out; scrapers get everything.
//!
//! | file | owns |
//! |---|---|
//! | `client` | one request over TCP or a unix socket |
//! | `page` | reads Prometheus' text format |
//! | `spread` | a histogram's percentiles |
//! | `table` | samples as a table for people |
//! | `overview` | the server and its workers as a table for people |
//! | `units` | times and sizes for people, and texts that do nothing to a terminal |

pub(crate) mod client;
pub(crate) mod distribution;
pub(crate) mod overview;
pub(crate) mod page;
mod table;
pub(crate) mod units;

use std::io;

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::log::Words;

use crate::admin::verb::Haste;
use crate::system::address::BindAddress;
use crate::system::exit_code::ExitCode;

use client::{Answer, Patience};

/// What can be asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// `status`.
    Status {
        /// As the server says it, for programs.
        json: bool,
    },
    /// `reload`.
    Reload {
        /// Until it has ended.
        wait: bool,
    },
    /// `stop`.
    Stop {
        /// How.
        haste: Haste,
    },
    /// `scale N`.
    Scale {
        /// To so many.
        workers: u16,
    },
    /// `dump SLOT`.
    Dump {
        /// Which worker.
        slot: SlotId,
    },
    /// `recycle SLOT`.
    Recycle {
        /// Which worker.
        slot: SlotId,
    },
    /// `metrics`.
    Metrics,
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
    #[error("cannot reach the server at {server}: {}", Words(.source))]
    Unreachable {
        /// Where.
        server: BindAddress,
        /// What the kernel or the resolver says.
        source: io::Error,
    },
    /// Somebody is there and says nothing, or stops in between.
    #[error("the server at {server} does not answer: {}", Words(.source))]
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
    /// It was stopped, or does not let us in.
    #[error("the server at {server} has closed the connection without an answer")]
    Closed {
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
    /// The reload came to another end than it should.
    #[error("the reload failed: {report}")]
    NotReloaded {
        /// The outcome, and below it what the new code or the configuration had to say.
        report: String,
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
    let server = &order.server;
    let strange = || CtlError::Strange { server: server.clone() };
    let get = |target| client::get(server, target, Patience::Short);
    let post = |target: &str| {
        let answer = client::post(server, target, Patience::Short)?;
        answer.of_success(server).map(|words| units::printable(&words))
    };
    // Nothing is cut for who reads it from a pipe or a file.
    let width = || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0.into());
    match order.verb {
        Verb::Metrics => {
            let text = get("/metrics")?.of_success(server)?;
            let samples = page::read(&text).ok_or_else(strange)?;
            Ok(table::draw(&samples, width()))
        }
        Verb::Status { json } => {
            let text = get("/status")?.of_success(server)?;
            let page = overview::draw(&text, width()).ok_or_else(strange)?;
            Ok(if json { text } else { page })
        }
        Verb::Reload { wait: false } => post("/reload"),
        Verb::Reload { wait: true } => {
            let answer = client::post(server, "/reload?wait=1", Patience::Endless)?;
            reloaded(answer, server)
        }
        Verb::Stop { haste: Haste::Graceful } => post("/stop"),
        Verb::Stop { haste: Haste::Quick } => post("/stop?quick=1"),
        Verb::Scale { workers } => post(&format!("/scale?workers={workers}")),
        Verb::Dump { slot } => post(&format!("/dump?slot={}", slot.0)),
        Verb::Recycle { slot } => post(&format!("/recycle?slot={}", slot.0)),
    }
}

/// 409 says how the reload ended, if it was begun; its report is for the eyes of who fixes the code.
fn reloaded(answer: Answer, server: &BindAddress) -> Result<String, CtlError> {
    match answer.status {
        409 => {
            let report = units::printable(answer.body.trim_end());
            Err(CtlError::NotReloaded { report })
        }
        _ => answer.of_success(server).map(|words| units::printable(&words)),
    }
}

#[cfg(test)]
mod tests;
