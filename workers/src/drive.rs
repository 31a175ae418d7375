//! The worker's hot path: one connection's steps, carried out until it has to wait.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};

use crate::access::{AccessLog, Entry, RequestLine};
use crate::application::{
    AppBody, AppError, Application, ClientGone, Content, Outlet, Request, RequestBody,
};
use crate::channel::{Channel, Record};
use crate::clock::Clock;
use crate::connection::{CloseManner, Connection, Cursor, ItemFate, Rules, Step};
use crate::fd::{self, Io};
use crate::fork_guard::{self, Private};
use crate::http::{Head, Persistence, ResponseHead, Status};
use crate::log::{Level, Log, Value};
use crate::metrics::{Block, Counter};
use crate::settings::Settings;
use crate::spool::Spool;

/// One read takes at most this; also the largest piece of a body that goes to the spool at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Calls, items and file pieces of one connection before the others get their turn.
const TURN_STEPS: u32 = 64;
/// Time one connection may use before the others get their turn.
const TURN_TIME: Duration = Duration::from_millis(5);
/// One sendfile(2) sends at most this.
const FILE_BYTES: u64 = 1 << 20;
/// Bytes that one connection may move before the others get their turn: a peer that is as fast as the
/// worker would otherwise hold it for a whole upload or download.
const TURN_BYTES: usize = 2 << 20;
/// Buffers of more than this are not kept for the next response.
const SPARE_BYTES: usize = 64 * 1024;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Bytes of the peer.
    Readable,
    /// Room in the socket.
    Writable,
    /// Nothing: it used up its turn.
    Again,
    /// It has ended.
    Closed(CloseManner),
}

/// What a worker works with: configuration, clock, counters, logs.
pub struct Desk {
    /// Limits, timeouts and options.
    pub settings: Settings,
    /// The worker's part of the board.
    pub block: &'static Block,
    /// The clock.
    pub clock: Clock,
    /// The log.
    pub log: Log,
    /// The access log.
    pub access: Option<AccessLog>,
    /// Whether connections may live on.
    pub persistence: Persistence,
    /// Requests called so far.
    pub sequence: u64,
    /// When the loop woke up: what waits since then waits for us.
    pub woke: Duration,
    spare: Option<Vec<u8>>,
}

/// Where requests are read and parsed: one buffer and one scratch head for all connections.
pub struct Reading {
    buffer: Box<[u8]>,
    head: Head,
}

impl Reading {
    /// A buffer that holds the longest head and more.
    pub fn new(settings: &Settings) -> Self {
        let size = BUFFER_BYTES.max(2 * settings.limits.head_bytes);
        Self { buffer: vec![0; size].into_boxed_slice(), head: Head::new() }
    }
}

impl Desk {
    /// A desk at the start of a worker's life.
    pub fn new(
        settings: Settings,
        block: &'static Block,
        log: Log,
        access: Option<AccessLog>,
    ) -> Self {
        let clock = Clock::start();
        let woke = clock.monotonic();
        Self {
            settings,
            block,
            clock,
            log,
            access,
            persistence: Persistence::KeepAlive,
            sequence: 0,
            woke,
            spare: None,
        }
    }

    /// Writes the access log's lines of this turn.
    pub fn flush_access_log(&mut self) {
        if let Some(access) = &mut self.access {
            let dropped = access.flush();
            if dropped > 0 {
                self.block.row.add(Counter::LogDropped, dropped);
            }
        }
    }

    /// Writes the access log to another file from now on. Without one it stays so: the supervisor gives
    /// one to workers that have one.
    pub fn replace_access_log(&mut self, file: OwnedFd) {
        if let Some(access) = &mut self.access {
            access.replace(file);
        }
    }

    /// Ends this process if it is a child that the application forked and did not end. Asked behind
    /// whatever runs code of the application's, before anything is counted or sent.
    pub fn leave_if_forked(&self) {
        if fork_guard::is_forked() {
            self.log.line(Level::Warning, "application.fork_returned", &[]);
            fork_guard::leave();
        }
    }

    /// What connections are held to at this moment.
    pub fn rules(&self) -> Rules<'_> {
        Rules {
            settings: &self.settings,
            date: self.clock.date(),
            row: &self.block.row,
            persistence: self.persistence,
        }
    }
}

