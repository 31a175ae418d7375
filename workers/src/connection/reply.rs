//! The half of a [`Connection`] that responds: from the application's head to the last byte.

use super::{
    CloseReason, Connection, Cursor, Facts, ItemFate, LINGER_BYTES, Lingering, RefusalReason,
    Refused, Rules, State, discarded_bytes,
};
use crate::connection::write_buffer::WriteBuffer;
use crate::http::response::{CHUNK_CLOSING, IdField, LAST_CHUNK, Refusal, put_chunk_size};
use crate::http::{Framing, PartialHead, Persistence, ReplyFraming, ResponseHead, Status};
use crate::shared::scoreboard::{Counter, Counters};
use std::rc::Rc;

/// A response that is being sent.
pub(super) struct Replying {
    pub(super) status: Status,
    pub(super) framing: ReplyFraming,
    pub(super) source: BodySource,
    ending: Ending,
    flush: Flush,
    pub(super) body_bytes: u64,
}

impl Replying {
    /// Whether every byte of the response is in the write buffer or sent.
    pub(super) fn is_done(&self) -> bool {
        self.source == BodySource::Done
    }
}

/// Where the rest of a response comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum BodySource {
    Items,
    File { offset: u64, left: u64, then: AfterFile },
    Done,
}

/// What follows a part of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AfterFile {
    /// Nothing: the response ends with it.
    End,
    /// Further items.
    Items,
}

/// What follows a complete response.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    KeepAlive,
    /// The client asked for it, so it sends nothing more.
    Close,
    /// The server decided it: the client may be sending already, and may send this many bytes.
    Linger {
        left_bytes: u64,
    },
}

/// Whether the head was sent. Afterwards, everything that is sent before the end counts as progress.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flush {
    Head,
    Progress,
}

impl<C: AsRef<[u8]>> Connection<C> {
    /// Refuses a request whose body does not reach the application; then the connection ends.
    pub fn refuse(&mut self, reason: RefusalReason, rules: &Rules<'_>) {
        let (request, framing) = match &self.state {
            State::Body(gathering) => (gathering.request.part(), gathering.request.head.framing),
            State::Idle
            | State::Head(_)
            | State::Ready(_)
            | State::Replying(_)
            | State::Lingering(_)
            | State::Closed(_) => (PartialHead::default(), Framing::None),
        };
        self.refuse_read(reason, request, framing, rules);
    }

    /// Refuses a request that was read in part, and whose body with this framing is still to come.
    pub fn refuse_read(
        &mut self,
        reason: RefusalReason,
        request: PartialHead,
        framing: Framing,
        rules: &Rules<'_>,
    ) {
        rules.counters.inc(Counter::ReqErrorParse);
        rules.counters.inc(Counter::ReqDone);
        let left_bytes = discarded_bytes(framing, &rules.settings.limits);
        let response = Refusal::closing(reason.status(), false);
        self.answer_without_application(response, Ending::Linger { left_bytes }, rules);
        self.refused = Some(Box::new(Refused { reason, request, request_id: None }));
    }

    /// Refuses a complete request. The connection is kept: a client that had to open a new one would wait at the end of
    /// the same queue, and the worker would have to accept it.
    pub fn refuse_complete(&mut self, refused: Refused, rules: &Rules<'_>) {
        let State::Ready(facts) = self.state else { return };
        rules.counters.inc(Counter::ReqErrorParse);
        rules.counters.inc(Counter::ReqDone);
        let Facts { is_head, version, .. } = facts;
        let persistence = self.persistence(facts, rules);
        let Refused { reason, .. } = refused;
        let (request_id, retry_after_s) = (rules.request_id, reason.retry_after_s());
        let closing = Refusal::closing(reason.status(), is_head);
        let response = Refusal { version, persistence, request_id, retry_after_s, ..closing };
        self.answer_without_application(response, ending(persistence, facts), rules);
        self.refused = Some(Box::new(refused));
    }

    /// The application failed. Before the head was sent, the response is a 500; afterwards it ends abruptly, never
    /// as if it were complete.
    pub fn fail(&mut self, rules: &Rules<'_>) {
        self.fail_with(Status(500), rules.request_id, rules);
    }

