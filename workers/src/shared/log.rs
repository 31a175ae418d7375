//! The log writer: it never blocks, never panics, and makes one write(2) per line.
//!
//! A line is an event name and `key=value` pairs, or the same as a JSON object. A line that cannot be written at
//! once is dropped and counted, and the next line says so; `sink` knows how to write without blocking. Values may come
//! from any client, so they are escaped and cut: see `escape`.
//!
//! No crate does this without a thread of its own, which must not exist in a process that forks.
mod error_text;
pub(crate) mod escape;
mod paint;
pub(crate) mod sink;
pub(crate) mod throttle;
pub(crate) mod timestamp;

use std::fmt;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::shared::identity::{Generation, SlotId};
use crate::shared::scoreboard::{Counter, Counters};
use escape::{Style, cut, escape};
use sink::Sink;
use timestamp::Timestamp;

pub use paint::Paint;

pub use error_text::{ErrorText, without_error_numbers};

/// The importance of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Information for developers of arctos.
    Debug,
    /// Normal operation.
    Info,
    /// What the application writes without a level, to `wsgi.errors`. It is always logged, because only the
    /// application knows how important it is.
    Notice,
    /// Something an operator may want to change.
    Warning,
    /// Something failed.
    Error,
    /// The server cannot go on.
    Critical,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Critical => "CRITICAL",
        }
    }
}

/// The format of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// `2026-11-22T13:39:57.123Z INFO worker.ready slot=0 pid=71 generation=1`
    Text,
    /// One JSON object per line.
    Json,
}

