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

use crate::connection::ClientName;
use crate::event_loop::finished_request::{FinishedRequest, LoggedRequestLine};
use crate::http::Version;
use crate::process::fork_guard::{self, FdGuard};
use crate::shared::log::LogFormat;
use crate::shared::log::escape::{Style, cut, escape};
use crate::shared::log::sink::{Sink, Written};
use crate::shared::log::timestamp::Timestamp;

use buffer::LineBuffer;

pub use buffer::{LossCause, Lost};
pub use losses::Losses;

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

    /// Whether lines have the identifiers of requests. Only JSON has them: the text format has a fixed number of
    /// columns.
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

    /// Adds one line for a request that was finished `at` this time. A full buffer is flushed first; if that does not
    /// help, the line is dropped. A request without a status has no line.
    pub fn record(&mut self, finished: &FinishedRequest<'_>, at: SystemTime) {
        if finished.status.is_none() {
            return;
        }
        if self.buffer.len() >= FULL_BYTES {
            self.write();
            if self.buffer.len() >= FULL_BYTES {
                self.buffer.refuse();
                return;
            }
        }
        self.date.follow(at, self.format);
        match self.format {
            LogFormat::Text => combined(self.buffer.open_line(), finished, &self.date.text),
            LogFormat::Json => json(self.buffer.open_line(), finished, at, &self.date.text),
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
fn combined(out: &mut Vec<u8>, finished: &FinishedRequest<'_>, date: &[u8]) {
    let start = out.len();
    address(out, finished.client, Style::Quoted);
    if out.len() == start {
        out.push(b'-');
    }
    out.extend_from_slice(b" - - [");
    out.extend_from_slice(date);
    out.extend_from_slice(b"] \"");
    match finished.line {
        Some(LoggedRequestLine { method, path, version, .. }) => {
            value(out, method, Style::Quoted);
            for part in [path, version.map(version_name)].into_iter().flatten() {
                out.push(b' ');
                value(out, part, Style::Quoted);
            }
        }
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" ");
    number(out, finished.status.map_or(0, |status| status.0).into());
    out.push(b' ');
    number(out, finished.body_bytes);
    for field in [finished.referer.map(without_query), finished.user_agent] {
        out.extend_from_slice(b" \"");
        value(out, field.unwrap_or(b"-"), Style::Quoted);
        out.push(b'"');
    }
    out.push(b' ');
    milliseconds(out, finished.phases.duration);
    if let Some(reason) = finished.refused {
        // Ignored, here and below: writing to a vector cannot fail.
        let _ = write!(out, " \"{reason}\"");
    }
    out.push(b'\n');
}

/// The same as a JSON object, without what is missing.
fn json(out: &mut Vec<u8>, finished: &FinishedRequest<'_>, at: SystemTime, date: &[u8]) {
    out.extend_from_slice(b"{\"time\":\"");
    out.extend_from_slice(date);
    thousandths(out, since_epoch(at).subsec_millis());
    out.extend_from_slice(b"Z\",\"remote_addr\":\"");
    address(out, finished.client, Style::Json);
    out.push(b'"');
    if let Some(LoggedRequestLine { method, path, version, .. }) = finished.line {
        json_text(out, "method", method);
        if let Some(path) = path {
            json_text(out, "path", path);
        }
        if let Some(version) = version {
            json_text(out, "protocol", version_name(version));
        }
    }
    out.extend_from_slice(b",\"status\":");
    number(out, finished.status.map_or(0, |status| status.0).into());
    out.extend_from_slice(b",\"body_bytes\":");
    number(out, finished.body_bytes);
    if let Some(referer) = finished.referer {
        json_text(out, "referer", without_query(referer));
    }
    if let Some(user_agent) = finished.user_agent {
        json_text(out, "user_agent", user_agent);
    }
    out.extend_from_slice(b",\"duration_ms\":");
    milliseconds(out, finished.phases.duration);
    if let Some(request_id) = finished.labels.request_id {
        json_text(out, "request_id", request_id);
    }
    if let Some(reason) = finished.refused {
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
