//! The worker's hot path: carries out the steps of one connection until it has to wait.

mod access_log;
mod admission;
mod body_length;
mod context;
mod file_body;
mod file_server;
mod finish;
mod kept;
pub(super) mod proxy_header;
mod quarantine;
mod queue;
mod refused;
mod request_id;
mod slow;

use std::io;
use std::time::Duration;

use crate::application::{
    AppBody, AppError, Application, ClientGone, Content, Outlet, Reply, Request, RequestBody,
};
use crate::connection::{CloseManner, Connection, Cursor, ItemFate, Rules, Step};
use crate::event_loop::claimed_place::{ClaimedPlace, Progress};
use crate::event_loop::client::{Client, Streaming};
use crate::event_loop::file_transfer::FileTransfer;
use crate::event_loop::record::Record;
use crate::event_loop::transport::{Awaits, Transport};
use crate::http::{Framing, Head, ResponseHead};
use crate::process::fork_guard;
use crate::settings::Settings;
use crate::shared::fd::{self, Io};
use crate::shared::scoreboard::{Counter, WorkerEntry};
use crate::shared::socket_name::SocketName;
use crate::static_files::SharedFile;

use body_length::{RequestLine, note_fate, note_missing, note_surplus};

pub use context::{Kept, WorkerContext};
pub use file_server::FileServer;
pub use quarantine::Quarantine;

use file_body::Sent;

/// The maximum length of one read, and so of a piece of a body that goes to the spool.
const BUFFER_BYTES: usize = 64 * 1024;
/// How many calls, items and file pieces of one client are due before the others get their turn.
const TURN_STEPS: u32 = 64;
/// How long one client may take before the others get their turn.
pub(crate) const TURN_TIME: Duration = Duration::from_millis(5);
/// The maximum length of one sendfile(2).
const FILE_BYTES: u64 = 1 << 20;
/// How many bytes of one client are moved before the others get their turn. A peer that is as fast as the worker
/// would otherwise hold it for a whole upload or download.
const TURN_BYTES: usize = 2 << 20;
/// If a request has waited in the loop for this long, the worker checks whether its client is still there before it
/// calls the application. That takes one system call of about a microsecond. A whole batch of quick requests takes
/// less time than this, so it needs no check; a client seldom gives up sooner.
const CHECK_AFTER: Duration = Duration::from_millis(20);
/// How many pieces of a body (usually chunks) of one client are stored before the others get their turn. A buffer of
/// one-byte chunks has 40 000, which keep the worker busy for some milliseconds.
const TURN_PIECES: u32 = 4096;
/// A larger write buffer, or record of a request, is not kept for the next one.
const SPARE_BYTES: usize = 64 * 1024;

/// What a client waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Bytes from the peer.
    Readable,
    /// Room in the send buffer.
    Writable,
    /// Its next turn.
    Again,
    /// The disk, which the kernel reads: there is no event, so the loop looks again a little later.
    Disk,
    /// Nothing, because no further request is begun.
    Held,
    /// Nothing, because it has ended.
    Closed(CloseManner),
}

impl From<Awaits> for Wait {
    fn from(awaits: Awaits) -> Self {
        match awaits {
            Awaits::Peer => Self::Readable,
            Awaits::Room => Self::Writable,
            Awaits::Nothing => Self::Again,
        }
    }
}

/// Where requests are read and parsed: one buffer and one head for all clients.
pub struct ReadBuffer {
    buffer: Box<[u8]>,
    head: Head,
}

impl ReadBuffer {
    /// A buffer that is longer than the maximum length of a head.
    pub fn new(settings: &Settings) -> Self {
        let size = BUFFER_BYTES.max(2 * settings.limits.head_bytes);
        Self { buffer: vec![0; size].into_boxed_slice(), head: Head::new() }
    }
}