/// A value of a line. Text is escaped, so that a line is always one line.
#[derive(Clone, Copy)]
pub enum Value<'a> {
    /// A number.
    Number(i64),
    /// A short text.
    Text(&'a str),
    /// Bytes from a client, shown as text with everything unprintable escaped.
    Bytes(&'a [u8]),
    /// Anything that implements `Display`.
    Display(&'a dyn fmt::Display),
}

/// The log of a process. Clones share the descriptor.
#[derive(Clone)]
pub struct Log {
    level: Level,
    format: LogFormat,
    paint: Paint,
    /// `None` discards everything.
    sink: Option<Arc<Sink>>,
    identity: Option<Identity>,
    drops: Drops,
    /// The pipe to which this process writes its stacks, for the supervisor to log.
    stacks: Option<&'static OwnedFd>,
}

/// The worker that writes, on every line of it.
#[derive(Clone, Copy)]
struct Identity {
    slot: SlotId,
    pid: u32,
    generation: Generation,
}

/// Where dropped lines are counted.
#[derive(Clone)]
enum Drops {
    Own(Arc<AtomicU64>),
    Counters(&'static Counters),
}

/// The maximum length of a value before escaping: the path of a request may have 8 KB.
pub(crate) const VALUE_BYTES: usize = 1024;
/// The maximum length of the text of a block before escaping is the sum of these. A longer text loses its middle: the
/// start of a traceback says where, and its end says what.
const BLOCK_HEAD_BYTES: usize = 4 * 1024;
const BLOCK_TAIL_BYTES: usize = 12 * 1024;
/// The maximum length of a text that is logged completely.
pub(crate) const BLOCK_BYTES: usize = BLOCK_HEAD_BYTES + BLOCK_TAIL_BYTES;
/// Replaces what was cut.
const CUT_MARK: &str = "[cut]";

impl Log {
    /// A log that writes lines of `level` and above to `fd`. A pipe or terminal is reopened, so the descriptor in use
    /// ([`Log::as_fd`]) may have another number.
    pub fn new(level: Level, format: LogFormat, fd: OwnedFd) -> Self {
        let sink = Some(Arc::new(Sink::new(fd)));
        Self {
            level,
            format,
            paint: Paint::Plain,
            sink,
            identity: None,
            drops: Drops::Own(Arc::default()),
            stacks: None,
        }
    }

    /// A log that discards everything, for tests and for embedded servers without a log.
    pub fn discard() -> Self {
        Self {
            level: Level::Critical,
            format: LogFormat::Text,
            paint: Paint::Plain,
            sink: None,
            identity: None,
            drops: Drops::Own(Arc::default()),
            stacks: None,
        }
    }

    /// The same log, whose lines in text format have these colors.
    #[must_use]
    pub fn with_paint(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }

    /// Whether its lines have colors.
    pub fn paint(&self) -> Paint {
        self.paint
    }

    /// Writes a text for a person as it is.
    pub fn text(&self, text: &str) {
        self.write(text.as_bytes());
    }

    /// The format of its lines.
    pub fn format(&self) -> LogFormat {
        self.format
    }

    /// The same log, with the identity of the worker on every line.
    #[must_use]
    pub fn with_identity(&self, slot: SlotId, pid: u32, generation: Generation) -> Self {
        // The parent of this process reports the lines that it has lost.
        let _ = self.sink.as_ref().map(|sink| sink.take_lost());
        Self { identity: Some(Identity { slot, pid, generation }), ..self.clone() }
    }

    /// The same log, which counts dropped lines as [`Counter::LogDropped`] of `counters`. Threads of the application log
    /// only while they hold the interpreter's lock, so the counters have a single writer.
    #[must_use]
    pub fn with_counters(&self, counters: &'static Counters) -> Self {
        Self { drops: Drops::Counters(counters), ..self.clone() }
    }

    /// The same log, of a process that writes its stacks to this pipe. The pipe stays open to the end of the process,
    /// because the signal handler that writes to its number stays, too: once it is closed, the number might belong to
    /// a file of the application.
    #[must_use]
    pub fn with_stacks_pipe(&self, pipe: Option<OwnedFd>) -> Self {
        let stacks = pipe.map(|pipe| &*Box::leak(Box::new(pipe)));
        Self { stacks, ..self.clone() }
    }

    /// Writes one line, if `level` is enabled: `log.line(Level::Info, "worker.ready", &[("slot", Value::Number(0))])`.
    pub fn line(&self, level: Level, event: &str, pairs: &[(&str, Value<'_>)]) {
        if self.is_enabled(level) {
            let line = self.format_line(SystemTime::now(), level, event, pairs, None);
            self.write(&line);
        }
    }

    /// Writes an event and, below it, a block of text such as a traceback, in one write. In JSON the text is one string,
    /// `text`. Otherwise its lines are indented, so that none of them looks like a log line.
    pub fn block(&self, level: Level, event: &str, pairs: &[(&str, Value<'_>)], text: &str) {
        if self.is_enabled(level) {
            let block = self.format_line(SystemTime::now(), level, event, pairs, Some(text));
            self.write(&block);
        }
    }

    /// Writes a block that was requested, whatever levels are enabled.
    pub fn block_at_any_level(&self, event: &str, pairs: &[(&str, Value<'_>)], text: &str) {
        if self.sink.is_some() {
            let now = SystemTime::now();
            let block = self.format_line(now, Level::Info, event, pairs, Some(text));
            self.write(&block);
        }
    }

    /// Whether lines of this level are written.
    pub fn is_enabled(&self, level: Level) -> bool {
        self.sink.is_some() && (level >= self.level || level == Level::Notice)
    }

    /// The number of dropped lines: of this log and its clones, or of the counters that it uses.
    pub fn dropped(&self) -> u64 {
        match &self.drops {
            Drops::Own(count) => count.load(Ordering::Relaxed),
            Drops::Counters(counters) => counters.get(Counter::LogDropped),
        }
    }

    /// The descriptor in use, for code that closes all others.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.sink.as_ref().map(|sink| sink.as_fd())
    }

    /// Where a signal handler writes stacks: the pipe for them, or the log if there is none.
    pub fn stacks_fd(&self) -> Option<BorrowedFd<'_>> {
        match self.stacks {
            Some(pipe) => Some(pipe.as_fd()),
            None => self.as_fd(),
        }
    }

    fn write(&self, line: &[u8]) {
        let Some(sink) = &self.sink else { return };
        let lost = sink.take_lost();
        let reports_loss = lost > 0 && self.is_enabled(Level::Warning);
        let is_written = if reports_loss {
            let lines = [("lines", Value::Number(i64::try_from(lost).unwrap_or(i64::MAX)))];
            let (now, level) = (SystemTime::now(), Level::Warning);
            let report = self.format_line(now, level, "log.lines_lost", &lines, None);
            sink.write_whole(&[&report, line].concat())
        } else {
            sink.write_whole(line)
        };
        if is_written {
            return;
        }
        sink.lose(if reports_loss { lost + 1 } else { 1 });
        match &self.drops {
            Drops::Own(count) => {
                count.fetch_add(1, Ordering::Relaxed);
            }
            Drops::Counters(counters) => counters.inc(Counter::LogDropped),
        }
    }

    fn format_line(
        &self,
        now: SystemTime,
        level: Level,
        event: &str,
        pairs: &[(&str, Value<'_>)],
        block: Option<&str>,
    ) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        match self.format {
            LogFormat::Text => {
                let (dim, level_color, bold) =
                    (self.paint.dim(), self.paint.level(level), self.paint.event());
                out.extend_from_slice(dim.0.as_bytes());
                Timestamp::from(now).rfc3339(&mut out);
                let name = level.name();
                // Ignored here and below: writing to a vector cannot fail.
                let _ = write!(out, "{} {}{name}{} ", dim.1, level_color.0, level_color.1);
                let _ = write!(out, "{}{event}{}", bold.0, bold.1);
                self.each_pair(pairs, |key, value| text_pair(&mut out, key, value, dim));
                out.push(b'\n');
                if let Some(block) = block {
                    text_block(&mut out, block);
                }
            }
            LogFormat::Json => {
                out.extend_from_slice(b"{\"time\":\"");
                Timestamp::from(now).rfc3339(&mut out);
                let _ = write!(out, "\",\"level\":\"{}\",\"event\":\"", level.name());
                escape(&mut out, event.as_bytes(), Style::Json);
                out.push(b'"');
                self.each_pair(pairs, |key, value| json_pair(&mut out, key, value));
                if let Some(block) = block {
                    json_block(&mut out, block);
                }
                out.extend_from_slice(b"}\n");
            }
        }
        out
    }

    fn each_pair(&self, pairs: &[(&str, Value<'_>)], mut write: impl FnMut(&str, Value<'_>)) {
        if let Some(identity) = self.identity {
            write("slot", Value::Number(identity.slot.0.into()));
            write("pid", Value::Number(identity.pid.into()));
            write("generation", Value::Number(identity.generation.0.into()));
        }
        for &(key, value) in pairs {
            write(key, value);
        }
    }
}

fn text_pair(out: &mut Vec<u8>, key: &str, value: Value<'_>, dim: (&str, &str)) {
    let _ = write!(out, " {}{key}={}", dim.0, dim.1);
    with_bytes(value, |value| match value {
        Plain::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Plain::Bytes(bytes) if needs_no_quotes(bytes) => out.extend_from_slice(bytes),
        Plain::Bytes(bytes) => quoted(out, bytes, Style::Quoted),
    });
}

fn json_pair(out: &mut Vec<u8>, key: &str, value: Value<'_>) {
    out.extend_from_slice(b",\"");
    escape(out, key.as_bytes(), Style::Json);
    out.extend_from_slice(b"\":");
    with_bytes(value, |value| match value {
        Plain::Number(number) => {
            let _ = write!(out, "{number}");
        }
        Plain::Bytes(bytes) => quoted(out, bytes, Style::Json),
    });
}

/// A [`Value`] that only needs to be written.
enum Plain<'a> {
    Number(i64),
    Bytes(&'a [u8]),
}

fn with_bytes(value: Value<'_>, write: impl FnOnce(Plain<'_>)) {
    match value {
        Value::Number(number) => write(Plain::Number(number)),
        Value::Text(text) => write(Plain::Bytes(text.as_bytes())),
        Value::Bytes(bytes) => write(Plain::Bytes(bytes)),
        Value::Display(display) => {
            let mut text = String::new();
            // Ignored: a `Display` that fails has written what it could. io::Write and to_string() would panic.
            let _ = fmt::Write::write_fmt(&mut text, format_args!("{display}"));
            write(Plain::Bytes(without_error_numbers(text).as_bytes()));
        }
    }
}

fn quoted(out: &mut Vec<u8>, bytes: &[u8], style: Style) {
    let (kept, is_cut) = cut(bytes, VALUE_BYTES);
    out.push(b'"');
    escape(out, kept, style);
    if is_cut {
        out.extend_from_slice(CUT_MARK.as_bytes());
    }
    out.push(b'"');
}

/// Whether a value needs no quotes.
fn needs_no_quotes(bytes: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\=".contains(byte);
    !bytes.is_empty() && bytes.len() <= VALUE_BYTES && bytes.iter().all(is_word)
}

fn text_block(out: &mut Vec<u8>, text: &str) {
    let (head, tail) = head_and_tail(text);
    for part in [Some(head), tail.map(|_| CUT_MARK), tail].into_iter().flatten() {
        for line in part.lines() {
            out.extend_from_slice(b"    ");
            escape(out, line.as_bytes(), Style::Line);
            out.push(b'\n');
        }
    }
}

fn json_block(out: &mut Vec<u8>, text: &str) {
    let (head, tail) = head_and_tail(text);
    out.extend_from_slice(b",\"text\":\"");
    escape(out, head.as_bytes(), Style::Json);
    if let Some(tail) = tail {
        escape(out, format!("\n{CUT_MARK}\n").as_bytes(), Style::Json);
        escape(out, tail.as_bytes(), Style::Json);
    }
    out.push(b'"');
}

/// A whole text, or its first and last part.
fn head_and_tail(text: &str) -> (&str, Option<&str>) {
    if text.len() <= BLOCK_BYTES {
        return (text, None);
    }
    let is_boundary = |index: &usize| text.is_char_boundary(*index);
    let head_end = (0..=BLOCK_HEAD_BYTES).rev().find(is_boundary).unwrap_or(0);
    let tail_start = (text.len() - BLOCK_TAIL_BYTES..).find(is_boundary).unwrap_or(text.len());
    (&text[..head_end], Some(&text[tail_start..]))
}

#[cfg(test)]
mod tests;
