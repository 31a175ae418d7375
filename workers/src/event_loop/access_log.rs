//! The access log: one line per response, in the Combined Log Format followed by the duration, or as a JSON object.
//!
//! Lines are collected in a buffer that the event loop flushes once per turn, with a write(2) that never blocks.
//! What a slow reader does not take stays in the buffer. When that is full, lines are dropped and counted.
//!
//! Secrets stay out of the log: it contains no query string, neither of the request nor of the referer, and no user
//! of an Authorization field (the third column is always `-`).

mod buffer;
mod losses;

use std::io::Write;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::connection::{ClientName, RefusalReason};
use crate::http::{PartialHead, Status, Version};
use crate::process::fork_guard::{self, FdGuard};
use crate::shared::log::LogFormat;
use crate::shared::log::escape::{Style, cut, escape};
use crate::shared::log::sink::{Sink, Written};
use crate::shared::log::timestamp::Timestamp;

use buffer::LineBuffer;

pub use buffer::{LossCause, Lost};
pub use losses::Losses;

/// One line: a request and its response.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the other fields are those of the request")]
pub struct AccessLogEntry<'a> {
    /// When the request was complete.
    pub at: SystemTime,
    /// Who sent the request: the peer, or the client that a trusted proxy names.
    pub client: ClientName<'a>,
    /// The first line of the request; `None` if it could not be read.
    pub request: Option<LoggedRequestLine<'a>>,
    /// The status that was sent.
    pub status: Status,
    /// The number of body bytes sent, without their framing.
    pub body_bytes: u64,
    pub referer: Option<&'a [u8]>,
    pub user_agent: Option<&'a [u8]>,
    /// From the call of the application until the kernel took the last byte; zero if it was not called.
    pub duration: Duration,
    /// The application's own identifier of the request. Only JSON has it: the text format has a fixed number of
    /// columns.
    pub request_id: Option<&'a [u8]>,
    /// The rule that the request broke, if it was refused. It is at the end of the line.
    pub refused: Option<RefusalReason>,
}

/// The first line of a request without its query, as far as it could be read.
#[derive(Clone, Copy)]
#[expect(missing_docs, reason = "the fields are those of the request")]
pub struct LoggedRequestLine<'a> {
    pub method: &'a [u8],
    /// The path as sent: [`crate::http::Head::path`].
    pub path: Option<&'a [u8]>,
    pub version: Option<Version>,
}

impl<'a> LoggedRequestLine<'a> {
    /// The first line of a refused request; `None` if its method could not be read.
    pub fn of(part: &'a PartialHead) -> Option<Self> {
        let method = part.method.as_deref()?;
        Some(Self { method, path: part.path.as_deref(), version: part.version })
    }
}

/// The access log of one worker.
pub struct AccessLog {
    /// Declared before the sink, because it has to be dropped first.
    guard: FdGuard,
    sink: Sink,
    format: LogFormat,
    buffer: LineBuffer,
    date: Date,
}

/// The last second that was written, in the format of the log. Formatting it costs as much as the rest of a line.
#[derive(Default)]
struct Date {
    second: Option<u64>,
    text: Vec<u8>,
}

impl Date {
    fn follow(&mut self, at: SystemTime, format: LogFormat) {
        let second = since_epoch(at).as_secs();
        if self.second == Some(second) {
            return;
        }
        self.second = Some(second);
        self.text.clear();
        match format {
            LogFormat::Text => Timestamp::from(at).common_log(&mut self.text),
            LogFormat::Json => Timestamp::from(at).rfc3339_second(&mut self.text),
        }
    }
}

/// A buffer above this is flushed before the end of the turn. With the longest line it stays below 64 KB.
const FULL_BYTES: usize = 32 * 1024;
/// The maximum length of a value before escaping, which makes at most six bytes of one.
const VALUE_BYTES: usize = 1024;

impl AccessLog {
    /// An access log that writes to `fd`: a file, or a pipe or socket whose reader may be slow.
    pub fn new(fd: OwnedFd, format: LogFormat) -> Self {
        let buffer = LineBuffer::with_capacity(2 * FULL_BYTES);
        fork_guard::forget(fd.as_fd()); // The sink may reopen it under another number.
        let sink = Sink::new(fd);
        let guard = FdGuard::of(sink.as_fd());
        Self { guard, sink, format, buffer, date: Date::default() }
    }

    /// Whether lines have [`AccessLogEntry::request_id`].
    pub fn names_requests(&self) -> bool {
        match self.format {
            LogFormat::Text => false,
            LogFormat::Json => true,
        }
    }

    /// Writes to `fd` from now on: the reopened log. Collected lines go to the old file as far as that takes them,
    /// and to the new one otherwise.
    pub fn replace(&mut self, fd: OwnedFd) {
        self.write();
        self.buffer.restart_line();
        let sink = Sink::new(fd);
        self.guard = FdGuard::of(sink.as_fd());
        self.sink = sink;
    }

