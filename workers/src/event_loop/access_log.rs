//! The access log: one line per response, in the format of [`AccessFormat`].
//!
//! Lines are collected in a buffer that the event loop flushes once per turn, with a write(2) that never blocks, or a
//! send(2) for each line if they go to syslog. What a slow reader does not take stays in the buffer. When that is full,
//! lines are dropped and counted.
//!
//! Not every request has a line: [`Filter`] decides.

mod basic_user;
mod buffer;
mod contents;
mod filter;
mod fixed;
mod layout;
mod losses;
mod selected;
mod syslog;
mod values;

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Instant, SystemTime};

use nix::errno::Errno;

use crate::event_loop::finished_request::FinishedRequest;
use crate::process::fork_guard::{self, FdGuard};
use crate::settings::{AccessFormat, Field, Settings, SyslogSettings};
use crate::shared::identity::{Generation, SlotId};
use crate::shared::log::sink::{Sink, Written};
use crate::shared::log::timestamp::Timestamp;
use crate::shared::log::{Log, LogFormat};

use buffer::LineBuffer;
use contents::{Moment, Origin};
use filter::Filter;
use syslog::{Remedy, Syslog};
use values::since_epoch;

pub use buffer::{LossCause, Lost};
pub use losses::Losses;

/// The access log of one worker.
pub struct AccessLog {
    /// Declared before the sink, because it has to be dropped first.
    guard: FdGuard,
    sink: Sink,
    /// What each line begins with, if it is a message to syslog.
    syslog: Option<Syslog>,
    syslog_settings: SyslogSettings,
    format: AccessFormat,
    filter: Filter,
    buffer: LineBuffer,
    dates: Dates,
    origin: Origin,
}

/// The last second that was written, in the formats of the log. Formatting it costs as much as the rest of a line.
#[derive(Default)]
struct Dates {
    common: Date,
    rfc3339: Date,
}

impl Dates {
    /// The second of this moment in the Common Log Format.
    fn common(&mut self, at: SystemTime) -> &[u8] {
        self.common.of(at, Timestamp::common_log)
    }

    /// The same in the format of RFC 3339.
    fn rfc3339(&mut self, at: SystemTime) -> &[u8] {
        self.rfc3339.of(at, Timestamp::rfc3339_second)
    }

    fn moment(&mut self, at: SystemTime) -> Moment<'_> {
        let Self { common, rfc3339 } = self;
        let common = common.of(at, Timestamp::common_log);
        Moment { at, common, rfc3339: rfc3339.of(at, Timestamp::rfc3339_second) }
    }
}

#[derive(Default)]
struct Date {
    second: Option<u64>,
    text: Vec<u8>,
}

impl Date {
    /// The second of this moment, written by `write` unless it is the last one.
    fn of(&mut self, at: SystemTime, write: fn(Timestamp, &mut Vec<u8>)) -> &[u8] {
        let second = since_epoch(at).as_secs();
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            write(Timestamp::from(at), &mut self.text);
        }
        &self.text
    }
}

/// A buffer above this is flushed before the end of the turn. With the longest line of a format of arctos it stays below
/// 64 KB.
const FULL_BYTES: usize = 32 * 1024;

impl AccessLog {
    /// The access log of a worker, if it has one.
    pub fn of(
        fd: Option<OwnedFd>,
        log: &Log,
        settings: &Settings,
        identity: (SlotId, Generation),
    ) -> Option<Self> {
        Some(Self::new(fd?, log.format(), settings, identity))
    }

    /// An access log that writes to `fd`: a file, or a pipe or socket whose reader may be slow. `log_format` is its
    /// format if the settings have none.
    fn new(
        fd: OwnedFd,
        log_format: LogFormat,
        settings: &Settings,
        (slot, generation): (SlotId, Generation),
    ) -> Self {
        let buffer = LineBuffer::with_capacity(2 * FULL_BYTES);
        fork_guard::forget(fd.as_fd()); // The sink may reopen it under another number.
        let access = &settings.access_log;
        let sink = Sink::new(fd);
        Self {
            guard: FdGuard::of(sink.as_fd()),
            syslog: Syslog::of(sink.as_fd(), &access.syslog),
            sink,
            syslog_settings: access.syslog.clone(),
            format: access.format.clone().unwrap_or(match log_format {
                LogFormat::Text => AccessFormat::Text,
                LogFormat::Json => AccessFormat::Json,
            }),
            filter: Filter::new(access),
            buffer,
            dates: Dates::default(),
            origin: Origin {
                slot,
                generation,
                pid: std::process::id(),
                root_path: settings.root_path.as_bytes().to_vec(),
            },
        }
    }