    /// The same for an application that was interrupted, because it exceeded its time limit. The 504 names the request
    /// by the identifier that the log has.
    pub fn exceed_time_limit(&mut self, request_id: &[u8], rules: &Rules<'_>) {
        let request_id = rules.request_id.or(IdField::usual(request_id));
        self.fail_with(Status(504), request_id, rules);
    }

    fn fail_with(&mut self, status: Status, request_id: Option<IdField<'_>>, rules: &Rules<'_>) {
        match self.state {
            State::Ready(facts) => {
                rules.counters.inc(Counter::ReqSuccessRead);
                rules.counters.inc(Counter::ReqErrorInternal);
                rules.counters.inc(Counter::ReqDone);
                let response = Refusal { request_id, ..Refusal::closing(status, facts.is_head) };
                let ending = Ending::Linger { left_bytes: LINGER_BYTES };
                self.answer_without_application(response, ending, rules);
            }
            State::Replying(_) => self.close(CloseReason::ReplyFailed, rules.counters),
            State::Idle
            | State::Head(_)
            | State::Body(_)
            | State::Lingering(_)
            | State::Closed(_) => {}
        }
    }

    fn answer_without_application(
        &mut self,
        response: Refusal<'_>,
        ending: Ending,
        rules: &Rules<'_>,
    ) {
        self.write_buffer.clear();
        response.put(self.write_buffer.tail(), rules.date, rules.settings.server_header);
        rules.counters.inc(status_counter(response.status));
        self.state = State::Replying(Replying {
            status: response.status,
            framing: ReplyFraming::NoBody,
            source: BodySource::Done,
            ending,
            flush: Flush::Head,
            body_bytes: 0,
        });
    }

    /// Encodes the application's head, unless `write()` did so already.
    ///
    /// `length` is the length of the body, if it is known without a Content-Length.
    pub fn begin_reply(&mut self, head: &ResponseHead, length: Option<u64>, rules: &Rules<'_>) {
        let State::Ready(facts) = self.state else { return };
        rules.counters.inc(Counter::ReqSuccessRead);
        rules.counters.inc(Counter::ReqDone);
        rules.counters.inc(status_counter(head.status()));
        let wanted = self.persistence(facts, rules);
        let (framing, persistence) = head.send(
            self.write_buffer.tail(),
            facts.is_head,
            facts.version,
            length,
            wanted,
            rules.date,
            rules.settings.server_header,
        );
        if let Some(field) = &rules.request_id
            && head.find(field.name).is_none()
        {
            field.add_to_head(self.write_buffer.tail());
        }
        self.state = State::Replying(Replying {
            status: head.status(),
            framing,
            source: BodySource::Items,
            ending: ending(persistence, facts),
            flush: Flush::Head,
            body_bytes: 0,
        });
    }

    /// Whether the connection persists after this request, as far as client and configuration decide it.
    fn persistence(&self, facts: Facts, rules: &Rules<'_>) -> Persistence {
        let limit = rules.settings.limits.requests_per_connection;
        match (facts.persistence, rules.persistence) {
            (Persistence::KeepAlive, Persistence::KeepAlive)
                if limit == 0 || self.info.served + 1 < limit =>
            {
                Persistence::KeepAlive
            }
            (Persistence::KeepAlive | Persistence::Close, _) => Persistence::Close,
        }
    }

    /// Queues one item of the response, in the framing of the response.
    pub fn push_item(&mut self, chunk: C) -> ItemFate {
        let State::Replying(replying) = &mut self.state else { return ItemFate::Unwanted };
        let (length, fate) = replying.admit(chunk.as_ref().len());
        if length > 0 {
            let closing = replying.open_chunk(length, &mut self.write_buffer);
            self.write_buffer.push(chunk, length, closing);
        }
        fate
    }