/// Carries out what is due on one connection until it has to wait. `hung_up` says that the peer is known to be gone,
/// with or without a reset.
pub fn drive<A: Application>(
    app: &mut A,
    reading: &mut ReadBuffer,
    context: &mut WorkerContext,
    client: &mut Client<A::Body>,
    hung_up: bool,
) -> Wait {
    if client.awaits_proxy_header()
        && let Some(wait) = proxy_header::receive(context, client)
    {
        return wait;
    }
    let turn_ends = context.clock.now() + TURN_TIME;
    let (mut start, mut end) = (0, client.take_unread(&mut reading.buffer));
    let is_tcp = matches!(client.conn().info().peer, SocketName::Inet(_));
    let place = client.place().copied();
    let mut is_drained = false;
    let mut is_held_back = false;
    let mut steps_left = TURN_STEPS;
    let mut bytes_left = TURN_BYTES;
    let mut pieces_left = TURN_PIECES;
    let wait = loop {
        if !hung_up && client.conn().awaits_request() && context.is_quick_stop() {
            break Wait::Held;
        }
        let has_had_its_turn = steps_left == 0 || context.clock.now() > turn_ends;
        if has_had_its_turn && client.conn().wants_the_application(start < end) {
            break Wait::Again;
        }
        if pieces_left == 0 && client.conn().takes_a_piece(start < end) {
            break Wait::Again;
        }
        let mut input = Cursor::new(&reading.buffer[start..end]);
        let (conn, transport) = client.conn_and_transport();
        let step = conn.step(&mut input, &mut reading.head, &context.rules());
        start += input.taken();
        match step {
            // Even if there was something to read, it would only be kept for the next turn.
            Step::Read if is_drained || bytes_left == 0 || has_had_its_turn => {
                break transport.awaits().into();
            }
            Step::Read => {
                if start > 0 {
                    reading.buffer.copy_within(start..end, 0);
                    (start, end) = (0, end - start);
                }
                let room = &mut reading.buffer[end..];
                let room_bytes = room.len();
                client.show(Progress::Receiving);
                match client.receive(room, context) {
                    Io::Bytes(count) => {
                        end += count;
                        bytes_left = bytes_left.saturating_sub(count);
                        is_drained = client.transport().is_drained(count == room_bytes);
                        client.progressed();
                        client.show(Progress::Read);
                        client.conn_mut().received();
                        context.entry.counters.add(Counter::BytesIn, count as u64);
                        continue;
                    }
                    Io::Blocked => {
                        let is_between = start == end && client.is_idle();
                        client.show(if is_between { Progress::Answered } else { Progress::Read });
                        break client.transport().awaits().into();
                    }
                    Io::Ended => client.conn_mut().ended(&context.entry.counters),
                    Io::Failed => client.conn_mut().failed(&context.entry.counters),
                }
            }
            Step::Store(bytes) => {
                pieces_left = pieces_left.saturating_sub(1);
                if let Err(error) = store::<A>(client, bytes, context) {
                    let reason = refused::not_stored(client, context, &error);
                    client.conn_mut().refuse(reason, &context.rules());
                }
            }
            Step::Call { head_bytes, body } => {
                if !abandons(context, client, hung_up, is_tcp) {
                    let body =
                        if body.is_empty() { RequestBody::Empty } else { RequestBody::Slice(body) };
                    answer(app, context, client, head_bytes, &reading.head, body);
                    steps_left = steps_left.saturating_sub(1);
                }
            }
            Step::CallGathered => {
                if !abandons(context, client, hung_up, is_tcp) {
                    call_gathered(app, context, client);
                    steps_left = steps_left.saturating_sub(1);
                }
            }
            Step::Refused(refused) => refused::note(context, conn.client(), &refused),
            Step::Pull => {
                pull(context, client);
                steps_left = steps_left.saturating_sub(1);
            }
            Step::Write { .. } | Step::SendFile { .. } if bytes_left == 0 => break Wait::Writable,
            Step::Write { parts, is_end } => {
                // Responses to pipelined requests are sent together, if the requests arrived together.
                is_held_back = is_end && start < end;
                if let Some(place) = &place {
                    place.show(Progress::Replied);
                }
                match transport.send(parts, is_held_back) {
                    Io::Bytes(count) => {
                        bytes_left = bytes_left.saturating_sub(count);
                        context.entry.counters.add(Counter::BytesOut, count as u64);
                        conn.wrote(count, &context.entry.counters);
                        client.progressed();
                    }
                    Io::Blocked => break Wait::Writable,
                    Io::Ended | Io::Failed => conn.failed(&context.entry.counters),
                }
            }
            // The peer has left: the disk need not be read.
            Step::SendFile { .. } if hung_up => conn.failed(&context.entry.counters),
            Step::SendFile { offset, length } => {
                match file_body::send_file(client, context, offset, length) {
                    Sent::Blocked => break Wait::Writable,
                    Sent::AwaitsDisk => break Wait::Disk,
                    Sent::Bytes(count) => bytes_left = bytes_left.saturating_sub(count),
                    Sent::Aborted => {}
                }
            }
            Step::Finish => finish::finish(context, client, start < end),
            Step::ShutWrite => {
                transport.shut_write();
                conn.write_shut();
            }
            Step::Close(manner) => {
                finish::end_reply(context, client);
                break Wait::Closed(manner);
            }
        }
    };
    if is_held_back {
        fd::push(client.socket());
    }
    if start < end {
        client.keep_unread(&reading.buffer[start..end]);
    }
    if wait == Wait::Readable {
        client.await_peer();
    }
    wait
}

