//! The admin socket: HTTP/1.1 for operators, served by the supervisor between its other duties.
//!
//! Owns its listeners and connections: a few, small, short. A question that was read whole is handed out
//! with a number, and its answer may come later. Never blocks; a peer that is slow or says nothing loses
//! its connection. What the answers are is not decided here.

pub mod prometheus;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::PollFlags;

use crate::address::BindAddress;
use crate::listener::ListenError;

/// Names one question until it is answered or its peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuestionId(pub u64);

/// A request that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// To be given back with the answer.
    pub id: QuestionId,
    /// GET, HEAD, POST: other methods are answered here.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// What follows the first `?`; empty without one.
    pub query: String,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Look.
    Get,
    /// Look at the head alone.
    Head,
    /// Do.
    Post,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Three digits.
    pub status: u16,
    /// Of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A few words for a person.
    pub fn plain(status: u16, words: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: words.to_owned() }
    }
}

/// The socket and its connections.
pub struct Admin {}

impl Admin {
    /// Binds all addresses: unix sockets for the owner alone (mode 0600), TCP where it is asked for.
    pub fn bind(_addresses: &[BindAddress]) -> Result<Self, ListenError> {
        Ok(Self {})
    }

    /// Where it can be reached, for the log; empty when it cannot.
    pub fn descriptions(&self) -> Vec<String> {
        Vec::new()
    }

    /// What [`Admin::turn`] waits for.
    pub fn awaited(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        Vec::new()
    }

    /// When [`Admin::turn`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Accepts, reads, writes, gives up on who is late; what was asked.
    pub fn turn(&mut self, _now: Instant) -> Vec<Question> {
        Vec::new()
    }

    /// Answers a question; nothing happens when its peer has gone.
    pub fn answer(&mut self, _id: QuestionId, _answer: Answer) {}
}