/// Carries out what is due on one connection until it has to wait. `hung_up` says that the peer is
/// known to be gone, with a reset or without.
pub fn drive<A: Application>(
    app: &mut A,
    reading: &mut Reading,
    desk: &mut Desk,
    channel: &mut Channel<A::Body>,
    hung_up: bool,
) -> Pause {
    let turn_ends = desk.clock.now() + TURN_TIME;
    let (mut start, mut end) = (0, channel.pending.len());
    reading.buffer[..end].copy_from_slice(&channel.pending);
    channel.pending = Vec::new();
    let mut is_drained = false;
    let mut is_held_back = false;
    let mut steps_left = TURN_STEPS;
    let mut bytes_left = TURN_BYTES;
    let pause = loop {
        let has_had_its_turn = steps_left == 0 || desk.clock.now() > turn_ends;
        if has_had_its_turn && channel.conn.wants_the_application(start < end) {
            break Pause::Again;
        }
        let mut input = Cursor::new(&reading.buffer[start..end]);
        let step = channel.conn.step(&mut input, &mut reading.head, &desk.rules());
        start += input.taken();
        match step {
            Step::Read if is_drained || bytes_left == 0 => break Pause::Readable,
            Step::Read => {
                if start > 0 {
                    reading.buffer.copy_within(start..end, 0);
                    (start, end) = (0, end - start);
                }
                let room = &mut reading.buffer[end..];
                let room_bytes = room.len();
                match fd::receive(channel.socket.as_fd(), room) {
                    Io::Bytes(count) => {
                        end += count;
                        bytes_left = bytes_left.saturating_sub(count);
                        is_drained = count < room_bytes;
                        channel.progressed = true;
                        channel.conn.received();
                        desk.block.row.add(Counter::BytesIn, count as u64);
                        continue;
                    }
                    Io::Blocked => break Pause::Readable,
                    Io::Ended => channel.conn.ended(&desk.block.row),
                    Io::Failed => channel.conn.failed(&desk.block.row),
                }
            }
            Step::Store(bytes) => {
                if let Err(error) = store(channel, bytes, desk) {
                    refuse_unstored(channel, desk, &error);
                }
            }
            Step::Call { .. } | Step::CallGathered if hung_up => {
                if fd::has_failed(channel.socket.as_fd()) {
                    channel.conn.failed(&desk.block.row);
                } else {
                    channel.conn.ended(&desk.block.row);
                }
            }
            Step::Call { head_bytes, body } => {
                let body =
                    if body.is_empty() { RequestBody::Empty } else { RequestBody::Slice(body) };
                answer(app, desk, channel, head_bytes, &reading.head, body);
                steps_left = steps_left.saturating_sub(1);
            }
            Step::CallGathered => {
                call_gathered(app, desk, channel);
                steps_left = steps_left.saturating_sub(1);
            }
            Step::Pull => {
                pull(desk, channel);
                steps_left = steps_left.saturating_sub(1);
            }
            Step::Write { .. } | Step::SendFile { .. } if bytes_left == 0 => break Pause::Writable,
            Step::Write { parts, is_end } => {
                // Answers to pipelined requests leave together, as far as the requests came together.
                is_held_back = is_end && start < end;
                let send = if is_held_back { fd::send_ahead } else { fd::send };
                match send(channel.socket.as_fd(), parts) {
                    Io::Bytes(count) => {
                        bytes_left = bytes_left.saturating_sub(count);
                        channel.progressed = true;
                        desk.block.row.add(Counter::BytesOut, count as u64);
                        channel.conn.wrote(count, &desk.block.row);
                    }
                    Io::Blocked => break Pause::Writable,
                    Io::Ended | Io::Failed => channel.conn.failed(&desk.block.row),
                }
            }
            Step::SendFile { offset, length } => {
                match send_file(channel, desk, offset, length.min(FILE_BYTES)) {
                    Io::Blocked => break Pause::Writable,
                    Io::Bytes(count) => bytes_left = bytes_left.saturating_sub(count),
                    Io::Ended | Io::Failed => {}
                }
            }
            Step::Finish => finish(desk, channel),
            Step::ShutWrite => {
                // ENOTCONN: the peer was faster; the next read says so.
                let _ = shutdown(channel.socket.as_raw_fd(), Shutdown::Write);
                channel.conn.write_shut();
            }
            Step::Close(manner) => {
                if channel.called.is_some() {
                    book(desk, channel);
                }
                break Pause::Closed(manner);
            }
        }
    };
    if is_held_back {
        fd::push(channel.socket.as_fd());
    }
    if start < end {
        channel.pending = reading.buffer[start..end].to_vec();
    }
    if pause == Pause::Readable {
        channel.waited = None; // From here on it is the peer that takes its time.
    }
    pause
}

fn store<B: AppBody>(channel: &mut Channel<B>, bytes: &[u8], desk: &Desk) -> io::Result<()> {
    let settings = &desk.settings;
    channel
        .spool
        .get_or_insert_with(|| {
            Spool::new(settings.limits.body_memory_bytes, &settings.body_temp_dir)
        })
        .append(bytes)
}