/// Abandons a request if its client has left, and says whether it did. Calling the application for it would take
/// the time of those who wait, and if this request crashes its worker, it would take the next worker down, too.
#[inline]
fn abandons<B: AppBody>(
    context: &WorkerContext,
    client: &mut Client<B>,
    hung_up: bool,
    is_tcp: bool,
) -> bool {
    let waited = context.clock.monotonic().saturating_sub(context.woke);
    let is_check_due = hung_up || client.take_suspicion() || waited >= CHECK_AFTER;
    let asks_half_close = context.settings.abandon_on_half_close;
    if !is_check_due || !(hung_up || client.transport().has_left(is_tcp, asks_half_close)) {
        return false;
    }
    let (conn, transport) = client.conn_and_transport();
    if fd::has_failed(transport.socket()) {
        conn.failed(&context.entry.counters);
    } else {
        conn.ended(&context.entry.counters);
    }
    true
}

fn store<A: Application>(
    client: &mut Client<A::Body>,
    bytes: &[u8],
    context: &WorkerContext,
) -> io::Result<()> {
    client.store(bytes, A::body_memory, &context.bodies, &context.settings.body_temp_dir)
}

fn call_gathered<A: Application>(
    app: &mut A,
    context: &mut WorkerContext,
    client: &mut Client<A::Body>,
) {
    let Some(gathered) = client.conn_mut().take_gathered() else { return };
    let body = match client.take_spool() {
        None => RequestBody::Empty,
        Some(mut spool) => match spool.rewind() {
            Ok(()) => RequestBody::Spooled(spool),
            Err(error) => {
                let reason = refused::not_stored(client, context, &error);
                let request = gathered.head.to_partial(&gathered.head_bytes);
                // Nothing more of the body is to come.
                return client.conn_mut().refuse_read(
                    reason,
                    request,
                    Framing::None,
                    &context.rules(),
                );
            }
        },
    };
    answer(app, context, client, &gathered.head_bytes, &gathered.head, body);
}

/// Answers a request by a static file, or by calling the application, unless it is refused.
fn answer<A: Application>(
    app: &mut A,
    context: &mut WorkerContext,
    client: &mut Client<A::Body>,
    head_bytes: &[u8],
    head: &Head,
    body: RequestBody<'_>,
) {
    let queue_wait = queue::wait_of(context, client);
    context.requests.complete += 1;
    let before = context.clock.monotonic();
    let info = client.conn().shared_info();
    let forwarded = client.conn().forwarded().cloned();
    let request = Request {
        head_bytes,
        head,
        body,
        conn: &info,
        forwarded: forwarded.as_deref(),
        sequence: context.requests.complete,
        queue_wait,
    };
    if let Some(reason) = admission::refusal(context, queue_wait, head, head_bytes) {
        return refused::refuse_complete(app, context, client, &request, reason);
    }
    context.requests.begun += 1;
    let id = finish::begin(app, context, client, &request);
    let mut files = context.files.take();
    if let Some(server) = &mut files {
        let (clock, log, rules) =
            (&context.clock, &context.log, request_id::rules(context, &info, &id));
        if server.answer(client, (head_bytes, head), clock, log, &rules) {
            context.files = files;
            return context.clock.read();
        }
    }
    let request_line = (head.method.of(head_bytes), head.path.of(head_bytes));
    admission::show(context, before, before, request_line);
    context.entry.show_connection(client.own_socket());
    let rules = request_id::rules(context, &info, &id);
    let place = client.place().copied();
    let (conn, transport) = client.conn_and_transport();
    let mut wire = Wire { place, ..Wire::new(conn, transport, rules, context, request_line) };
    let answer = app.call(request, &mut wire);
    context.leave_if_forked();
    match answer {
        Ok(reply) => {
            let (clock, log) = (&context.clock, &context.log);
            let kept = match &mut files {
                Some(server) => {
                    server.replace(client, reply, (head_bytes, head), clock, log, &rules)
                }
                None => Some(reply),
            };
            if let Some(reply) = kept {
                let record = || Record::of(head_bytes, head);
                let fate = begin_reply(client, reply, record, &rules);
                note_fate(client.conn_mut(), fate, log, request_line);
            }
        }
        Err(error) => fail(client.conn_mut(), error, context.entry, &rules),
    }
    context.files = files;
    kept::variables(app, client, &context.settings);
    finish::end_first_call(app, context, client);
}

