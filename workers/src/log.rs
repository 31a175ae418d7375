//! The log writer: never blocks, never panics, one write(2) a line.
//!
//! A line is an event name and `key=value` pairs, or the same as a JSON object. A line that cannot be
//! written at once (poll(2) POLLOUT with no wait, then one write(2)) is dropped and counted.

use std::fmt;

/// How important a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For developers of arctos.
    Debug,
    /// Normal life.
    Info,
    /// Something an operator may want to change.
    Warning,
    /// Something failed.
    Error,
    /// The server cannot go on.
    Critical,
}

/// How a line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-22T13:39:57.123Z INFO worker.ready slot=0 pid=71 generation=1`
    Text,
    /// One JSON object a line.
    Json,
}

/// A value of a line. Text is escaped: a line is always one line.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A number.
    Number(i64),
    /// A short text.
    Text(&'a str),
    /// Bytes from outside, shown as text with everything unprintable escaped.
    Bytes(&'a [u8]),
    /// Anything that displays.
    Display(&'a dyn fmt::Display),
}

/// The process's log. Set up once (and again in each child after fork).
#[derive(Clone)]
pub struct Log {
    _private: (),
}

impl Log {
    /// f
    pub fn format(&self) -> LogFormat {
        todo!()
    }
    /// Writes one line, if `level` is enabled: `log.line(Level::Info, "worker.ready", &[("slot", Value::Number(0))])`.
    pub fn line(&self, _level: Level, _event: &str, _pairs: &[(&str, Value<'_>)]) {
        todo!()
    }
    /// Writes an event and a block of text below it (a traceback), as one piece.
    pub fn block(&self, _level: Level, _event: &str, _pairs: &[(&str, Value<'_>)], _text: &str) {
        todo!()
    }
    /// Whether lines of this level are written.
    pub fn is_enabled(&self, _level: Level) -> bool {
        todo!()
    }
}