/// A body that the disk does not take is answered, and is nobody else's trouble.
fn refuse_unstored<B: AppBody>(channel: &mut Channel<B>, desk: &Desk, error: &io::Error) {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let status = if is_full { Status(507) } else { Status(500) };
    let dir = desk.settings.body_temp_dir.display();
    let pairs = [("dir", Value::Display(&dir)), ("error", Value::Display(error))];
    desk.log.line(Level::Error, "request.body_not_stored", &pairs);
    channel.spool = None;
    channel.conn.refuse(status, &desk.rules());
}

fn call_gathered<A: Application>(app: &mut A, desk: &mut Desk, channel: &mut Channel<A::Body>) {
    let Some(gathered) = channel.conn.take_gathered() else { return };
    let body = match channel.spool.take() {
        None => RequestBody::Empty,
        Some(mut spool) => match spool.rewind() {
            Ok(()) => RequestBody::Spooled(spool),
            Err(error) => return refuse_unstored(channel, desk, &error),
        },
    };
    answer(app, desk, channel, &gathered.head_bytes, &gathered.head, body);
}

/// Calls the application and begins its reply.
fn answer<A: Application>(
    app: &mut A,
    desk: &mut Desk,
    channel: &mut Channel<A::Body>,
    head_bytes: &[u8],
    head: &Head,
    body: RequestBody<'_>,
) {
    desk.sequence += 1;
    channel.called = Some(desk.clock.now());
    let before = desk.clock.monotonic();
    let info = channel.conn.info().clone();
    let queue_wait = match channel.waited.take() {
        Some(in_kernel) => in_kernel + desk.clock.now().saturating_duration_since(info.accepted),
        None => before.saturating_sub(desk.woke),
    };
    let request =
        Request { head_bytes, head, body, conn: &info, sequence: desk.sequence, queue_wait };
    let method = head.method.of(head_bytes);
    let path = head.path.of(head_bytes);
    if desk.access.is_some() {
        channel.record = Some(Box::new(Record::of(head_bytes, head)));
    }
    if let Some(memory) = desk.spare.take() {
        channel.conn.outbox().lend(memory);
    }
    desk.block.begin_request(before, method, path);
    let rules = desk.rules();
    let mut wire =
        Wire { conn: &mut channel.conn, socket: channel.socket.as_fd(), rules, log: &desk.log };
    let answer = app.call(request, &mut wire);
    desk.leave_if_forked();
    match answer {
        Err(AppError::ClientGone) => channel.conn.failed(&desk.block.row),
        Err(AppError::Raised | AppError::NotStarted | AppError::Invalid | AppError::BodyLost) => {
            channel.conn.fail(&rules)
        }
        Ok(reply) => {
            let conn = &mut channel.conn;
            let fate = match reply.content {
                Content::Empty => {
                    conn.begin_reply(reply.head, Some(0), &rules);
                    conn.end_items();
                    ItemFate::Queued
                }
                Content::Whole(chunk) => {
                    conn.begin_reply(reply.head, Some(chunk.as_ref().len() as u64), &rules);
                    let fate = conn.push_item(chunk);
                    conn.end_items();
                    fate
                }
                Content::Stream(stream) => {
                    channel.body = Some(stream.rest);
                    conn.begin_reply(reply.head, stream.length, &rules);
                    if channel.record.is_none() {
                        channel.record = Some(Box::new(Record::of(head_bytes, head)));
                    }
                    stream.first.map_or(ItemFate::Queued, |first| conn.push_item(first))
                }
                Content::File(span) => {
                    channel.body = Some(span.owner);
                    channel.file = Some(Private::new(span.file));
                    conn.begin_reply(reply.head, Some(span.length), &rules);
                    conn.push_file(span.offset, span.length)
                }
            };
            note_fate(conn, fate, &desk.log, method, path);
        }
    }
    desk.clock.read();
    desk.block.end_request(desk.clock.monotonic());
}

/// Asks the application for its next item.
fn pull<B: AppBody>(desk: &mut Desk, channel: &mut Channel<B>) {
    let Some(body) = &mut channel.body else {
        channel.conn.end_items();
        return;
    };
    let (method, path): (&[u8], &[u8]) =
        channel.record.as_ref().map_or((&[], &[]), |record| (&record.method, &record.path));
    desk.block.begin_request(desk.clock.monotonic(), method, path);
    let rules = desk.rules();
    let mut wire =
        Wire { conn: &mut channel.conn, socket: channel.socket.as_fd(), rules, log: &desk.log };
    let item = body.pull(&mut wire);
    desk.leave_if_forked();
    match item {
        Ok(Some(chunk)) => {
            let fate = channel.conn.push_item(chunk);
            note_fate(&mut channel.conn, fate, &desk.log, method, path);
        }
        Ok(None) => channel.conn.end_items(),
        Err(AppError::ClientGone) => channel.conn.failed(&desk.block.row),
        Err(AppError::Raised | AppError::NotStarted | AppError::Invalid | AppError::BodyLost) => {
            channel.conn.fail(&rules)
        }
    }
    desk.clock.read();
    desk.block.end_request(desk.clock.monotonic());
}