    /// Whether lines have the identifiers of requests.
    pub fn names_requests(&self) -> bool {
        self.format.has(Field::RequestId)
    }

    /// Whether lines have the time of all calls of the application, also of the last one, which closes its iterable.
    pub fn names_application_time(&self) -> bool {
        self.format.has(Field::ApplicationMs)
    }

    /// Writes to `fd` from now on: the reopened log. Collected lines go to the old file as far as that takes them,
    /// and to the new one otherwise.
    pub fn replace(&mut self, fd: OwnedFd) {
        self.write();
        self.buffer.restart_line();
        let sink = Sink::new(fd);
        self.guard = FdGuard::of(sink.as_fd());
        self.syslog = Syslog::of(sink.as_fd(), &self.syslog_settings);
        self.sink = sink;
    }

    /// Adds one line for a request that was finished `at` this time. A full buffer is flushed first; if that does not
    /// help, the line is dropped. A request without a status has no line.
    pub fn record(&mut self, finished: &FinishedRequest<'_>, at: SystemTime) {
        let Some(status) = finished.status else { return };
        if !self.filter.passes(status, finished.line.and_then(|line| line.path)) {
            return;
        }
        if self.buffer.len() >= FULL_BYTES {
            self.write();
            if self.buffer.len() >= FULL_BYTES {
                self.buffer.refuse();
                return;
            }
        }
        let out = self.buffer.open_line();
        if let Some(syslog) = &self.syslog {
            syslog.head(out, at);
        }
        match &self.format {
            AccessFormat::Text => fixed::combined(out, finished, self.dates.common(at)),
            AccessFormat::Json => fixed::json(out, finished, at, self.dates.rfc3339(at)),
            AccessFormat::Line(format) => {
                selected::line(out, format, finished, &self.dates.moment(at), &self.origin);
            }
            AccessFormat::Object(format) => {
                selected::object(out, format, finished, &self.dates.moment(at), &self.origin);
            }
        }
    }

    /// Writes the collected lines, and returns those that were lost since the last flush. Makes no system call if
    /// there is nothing to write.
    pub fn flush(&mut self) -> Option<Lost> {
        self.write();
        self.buffer.take_lost()
    }

    fn write(&mut self) {
        if self.syslog.is_some() {
            return self.send();
        }
        while self.buffer.len() > 0 {
            match self.sink.write(self.buffer.piece(self.sink.piece_bytes())) {
                Written::Bytes(count) => self.buffer.wrote(count),
                Written::Blocked => break,
                Written::Failed(errno) => self.buffer.fail(errno),
            }
        }
    }

    /// Sends each line as a message of its own.
    fn send(&mut self) {
        let Some(syslog) = &mut self.syslog else { return };
        let mut is_repeated = false;
        while let Some(line) = self.buffer.first_line() {
            let errno = match self.sink.write(line) {
                Written::Bytes(_) => {
                    self.buffer.sent_line();
                    is_repeated = false;
                    continue;
                }
                Written::Blocked => break,
                // After the first error, the socket has no peer any more.
                Written::Failed(Errno::ENOTCONN) => Errno::ECONNREFUSED,
                Written::Failed(errno) => errno,
            };
            match syslog.remedy(self.sink.as_fd(), errno, is_repeated, Instant::now()) {
                Remedy::Drop => {
                    self.buffer.lose_line(errno);
                    is_repeated = false;
                }
                Remedy::RepeatAfterLoss => {
                    self.buffer.lose_sent(errno);
                    is_repeated = true;
                }
                Remedy::Repeat => is_repeated = true,
            }
        }
    }
}

#[cfg(test)]
mod tests;
