//! The worker's hot path: one connection's steps, carried out until it has to wait.

mod access_log;
mod context;
mod refused;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};

use crate::application::{
    AppBody, AppError, Application, ClientGone, Content, Outlet, Request, RequestBody,
};
use crate::connection::{CloseManner, Connection, Cursor, ItemFate, Rules, SocketName, Step};
use crate::event_loop::access_log::{Entry, RequestLine};
use crate::event_loop::client::{Channel, Record};
use crate::http::{Framing, Head, PartialHead, ResponseHead};
use crate::process::fork_guard::{self, Private};
use crate::settings::Settings;
use crate::shared::fd::{self, Io};
use crate::shared::log::{Level, Log, Value};
use crate::shared::scoreboard::Counter;
use crate::spool::Spool;

pub use context::Desk;

/// One read takes at most this; also the largest piece of a body that goes to the spool at once.
const BUFFER_BYTES: usize = 256 * 1024;
/// Calls, items and file pieces of one connection before the others get their turn.
const TURN_STEPS: u32 = 64;
/// Time one connection may use before the others get their turn.
pub(crate) const TURN_TIME: Duration = Duration::from_millis(5);
/// One sendfile(2) sends at most this.
const FILE_BYTES: u64 = 1 << 20;
/// Bytes that one connection may move before the others get their turn: a peer that is as fast as the
/// worker would otherwise hold it for a whole upload or download.
const TURN_BYTES: usize = 2 << 20;
/// A request that has waited in the loop for so long is not called for before a look at its client, which is a
/// system call of about a microsecond. A whole batch of quick requests takes less than this, and so pays for
/// none; a client seldom gives up sooner.
const LOOK_AFTER: Duration = Duration::from_millis(20);
/// Pieces of a body (chunks, as a rule) that are taken from one connection before the others get their
/// turn. A buffer of one-byte chunks has 40 000, and keeps the worker busy for some milliseconds.
const TURN_PIECES: u32 = 4096;
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
    /// Nothing: no request is begun any more.
    Held,
    /// It has ended.
    Closed(CloseManner),
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
    let is_tcp = matches!(channel.conn.info().peer, SocketName::Inet(_));
    let mut is_drained = false;
    let mut is_held_back = false;
    let mut steps_left = TURN_STEPS;
    let mut bytes_left = TURN_BYTES;
    let mut pieces_left = TURN_PIECES;
    let pause = loop {
        if !hung_up && channel.conn.awaits_request() && desk.is_told_to_leave() {
            break Pause::Held;
        }
        let has_had_its_turn = steps_left == 0 || desk.clock.now() > turn_ends;
        if has_had_its_turn && channel.conn.wants_the_application(start < end) {
            break Pause::Again;
        }
        if pieces_left == 0 && channel.conn.takes_a_piece(start < end) {
            break Pause::Again;
        }
        let mut input = Cursor::new(&reading.buffer[start..end]);
        let step = channel.conn.step(&mut input, &mut reading.head, &desk.rules());
        start += input.taken();
        match step {
            // Not even when a look would find something: what it reads now is only kept for the next turn.
            Step::Read if is_drained || bytes_left == 0 || has_had_its_turn => {
                break Pause::Readable;
            }
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
                pieces_left = pieces_left.saturating_sub(1);
                if let Err(error) = store(channel, bytes, desk) {
                    let reason = refused::not_stored(channel, desk, &error);
                    channel.conn.refuse(reason, &desk.rules());
                }
            }
            Step::Call { .. } | Step::CallGathered
                if hung_up || has_left(desk, &channel.socket, is_tcp, &mut channel.is_suspect) =>
            {
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
            Step::Refused(refused) => refused::note(desk, channel.conn.info(), &refused),
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
                book(desk, channel);
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

/// Whether nobody waits for the answer any more. Such a request is not called for: it would take the time of
/// those who wait, and if it is one that crashes its worker, the next worker with it.
fn has_left(desk: &Desk, socket: &OwnedFd, is_tcp: bool, is_suspect: &mut bool) -> bool {
    let waited = desk.clock.monotonic().saturating_sub(desk.woke);
    let is_due = std::mem::take(is_suspect) || waited >= LOOK_AFTER;
    is_due && fd::has_left(socket.as_fd(), is_tcp)
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

fn call_gathered<A: Application>(app: &mut A, desk: &mut Desk, channel: &mut Channel<A::Body>) {
    let Some(gathered) = channel.conn.take_gathered() else { return };
    let body = match channel.spool.take() {
        None => RequestBody::Empty,
        Some(mut spool) => match spool.rewind() {
            Ok(()) => RequestBody::Spooled(spool),
            Err(error) => {
                let reason = refused::not_stored(channel, desk, &error);
                let request = PartialHead::of(&gathered.head, &gathered.head_bytes);
                // All of the body is here.
                return channel.conn.refuse_read(reason, request, Framing::None, &desk.rules());
            }
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
    let called = desk.clock.now();
    channel.called = Some(called);
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
    if let Some(access) = &desk.access {
        let mut record = Record::of(head_bytes, head, called);
        if access.names_requests() {
            record.id = app.request_id(&request).map(Into::into);
        }
        channel.record = Some(Box::new(record));
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
            // What is still to be asked of the application, or closed, is named after its request.
            if channel.body.is_some() && channel.record.is_none() {
                channel.record = Some(Box::new(Record::of(head_bytes, head, called)));
            }
        }
    }
    desk.clock.read();
    desk.block.end_call(desk.clock.monotonic());
}

/// Asks the application for its next item.
fn pull<B: AppBody>(desk: &mut Desk, channel: &mut Channel<B>) {
    let Some(body) = &mut channel.body else {
        channel.conn.end_items();
        return;
    };
    let (method, path) = resume(desk, channel.record.as_deref());
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
    desk.block.end_call(desk.clock.monotonic());
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

/// Books the reply's duration and its line in the access log, also where it was broken off. A request
/// that was refused has its line already: no application was called.
fn book<B: AppBody>(desk: &mut Desk, channel: &mut Channel<B>) {
    let Some(called) = channel.called.take() else { return };
    let duration = desk.clock.now() - called;
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
            duration,
            request_id: record.and_then(|record| record.id.as_deref()),
            refused: None,
        });
    }
    desk.block.request_duration.record(duration);
}

fn finish<B: AppBody>(desk: &mut Desk, channel: &mut Channel<B>) {
    book(desk, channel);
    if channel.conn.parts_at_once() && fd::has_unread(channel.socket.as_fd()) {
        channel.conn.overhear();
    }
    channel.conn.finish(&desk.block.row);
    close_reply(desk, channel);
    if let Some(memory) = channel.conn.outbox().reclaim()
        && memory.capacity() <= SPARE_BYTES
    {
        desk.spare = Some(memory);
    }
}

/// Closes the application's side of a reply. The iterable's `close()` is the application's time, as long as
/// it takes, and a part of the request.
pub fn close_reply<B: AppBody>(desk: &mut Desk, channel: &mut Channel<B>) {
    if channel.body.is_none() {
        channel.close_reply();
        return desk.leave_if_forked();
    }
    resume(desk, channel.record.as_deref());
    channel.close_reply();
    desk.leave_if_forked();
    desk.clock.read();
    desk.block.end_call(desk.clock.monotonic());
}

/// Shows that the application is called once more for a request; its method and path, as far as they were kept.
fn resume<'r>(desk: &Desk, record: Option<&'r Record>) -> (&'r [u8], &'r [u8]) {
    let (now, monotonic) = (desk.clock.now(), desk.clock.monotonic());
    let Some(record) = record else {
        desk.block.begin_request(monotonic, &[], &[]);
        return (&[], &[]);
    };
    let age = now.saturating_duration_since(record.called);
    let since = monotonic.saturating_sub(age);
    desk.block.resume_request(monotonic, since, &record.method, &record.path);
    (&record.method, &record.path)
}

impl Record {
    fn of(head_bytes: &[u8], head: &Head, called: Instant) -> Self {
        Self {
            called,
            method: head.method.of(head_bytes).into(),
            path: head.path.of(head_bytes).into(),
            version: head.version,
            referer: head.find(head_bytes, "referer").map(Into::into),
            user_agent: head.find(head_bytes, "user-agent").map(Into::into),
            id: None,
        }
    }

    fn request_line(&self) -> RequestLine<'_> {
        let (path, version) = (Some(&*self.path), Some(self.version));
        RequestLine { method: &self.method, path, version }
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