/// An item that is not wanted ends the response: there is nothing more to ask the application for.
fn note_fate<C: AsRef<[u8]>>(
    conn: &mut Connection<C>,
    fate: ItemFate,
    log: &Log,
    method: &[u8],
    path: &[u8],
) {
    match fate {
        ItemFate::Queued => {}
        ItemFate::Unwanted => conn.end_items(),
        ItemFate::Overlong => {
            let pairs = [("method", Value::Bytes(method)), ("path", Value::Bytes(path))];
            log.line(Level::Warning, "response.longer_than_content_length", &pairs);
            conn.end_items();
        }
    }
}

fn send_file<B: AppBody>(channel: &mut Channel<B>, desk: &Desk, offset: u64, length: u64) -> Io {
    let row = &desk.block.row;
    let outcome = match &channel.file {
        Some(file) => fd::send_file(channel.socket.as_fd(), file.as_fd(), offset, length),
        None => Io::Ended,
    };
    match outcome {
        Io::Bytes(count) => {
            channel.progressed = true;
            row.add(Counter::BytesOut, count as u64);
            row.add(Counter::RespSendfileBytes, count as u64);
            channel.conn.wrote_file(count as u64, row);
        }
        Io::Blocked => {}
        // The file was cut short under us: the promise cannot be kept.
        Io::Ended => channel.conn.fail(&desk.rules()),
        Io::Failed => channel.conn.failed(row),
    }
    outcome
}

/// Books the reply's duration and its line in the access log, also where it was broken off.
fn book<B: AppBody>(desk: &mut Desk, channel: &mut Channel<B>) {
    // A refusal of ours has none: no application was called.
    let duration = channel.called.take().map(|called| desk.clock.now() - called);
    if let (Some(access), Some((status, body_bytes))) = (&mut desk.access, channel.conn.reply()) {
        let record = channel.record.as_deref();
        access.record(&Entry {
            at: desk.clock.wall(),
            peer: &channel.conn.info().peer,
            request: record.map(Record::request_line),
            status,
            body_bytes,
            referer: record.and_then(|record| record.referer.as_deref()),
            user_agent: record.and_then(|record| record.user_agent.as_deref()),
            duration: duration.unwrap_or_default(),
        });
    }
    if let Some(duration) = duration {
        desk.block.request_duration.record(duration);
    }
}

fn finish<B: AppBody>(desk: &mut Desk, channel: &mut Channel<B>) {
    book(desk, channel);
    if channel.conn.parts_at_once() && fd::has_unread(channel.socket.as_fd()) {
        channel.conn.overhear();
    }
    channel.conn.finish(&desk.block.row);
    channel.close_reply();
    desk.leave_if_forked();
    if let Some(memory) = channel.conn.outbox().reclaim()
        && memory.capacity() <= SPARE_BYTES
    {
        desk.spare = Some(memory);
    }
}

impl Record {
    fn of(head_bytes: &[u8], head: &Head) -> Self {
        Self {
            method: head.method.of(head_bytes).into(),
            path: head.path.of(head_bytes).into(),
            version: head.version,
            referer: head.find(head_bytes, "referer").map(Into::into),
            user_agent: head.find(head_bytes, "user-agent").map(Into::into),
        }
    }

    fn request_line(&self) -> RequestLine<'_> {
        RequestLine { method: &self.method, path: &self.path, version: self.version }
    }
}

/// What `write()` writes to.
struct Wire<'w, C> {
    conn: &'w mut Connection<C>,
    socket: BorrowedFd<'w>,
    rules: Rules<'w>,
    log: &'w Log,
}

impl<C: AsRef<[u8]>> Outlet for Wire<'_, C> {
    fn write(&mut self, head: &ResponseHead, data: &[u8]) -> Result<(), ClientGone> {
        if fork_guard::is_forked() {
            return Err(ClientGone); // the descriptor is closed here, and its number may be another's
        }
        let row = self.rules.row;
        self.conn.begin_reply(head, None, &self.rules);
        match self.conn.push_bytes(data) {
            ItemFate::Queued | ItemFate::Unwanted => {}
            ItemFate::Overlong => {
                self.log.line(Level::Warning, "response.longer_than_content_length", &[]);
            }
        }
        while !self.conn.outbox().is_empty() {
            match fd::send(self.socket, self.conn.outbox().parts()) {
                Io::Bytes(count) => {
                    row.add(Counter::BytesOut, count as u64);
                    self.conn.wrote(count, row);
                }
                Io::Blocked => break,
                Io::Ended | Io::Failed => {
                    self.conn.failed(row);
                    return Err(ClientGone);
                }
            }
        }
        if self.conn.is_replying() { Ok(()) } else { Err(ClientGone) }
    }
}