    /// Adds one line. A full buffer is flushed first; if that does not help, the line is dropped.
    pub fn record(&mut self, entry: &AccessLogEntry<'_>) {
        if self.buffer.len() >= FULL_BYTES {
            self.write();
            if self.buffer.len() >= FULL_BYTES {
                self.buffer.refuse();
                return;
            }
        }
        self.date.follow(entry.at, self.format);
        match self.format {
            LogFormat::Text => combined(self.buffer.open_line(), entry, &self.date.text),
            LogFormat::Json => json(self.buffer.open_line(), entry, &self.date.text),
        }
    }

    /// Writes the collected lines, and returns those that were lost since the last flush. Makes no system call if
    /// there is nothing to write.
    pub fn flush(&mut self) -> Option<Lost> {
        self.write();
        self.buffer.take_lost()
    }

    fn write(&mut self) {
        while self.buffer.len() > 0 {
            match self.sink.write(self.buffer.piece(self.sink.piece_bytes())) {
                Written::Bytes(count) => self.buffer.wrote(count),
                Written::Blocked => break,
                Written::Failed(errno) => self.buffer.fail(errno),
            }
        }
    }
}

/// Writes `ADDRESS - - [DATE] "METHOD PATH VERSION" STATUS BYTES "REFERER" "USER-AGENT" MILLISECONDS`, followed by
/// `"REASON"` if the request was refused.
fn combined(out: &mut Vec<u8>, entry: &AccessLogEntry<'_>, date: &[u8]) {
    let start = out.len();
    address(out, entry.client, Style::Quoted);
    if out.len() == start {
        out.push(b'-');
    }
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(date);
    out.extend_from_slice(b"] \"");
    match entry.request {
        Some(LoggedRequestLine { method, path, version }) => {
            value(out, method, Style::Quoted);
            for part in [path, version.map(version_name)].into_iter().flatten() {
                out.push(b' ');
                value(out, part, Style::Quoted);
            }
        }
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" ");
    number(out, entry.status.0.into());
    out.push(b' ');
    number(out, entry.body_bytes);
    for field in [entry.referer.map(without_query), entry.user_agent] {
        out.extend_from_slice(b" \"");
        value(out, field.unwrap_or(b"-"), Style::Quoted);
        out.push(b'"');
    }
    out.push(b' ');
    milliseconds(out, entry.duration);
    if let Some(reason) = entry.refused {
        // Ignored, here and below: writing to a vector cannot fail.
        let _ = write!(out, " \"{reason}\"");
    }
    out.push(b'\n');
}

/// The same as a JSON object, without what is missing.
fn json(out: &mut Vec<u8>, entry: &AccessLogEntry<'_>, date: &[u8]) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(date);
    thousandths(out, since_epoch(entry.at).subsec_millis());
    out.extend_from_slice(b"Z\",\"remote_addr\":\"");
    address(out, entry.client, Style::Json);
    out.push(b'"');
    if let Some(LoggedRequestLine { method, path, version }) = entry.request {
        json_text(out, "method", method);
        if let Some(path) = path {
            json_text(out, "path", path);
        }
        if let Some(version) = version {
            json_text(out, "protocol", version_name(version));
        }
    }
    out.extend_from_slice(b",\"status\":");
    number(out, entry.status.0.into());
    out.extend_from_slice(b",\"body_bytes\":");
    number(out, entry.body_bytes);
    if let Some(referer) = entry.referer {
        json_text(out, "referer", without_query(referer));
    }
    if let Some(user_agent) = entry.user_agent {
        json_text(out, "user_agent", user_agent);
    }
    out.extend_from_slice(b",\"duration_ms\":");
    milliseconds(out, entry.duration);
    if let Some(request_id) = entry.request_id {
        json_text(out, "request_id", request_id);
    }
    if let Some(reason) = entry.refused {
        let _ = write!(out, ",\"reason\":\"{reason}\"");
    }
    out.extend_from_slice(b"}\n");
}

fn json_text(out: &mut Vec<u8>, key: &str, text: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":\"");
    value(out, text, Style::Json);
    out.push(b'"');
}

/// The address of the client without its port; nothing for an unnamed Unix peer.
fn address(out: &mut Vec<u8>, client: ClientName<'_>, style: Style) {
    match client {
        ClientName::Inet(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            number(out, a.into());
            for octet in [b, c, d] {
                out.push(b'.');
                number(out, octet.into());
            }
        }
        ClientName::Inet(IpAddr::V6(address)) => {
            let _ = write!(out, "{address}");
        }
        ClientName::Unix(path) => value(out, path.as_bytes(), style),
    }
}

fn value(out: &mut Vec<u8>, bytes: &[u8], style: Style) {
    let (kept, is_cut) = cut(bytes, VALUE_BYTES);
    escape(out, kept, style);
    if is_cut {
        out.extend_from_slice(b"[cut]");
    }
}

fn without_query(referer: &[u8]) -> &[u8] {
    let end = memchr::memchr2(b'?', b'#', referer).unwrap_or(referer.len());
    &referer[..end]
}

fn version_name(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    }
}

fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes milliseconds with three decimals. A duration that does not fit is written as the maximum.
fn milliseconds(out: &mut Vec<u8>, duration: Duration) {
    let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, us / 1000);
    thousandths(out, (us % 1000) as u32);
}

/// Writes a decimal point and three digits; `count` is below 1000.
fn thousandths(out: &mut Vec<u8>, count: u32) {
    let digit = |tens: u32| b'0' + (count / tens % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}

fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
