//! Deadlines of connections: one queue per kind of timeout, each in order by construction.
//!
//! All deadlines of one kind lie the same [`std::time::Duration`] ahead of the moment they are set,
//! so a queue that is only appended to is sorted. A connection has at most one deadline of each kind;
//! setting it again moves it to the tail. Every operation is O(1): the queues are doubly linked lists
//! threaded through arrays that are indexed by the connection's place in the table.

use std::time::{Duration, Instant};

use crate::table::Token;

/// Which timeout a deadline belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Idle between requests ([`crate::settings::Timeouts::keep_alive`]).
    KeepAlive,
    /// Head incomplete.
    Head,
    /// Body stalled.
    Body,
    /// Body slower than the least rate: checked once a window.
    BodyRate,
    /// Response not progressing.
    Write,
    /// Closing, discarding what still comes.
    Linger,
}

impl Timer {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::KeepAlive, Self::Head, Self::Body, Self::BodyRate, Self::Write, Self::Linger];
}

/// The queues.
pub struct Deadlines {
    _durations: [Duration; 6],
}

impl Deadlines {
    /// Empty queues whose deadlines lie `duration(kind)` ahead.
    pub fn new(_duration: impl Fn(Timer) -> Duration) -> Self {
        todo!()
    }
    /// Sets (or moves) `token`'s deadline of this kind to `now` plus the kind's duration. `now` never
    /// decreases from call to call.
    pub fn set(&mut self, _timer: Timer, _token: Token, _now: Instant) {
        todo!()
    }
    /// Forgets one deadline; nothing happens if it is not set.
    pub fn clear(&mut self, _timer: Timer, _token: Token) {
        todo!()
    }
    /// Forgets all deadlines of a connection.
    pub fn clear_all(&mut self, _token: Token) {
        todo!()
    }
    /// The earliest deadline of all.
    pub fn next(&self) -> Option<Instant> {
        todo!()
    }
    /// Takes one deadline that has passed, if there is one.
    pub fn pop_expired(&mut self, _now: Instant) -> Option<(Timer, Token)> {
        todo!()
    }
    /// The connection that has waited longest in this queue.
    pub fn oldest(&self, _timer: Timer) -> Option<Token> {
        todo!()
    }
}