/// Queues what the application returned. What it still owes, or has to be closed, stays with the client, named
/// after its request.
fn begin_reply<B: AppBody>(
    client: &mut Client<B>,
    reply: Reply<'_, B>,
    record: impl FnOnce() -> Record,
    rules: &Rules<'_>,
) -> ItemFate {
    kept::response(client, reply.head, rules.settings);
    match reply.content {
        Content::Empty => {
            let conn = client.conn_mut();
            conn.begin_reply(reply.head, Some(0), rules);
            conn.end_items();
            ItemFate::Queued
        }
        Content::Whole(chunk) => {
            let conn = client.conn_mut();
            conn.begin_reply(reply.head, Some(chunk.as_ref().len() as u64), rules);
            let fate = conn.push_item(chunk);
            conn.end_items();
            fate
        }
        Content::Stream(stream) => {
            client.stream(stream.rest, record);
            let conn = client.conn_mut();
            conn.begin_reply(reply.head, stream.length, rules);
            stream.first.map_or(ItemFate::Queued, |first| conn.push_item(first))
        }
        Content::File(span) => {
            let transfer = FileTransfer::new(SharedFile::new(span.file), None);
            client.send_file(transfer, Some(span.owner), record);
            let conn = client.conn_mut();
            conn.begin_reply(reply.head, Some(span.length), rules);
            conn.push_file(span.offset, span.length)
        }
    }
}

/// Asks the application for its next item.
fn pull<B: AppBody>(context: &mut WorkerContext, client: &mut Client<B>) {
    let Some(Streaming { body, record, timing, conn, transport }) = client.streaming() else {
        return file_body::next_part(client);
    };
    finish::resume(context, record, timing);
    let rules = context.rules();
    let request = (record.method(), record.path());
    let item = body.pull(&mut Wire::new(conn, transport, rules, context, request));
    context.leave_if_forked();
    match item {
        Ok(Some(chunk)) => {
            let fate = conn.push_item(chunk);
            note_fate(conn, fate, &context.log, request);
        }
        Ok(None) => {
            conn.end_items();
            note_missing(conn, &context.log, request);
        }
        Err(error) => fail(conn, error, context.entry, &rules),
    }
    timing.application += finish::end_call(context, timing.route);
}

/// Ends a reply that the application failed to give, or to complete.
fn fail<C: AsRef<[u8]>>(
    conn: &mut Connection<C>,
    error: AppError,
    entry: &WorkerEntry,
    rules: &Rules<'_>,
) {
    match error {
        AppError::TimedOut => {
            conn.exceed_time_limit(entry.request_id().unwrap_or_default().as_bytes(), rules);
        }
        AppError::ClientGone => conn.failed(rules.counters),
        AppError::Raised | AppError::NotStarted | AppError::Invalid | AppError::BodyLost => {
            conn.fail(rules);
        }
    }
}

/// Sends what the application writes by `write()`.
struct Wire<'w, C> {
    conn: &'w mut Connection<C>,
    transport: &'w mut Transport,
    rules: Rules<'w>,
    context: &'w WorkerContext,
    request: RequestLine<'w>,
    /// Where whoever takes over sees that the response has begun, if the connection is shared.
    place: Option<ClaimedPlace>,
    /// Whether it was logged that the application wrote more than its Content-Length.
    is_overlong: bool,
}

impl<'w, C> Wire<'w, C> {
    fn new(
        conn: &'w mut Connection<C>,
        transport: &'w mut Transport,
        rules: Rules<'w>,
        context: &'w WorkerContext,
        request: RequestLine<'w>,
    ) -> Self {
        Self { conn, transport, rules, context, request, place: None, is_overlong: false }
    }
}

impl<C: AsRef<[u8]>> Outlet for Wire<'_, C> {
    fn write(&mut self, head: &ResponseHead, data: &[u8]) -> Result<(), ClientGone> {
        if fork_guard::is_forked() {
            return Err(ClientGone); // The descriptor is closed here, and its number may belong to another file.
        }
        if head.names_file() && self.rules.settings.files.sendfile_root.is_some() {
            return Ok(()); // A file takes the place of the whole body.
        }
        let counters = self.rules.counters;
        self.conn.begin_reply(head, None, &self.rules);
        match self.conn.push_bytes(data) {
            ItemFate::Queued | ItemFate::Unwanted => {}
            ItemFate::Overlong => {
                if !std::mem::replace(&mut self.is_overlong, true) {
                    note_surplus(&self.context.log, self.request);
                }
            }
        }
        match &self.place {
            Some(place) => place.show(Progress::Replied),
            None => self.context.entry.show_connection(None),
        }
        while !self.conn.write_buffer().is_empty() {
            match self.transport.send(self.conn.write_buffer().parts(), false) {
                Io::Bytes(count) => {
                    counters.add(Counter::BytesOut, count as u64);
                    self.conn.wrote(count, counters);
                }
                Io::Blocked => break,
                Io::Ended | Io::Failed => {
                    self.conn.failed(counters);
                    return Err(ClientGone);
                }
            }
        }
        if self.conn.is_replying() { Ok(()) } else { Err(ClientGone) }
    }
}