    /// Queues a copy of the bytes of `write()`.
    pub fn push_bytes(&mut self, bytes: &[u8]) -> ItemFate {
        let State::Replying(replying) = &mut self.state else { return ItemFate::Unwanted };
        let (length, fate) = replying.admit(bytes.len());
        if length > 0 {
            let closing = replying.open_chunk(length, &mut self.write_buffer);
            let tail = self.write_buffer.tail();
            tail.extend_from_slice(&bytes[..length]);
            tail.extend_from_slice(closing);
        }
        fate
    }

    /// The rest of the response is `length` bytes of a file, from `offset`.
    pub fn push_file(&mut self, offset: u64, length: u64) -> ItemFate {
        self.push_range(offset, length, AfterFile::End)
    }

    /// The next item of the response is `length` bytes of a file, from `offset`.
    pub fn push_file_part(&mut self, offset: u64, length: u64) -> ItemFate {
        self.push_range(offset, length, AfterFile::Items)
    }

    fn push_range(&mut self, offset: u64, length: u64, then: AfterFile) -> ItemFate {
        let State::Replying(replying) = &mut self.state else { return ItemFate::Unwanted };
        let (left, fate) = match replying.framing {
            ReplyFraming::NoBody => (0, ItemFate::Unwanted),
            ReplyFraming::Length(promised) if promised < length => (promised, ItemFate::Overlong),
            ReplyFraming::Length(_) | ReplyFraming::Chunked | ReplyFraming::UntilClose => {
                (length, ItemFate::Queued)
            }
        };
        if left == 0 {
            self.end_items();
            return fate;
        }
        replying.source = BodySource::File { offset, left, then };
        if replying.framing == ReplyFraming::Chunked {
            // This happens only after write(): the whole file is one chunk. `usize` has 64 bits here.
            put_chunk_size(self.write_buffer.tail(), left as usize);
        }
        fate
    }

    /// How many bytes of the promised Content-Length nobody is left to give.
    #[inline]
    pub fn missing_bytes(&self) -> u64 {
        let State::Replying(replying) = &self.state else { return 0 };
        match (replying.framing, replying.source) {
            (ReplyFraming::Length(promised), BodySource::Done) => promised,
            (ReplyFraming::Length(promised), BodySource::File { left, .. }) => {
                promised.saturating_sub(left)
            }
            (_, _) => 0,
        }
    }

    /// There are no more items.
    pub fn end_items(&mut self) {
        let State::Replying(replying) = &mut self.state else { return };
        if replying.source != BodySource::Done && replying.framing == ReplyFraming::Chunked {
            self.write_buffer.tail().extend_from_slice(LAST_CHUNK);
        }
        replying.source = BodySource::Done;
    }

    /// `count` bytes of the write buffer are sent.
    pub fn wrote(&mut self, count: usize, counters: &Counters) {
        self.write_buffer.advance(count);
        let State::Replying(replying) = &mut self.state else { return };
        if !self.write_buffer.is_empty() {
            counters.inc(Counter::RespActive);
            return;
        }
        let is_last =
            replying.source == BodySource::Done || replying.framing == ReplyFraming::Length(0);
        if replying.flush == Flush::Progress && !is_last {
            counters.inc(Counter::RespActive);
        }
        replying.flush = Flush::Progress;
    }

    /// `count` bytes of the file are sent.
    pub fn wrote_file(&mut self, count: u64, counters: &Counters) {
        let State::Replying(replying) = &mut self.state else { return };
        let BodySource::File { offset, left, then } = replying.source else { return };
        replying.body_bytes += count;
        if let ReplyFraming::Length(promised) = &mut replying.framing {
            *promised = promised.saturating_sub(count);
        }
        let left = left.saturating_sub(count);
        if left > 0 {
            counters.inc(Counter::RespActive);
            replying.source = BodySource::File { offset: offset + count, left, then };
            return;
        }
        if replying.framing == ReplyFraming::Chunked {
            self.write_buffer.tail().extend_from_slice(CHUNK_CLOSING);
        }
        match then {
            AfterFile::End => self.end_items(),
            AfterFile::Items => replying.source = BodySource::Items,
        }
    }

    /// Whether the connection is closed after this response without lingering.
    pub fn closes_at_once(&self) -> bool {
        matches!(&self.state, State::Replying(replying) if replying.ending == Ending::Close)
    }

    /// The peer has sent something behind its last request. So the close has to linger: otherwise the kernel sends
    /// a reset, and the peer may lose the response (RFC 9112 §9.6).
    pub fn linger_after(&mut self) {
        if let State::Replying(replying) = &mut self.state
            && replying.ending == Ending::Close
        {
            replying.ending = Ending::Linger { left_bytes: LINGER_BYTES };
        }
    }

    /// The response is sent, as far as the application gave it. The state afterwards says whether the connection
    /// is kept.
    pub fn finish(&mut self, counters: &Counters) {
        let State::Replying(replying) = &self.state else { return };
        if let ReplyFraming::Length(missing) = replying.framing
            && missing > 0
        {
            self.close(CloseReason::ReplyShort, counters);
            return;
        }
        let ending = replying.ending;
        counters.inc(Counter::RespDone);
        let info = Rc::make_mut(&mut self.info);
        info.served = info.served.saturating_add(1);
        match ending {
            Ending::KeepAlive => {
                counters.inc(Counter::RespDoneKeepalive);
                self.state = State::Idle;
            }
            Ending::Close => self.close(CloseReason::Answered, counters),
            Ending::Linger { left_bytes } => {
                counters.inc(Counter::RespConnClose);
                self.state = State::Lingering(Lingering::Sending { left_bytes });
            }
        }
    }
}

/// What follows a response with this persistence.
fn ending(persistence: Persistence, facts: Facts) -> Ending {
    match (persistence, facts.persistence) {
        (Persistence::KeepAlive, _) => Ending::KeepAlive,
        (Persistence::Close, Persistence::Close) => Ending::Close,
        (Persistence::Close, Persistence::KeepAlive) => Ending::Linger { left_bytes: LINGER_BYTES },
    }
}

impl Replying {
    /// Discards what follows the last request of a connection. If there is something, the close has to linger, as
    /// in [`Connection::linger_after`].
    pub(super) fn drop_input(&mut self, input: &mut Cursor<'_>) {
        let count = input.rest().len();
        if count == 0 {
            return;
        }
        match self.ending {
            Ending::KeepAlive => {}
            Ending::Close => {
                input.take(count);
                self.ending = Ending::Linger { left_bytes: LINGER_BYTES };
            }
            // Not counted, because it was read together with the request.
            Ending::Linger { .. } => {
                input.take(count);
            }
        }
    }

    /// How many bytes of an item are sent, and what happens to the item.
    fn admit(&mut self, length: usize) -> (usize, ItemFate) {
        let (admitted, fate) = match &mut self.framing {
            ReplyFraming::NoBody => (0, ItemFate::Unwanted),
            ReplyFraming::Chunked | ReplyFraming::UntilClose => (length, ItemFate::Queued),
            ReplyFraming::Length(promised) => {
                let admitted = usize::try_from(*promised).unwrap_or(usize::MAX).min(length);
                *promised -= admitted as u64;
                if admitted < length {
                    (admitted, ItemFate::Overlong)
                } else {
                    (admitted, ItemFate::Queued)
                }
            }
        };
        self.body_bytes += admitted as u64;
        (admitted, fate)
    }

    /// Opens a chunk if the framing is chunked. Returns what closes the chunk.
    fn open_chunk<C: AsRef<[u8]>>(
        &self,
        length: usize,
        write_buffer: &mut WriteBuffer<C>,
    ) -> &'static [u8] {
        if self.framing == ReplyFraming::Chunked {
            put_chunk_size(write_buffer.tail(), length);
            CHUNK_CLOSING
        } else {
            &[]
        }
    }
}

/// The counter of the class of a status.
pub(super) fn status_counter(status: Status) -> Counter {
    match status.0 / 100 {
        1 => Counter::RespStatus1xx,
        2 => Counter::RespStatus2xx,
        3 => Counter::RespStatus3xx,
        4 => Counter::RespStatus4xx,
        _ => Counter::RespStatus5xx,
    }
}
