//! One connection as a pure state machine: bytes and time go in, [`Step`]s come out.
//!
//! It decides what is due next on a connection, and counts the 15 counters of requests and responses. It knows no
//! socket, no clock and no application: [`crate::event_loop::drive`] carries its steps out.
//!
//! | state | event | next |
//! |---|---|---|
//! | Idle | the first byte of a request arrives | Head |
//! | Idle, Head | the head is complete, and the body behind it, too | Ready ([`Step::Call`]) |
//! | Idle, Head | the head is complete, the body is not | Body |
//! | Body | the body is complete | Ready ([`Step::CallGathered`]), or Closed if the client has left |
//! | Idle, Head, Body | the request is refused | Replying with an answer of the server, then Lingering ([`Step::Refused`] says why) |
//! | Idle, Head, Body | end of stream, error | Closed |
//! | Head, Body | deadline | Lingering, which sends 408 first |
//! | Ready | the application answers, or fails | Replying |
//! | Replying | everything is sent | Idle, Lingering or Closed |
//! | Replying | write error, failing application, deadline | Closed |
//! | Lingering | end of stream, deadline, too many bytes | Closed |

mod client_name;
pub mod facts;
mod refused;
mod reply;
mod step;
mod timer;
mod tls_info;
pub mod write_buffer;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::write_buffer::WriteBuffer;
use crate::http::forwarded::Forwarded;
use crate::http::response::{CONTINUE, IdField, Refusal};
use crate::http::{
    BodyDecoder, BodyError, Framing, Head, HeadError, HeadScan, HttpDate, Parsed, PartialHead,
    Persistence, ProxiedAddresses, ReplyFraming, Status, Version,
};
use crate::settings::{Limits, Settings};
use crate::shared::scoreboard::{Counter, Counters};
use crate::shared::socket_name::SocketName;

use reply::{BodySource, Replying, status_counter};

pub use client_name::ClientName;
pub use refused::{RefusalReason, Refused};
pub use step::{CloseManner, CloseReason, Cursor, ItemFate, Step};
pub use timer::Timer;
pub use tls_info::TlsInfo;

/// How many bytes are read and discarded after the last response, beside the rest of a refused body.
const LINGER_BYTES: u64 = 64 * 1024;
/// How many bytes of a refused body are read and discarded, or as many as an allowed body may have if that is
/// more. A client that sends its whole body before it reads would be reset otherwise, and would not get the
/// response. Most clients of a longer body look at the response before that. [`Timer::LingerTotal`] limits the
/// time.
const DISCARD_BYTES: u64 = 64 << 20;

/// What is known of a connection between two requests, beside its descriptor: fixed in size, and free of timers
/// and of anything that belongs to the application.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// The address of the socket's peer.
    pub peer: SocketName,
    /// The server's address: that of the listener that accepted the connection.
    pub local: SocketName,
    /// What the peer, a proxy, has announced instead of these two (PROXY protocol).
    pub proxied: Option<Arc<ProxiedAddresses>>,
    /// The index of that listener, or [`ConnInfo::UNKNOWN_LISTENER`].
    pub listener: u16,
    /// When the connection was accepted.
    pub accepted: Instant,
    /// The number of requests answered so far.
    pub served: u32,
    /// The TLS session, once its handshake is complete; `None` without TLS.
    pub tls: Option<Arc<TlsInfo>>,
}

impl ConnInfo {
    /// The listener of a connection that another server has accepted.
    pub const UNKNOWN_LISTENER: u16 = u16::MAX;

    /// A connection that has just been accepted, by the first listener.
    pub fn new(peer: SocketName, local: SocketName, accepted: Instant) -> Self {
        Self { peer, local, proxied: None, listener: 0, accepted, served: 0, tls: None }
    }
}

/// The limits of a connection, and its counters.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Limits and options.
    pub settings: &'a Settings,
    /// The current `Date`.
    pub date: &'a HttpDate,
    /// The worker's counters.
    pub counters: &'a Counters,
    /// Whether connections may be kept alive; not while the worker drains.
    pub persistence: Persistence,
    /// The field of the response that has the identifier of the request.
    pub request_id: Option<IdField<'a>>,
}

/// The head of a request that arrived in several reads.
#[derive(Debug)]
pub struct Gathered {
    /// The bytes of the head.
    pub head_bytes: Box<[u8]>,
    /// The parsed head: offsets into these bytes.
    pub head: Head,
}

impl Gathered {
    fn part(&self) -> PartialHead {
        self.head.to_partial(&self.head_bytes)
    }
}

/// The state machine. `C` is one item of a response, kept until it is sent.
pub struct Connection<C> {
    /// Shared with the request that the application is called for.
    info: Rc<ConnInfo>,
    state: State,
    write_buffer: WriteBuffer<C>,
    /// What trusted proxies say about the current request.
    forwarded: Option<Arc<Forwarded>>,
    /// Whether bytes have arrived that were not parsed yet.
    has_new_bytes: bool,
    /// A refused request, until [`Step::Refused`] has reported it.
    refused: Option<Box<Refused>>,
}

enum State {
    /// Between requests: no byte of the next one is here.
    Idle,
    /// Part of a head is here.
    Head(HeadScan),
    /// The head is complete, the body is not.
    Body(Box<Gathering>),
    /// The request is with the application.
    Ready(Facts),
    /// A response is being sent.
    Replying(Replying),
    /// The last response is complete. What the peer still sends is discarded (RFC 9112 §9.6).
    Lingering(Lingering),
    Closed(Closing),
}

/// What remains of a connection.
struct Closing {
    manner: CloseManner,
    /// Status and body bytes of an aborted response.
    aborted: Option<(Status, u64)>,
}

struct Gathering {
    request: Gathered,
    decoder: BodyDecoder,
    facts: Facts,
    progress: BodyProgress,
    /// Body bytes since the minimum rate was last checked.
    window_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyProgress {
    Receiving,
    Whole,
}

/// What the response depends on of its request.
#[derive(Clone, Copy)]
struct Facts {
    is_head: bool,
    version: Version,
    persistence: Persistence,
}

/// `left_bytes` is how much the peer may still send.
enum Lingering {
    /// The rest of the last response is still in the write buffer.
    Sending { left_bytes: u64 },
    /// The sending direction is shut down.
    Discarding { left_bytes: u64 },
}

impl<C: AsRef<[u8]>> Connection<C> {
    /// A connection without a byte of a request: just accepted, or taken over from another worker.
    pub fn new(info: ConnInfo) -> Self {
        Self {
            info: Rc::new(info),
            state: State::Idle,
            write_buffer: WriteBuffer::new(),
            forwarded: None,
            has_new_bytes: false,
            refused: None,
        }
    }

    /// What is known of the connection.
    pub fn info(&self) -> &ConnInfo {
        &self.info
    }

    /// The same for a request, while the connection changes.
    pub fn shared_info(&self) -> Rc<ConnInfo> {
        Rc::clone(&self.info)
    }

    /// The handshake of TLS is complete.
    pub fn begin_tls(&mut self, tls: TlsInfo) {
        Rc::make_mut(&mut self.info).tls = Some(Arc::new(tls));
    }

    /// Returns what outlives requests, unless there is a request: then giving up the state machine would lose it.
    #[expect(clippy::result_large_err, reason = "a busy connection is handed back as it was")]
    pub fn release(self) -> Result<ConnInfo, Self> {
        match self.state {
            State::Idle => Ok(Rc::unwrap_or_clone(self.info)),
            State::Head(_)
            | State::Body(_)
            | State::Ready(_)
            | State::Replying(_)
            | State::Lingering(_)
            | State::Closed(_) => Err(self),
        }
    }

    /// Bytes have arrived. If they do not complete a request, the step that asks for more counts that.
    pub fn received(&mut self) {
        self.has_new_bytes = true;
    }

    /// What is due next. `input` holds the bytes that were read but not used yet. After [`Step::Call`], `head`
    /// describes the request.
    pub fn step<'c, 'i>(
        &'c mut self,
        input: &mut Cursor<'i>,
        head: &mut Head,
        rules: &Rules<'_>,
    ) -> Step<'c, 'i> {
        if let State::Replying(replying) = &mut self.state {
            replying.drop_input(input);
        }
        if matches!(self.state, State::Idle | State::Head(_)) {
            if input.rest().is_empty() {
                self.has_new_bytes = false;
                return Step::Read;
            }
            match self.read_head(input, head, rules) {
                HeadOutcome::Unfinished => {
                    self.await_rest(rules.counters);
                    return Step::Read;
                }
                HeadOutcome::Whole { head_bytes, body } => return Step::Call { head_bytes, body },
                HeadOutcome::Refused { reason, request, framing } => {
                    self.refuse_read(reason, request, framing, rules);
                }
                HeadOutcome::Gathering => {}
            }
        }
        if let State::Body(gathering) = &mut self.state
            && self.write_buffer.is_empty()
        {
            match gathering.read_body(input) {
                Ok(step) => {
                    if matches!(step, Step::Read) {
                        self.await_rest(rules.counters);
                    }
                    return step;
                }
                Err(error) => self.refuse(error.into(), rules),
            }
        }
        if let Some(refused) = self.refused.take() {
            return Step::Refused(refused);
        }
        match &mut self.state {
            State::Body(_) | State::Replying(_) | State::Lingering(Lingering::Sending { .. })
                if !self.write_buffer.is_empty() =>
            {
                let is_end =
                    matches!(&self.state, State::Replying(r) if r.source == BodySource::Done);
                Step::Write { parts: self.write_buffer.parts(), is_end }
            }
            State::Replying(replying) => match replying.source {
                BodySource::Items => Step::Pull,
                BodySource::File { offset, left, .. } => Step::SendFile { offset, length: left },
                BodySource::Done => Step::Finish,
            },
            State::Lingering(Lingering::Sending { .. }) => Step::ShutWrite,
            State::Lingering(Lingering::Discarding { left_bytes }) => {
                if discard(input, left_bytes) {
                    return Step::Read;
                }
                self.close(CloseReason::Lingered, rules.counters);
                Step::Close(CloseManner::Graceful)
            }
            State::Closed(closing) => Step::Close(closing.manner),
            // Unreachable: the shell answers every call before it takes another step.
            State::Ready(_) | State::Idle | State::Head(_) | State::Body(_) => {
                Step::Close(CloseManner::Reset)
            }
        }
    }

    fn read_head<'a>(
        &mut self,
        input: &mut Cursor<'a>,
        head: &mut Head,
        rules: &Rules<'_>,
    ) -> HeadOutcome<'a> {
        if matches!(self.state, State::Idle) {
            self.state = State::Head(HeadScan::default());
            self.forwarded = None;
        }
        let State::Head(scan) = &mut self.state else { return HeadOutcome::Unfinished };
        let settings = rules.settings;
        match head.parse(input.rest(), scan, &settings.limits, settings.header_map) {
            Ok(Parsed::Incomplete) => return HeadOutcome::Unfinished,
            Err(error) => {
                let request = scan.to_partial(input.rest());
                let framing = framing_behind(&error);
                return HeadOutcome::Refused { reason: error.into(), request, framing };
            }
            Ok(Parsed::Complete) => {}
        }
        if head.dropped_count > 0 {
            rules.counters.add(Counter::ReqHeaderDropped, u64::from(head.dropped_count));
        }
        let bytes = input.rest();
        if let Err(error) = self.believe(head, bytes, &settings.forwarding) {
            let (reason, request) = (HeadError::from(error).into(), head.to_partial(bytes));
            return HeadOutcome::Refused { reason, request, framing: Framing::None };
        }
        let facts = Facts {
            is_head: head.is_head(bytes),
            version: head.version,
            persistence: if head.keeps_alive { Persistence::KeepAlive } else { Persistence::Close },
        };
        let decoder = match BodyDecoder::new(head.framing, &settings.limits) {
            Ok(decoder) => decoder,
            Err(error) => {
                let request = head.to_partial(bytes);
                let framing = head.framing;
                return HeadOutcome::Refused { reason: error.into(), request, framing };
            }
        };
        let body_bytes = match head.framing {
            Framing::None => Some(0),
            Framing::Length(length) => {
                usize::try_from(length).ok().filter(|length| bytes.len() - head.len >= *length)
            }
            Framing::Chunked => None,
        };
        if let Some(length) = body_bytes {
            let head_bytes = input.take(head.len);
            self.state = State::Ready(facts);
            return HeadOutcome::Whole { head_bytes, body: input.take(length) };
        }
        let head_bytes = input.take(head.len).into();
        if head.expects_continue && input.rest().is_empty() {
            self.write_buffer.tail().extend_from_slice(CONTINUE);
            rules.counters.inc(Counter::RespStatus1xx);
        }
        self.state = State::Body(Box::new(Gathering {
            request: Gathered { head_bytes, head: head.clone() },
            decoder,
            facts,
            progress: BodyProgress::Receiving,
            window_bytes: 0,
        }));
        HeadOutcome::Gathering
    }

    /// The head that belongs to [`Step::CallGathered`].
    pub fn take_gathered(&mut self) -> Option<Gathered> {
        let State::Body(gathering) = &self.state else { return None };
        let facts = gathering.facts;
        let before = std::mem::replace(&mut self.state, State::Ready(facts));
        let State::Body(gathering) = before else { return None };
        Some(gathering.request)
    }

    /// The request is still incomplete.
    fn await_rest(&mut self, counters: &Counters) {
        if std::mem::take(&mut self.has_new_bytes) {
            counters.inc(Counter::ReqActive);
        }
    }

    /// The peer has shut down its sending direction.
    pub fn ended(&mut self, counters: &Counters) {
        let reason = match &self.state {
            State::Body(gathering) if gathering.is_whole() => CloseReason::Abandoned,
            State::Idle => CloseReason::IdlePeerLeft,
            State::Head(_) | State::Body(_) => CloseReason::PeerLeft,
            State::Ready(_) => CloseReason::Abandoned,
            State::Replying(_) => CloseReason::WriteFailed,
            State::Lingering(_) | State::Closed(_) => CloseReason::Lingered,
        };
        self.close(reason, counters);
    }

    /// Reading or writing failed: the connection is broken.
    pub fn failed(&mut self, counters: &Counters) {
        let reason = match &self.state {
            State::Body(gathering) if gathering.is_whole() => CloseReason::AbandonedByReset,
            State::Idle if self.info.served > 0 => CloseReason::IdleReset,
            State::Idle | State::Head(_) | State::Body(_) => CloseReason::ReadFailed,
            State::Ready(_) => CloseReason::AbandonedByReset,
            State::Replying(_) => CloseReason::WriteFailed,
            State::Lingering(_) | State::Closed(_) => CloseReason::Lingered,
        };
        self.close(reason, counters);
    }

    /// The sending direction is shut down.
    pub fn write_shut(&mut self) {
        let left_bytes = match &self.state {
            State::Lingering(Lingering::Sending { left_bytes }) => *left_bytes,
            State::Idle
            | State::Head(_)
            | State::Body(_)
            | State::Ready(_)
            | State::Replying(_)
            | State::Lingering(Lingering::Discarding { .. })
            | State::Closed(_) => LINGER_BYTES,
        };
        self.state = State::Lingering(Lingering::Discarding { left_bytes });
    }

    /// A deadline has passed. `input` holds the bytes that were read but not used yet.
    pub fn expire(&mut self, timer: Timer, input: &[u8], rules: &Rules<'_>) {
        match (&mut self.state, timer) {
            (State::Idle, Timer::KeepAlive) => self.close(CloseReason::IdleLong, rules.counters),
            (State::Head(scan), Timer::Head) => {
                let request = scan.to_partial(input);
                self.time_out(RefusalReason::HeadLate, request, rules);
            }
            (State::Body(gathering), Timer::Body) => {
                let request = gathering.request.part();
                self.time_out(RefusalReason::BodyLate, request, rules);
            }
            (State::Replying(_), Timer::Write) => {
                self.close(CloseReason::WriteFailed, rules.counters)
            }
            (State::Lingering(_), Timer::Linger | Timer::LingerTotal) => {
                self.close(CloseReason::Lingered, rules.counters);
            }
            // The deadline belongs to a state that was left in the same turn.
            (
                State::Idle
                | State::Head(_)
                | State::Body(_)
                | State::Ready(_)
                | State::Replying(_)
                | State::Lingering(_)
                | State::Closed(_),
                _,
            ) => {}
        }
    }

    /// A window is over over which the rate of a body is measured. The loop watched the connection for only a part
    /// of it, `watched`, and expects no more of the peer.
    pub fn end_window(&mut self, watched: Duration, rules: &Rules<'_>) {
        let State::Body(gathering) = &mut self.state else { return };
        let timeouts = &rules.settings.timeouts;
        let part_ns = watched.min(timeouts.body).as_nanos();
        let minimum =
            u128::from(timeouts.body_rate_bytes) * part_ns / timeouts.body.as_nanos().max(1);
        if u128::from(gathering.window_bytes) < minimum {
            let request = gathering.request.part();
            self.time_out(RefusalReason::BodySlow, request, rules);
        } else {
            gathering.window_bytes = 0;
        }
    }

    /// Answers 408. This counts like a peer that left: what it did not send is lost in the same way.
    fn time_out(&mut self, reason: RefusalReason, request: PartialHead, rules: &Rules<'_>) {
        let status = reason.status();
        self.refused = Some(Box::new(Refused { reason, request, request_id: None }));
        for counter in CloseReason::PeerLeft.counters() {
            rules.counters.inc(*counter);
        }
        // Appended to the rest of a `100 Continue`, of which a part may have been sent already.
        let server = rules.settings.server_header;
        Refusal::closing(status, false).put(self.write_buffer.tail(), rules.date, server);
        rules.counters.inc(status_counter(status));
        self.state = State::Lingering(Lingering::Sending { left_bytes: LINGER_BYTES });
    }

    /// Gives the connection up because of the worker, not of the peer.
    pub fn give_up(&mut self, counters: &Counters) {
        let reason = match &self.state {
            State::Body(gathering) if gathering.is_whole() => CloseReason::Abandoned,
            State::Idle => CloseReason::IdleGivenUp,
            State::Head(_) | State::Body(_) => CloseReason::PeerLeft,
            State::Ready(_) => CloseReason::Abandoned,
            State::Replying(_) => CloseReason::Cut,
            State::Lingering(_) | State::Closed(_) => CloseReason::Lingered,
        };
        self.close(reason, counters);
    }

    /// Enters `Closed`, and counts the reason once. Nothing else does.
    fn close(&mut self, reason: CloseReason, counters: &Counters) {
        if !matches!(self.state, State::Closed(_)) {
            for counter in reason.counters() {
                counters.inc(*counter);
            }
            let manner = match &self.state {
                State::Replying(replying)
                    if reason.is_abrupt() && replying.framing == ReplyFraming::UntilClose =>
                {
                    CloseManner::Reset
                }
                State::Replying(_)
                | State::Idle
                | State::Head(_)
                | State::Body(_)
                | State::Ready(_)
                | State::Lingering(_)
                | State::Closed(_) => CloseManner::Graceful,
            };
            let unsent: usize = self.write_buffer.parts().iter().map(|part| part.len()).sum();
            let aborted =
                self.reply().map(|(status, bytes)| (status, bytes.saturating_sub(unsent as u64)));
            self.write_buffer.clear();
            self.state = State::Closed(Closing { manner, aborted });
        }
    }
}

/// The outcome of parsing a head.
enum HeadOutcome<'a> {
    Unfinished,
    Whole { head_bytes: &'a [u8], body: &'a [u8] },
    Gathering,
    Refused { reason: RefusalReason, request: PartialHead, framing: Framing },
}

/// The framing to expect behind a head that was refused before its framing was known. If the request is well
/// formed but too large or not supported, a body may follow; behind a malformed one there is none.
fn framing_behind(error: &HeadError) -> Framing {
    if error.status() == Status(400) { Framing::None } else { Framing::Chunked }
}

/// How many bytes of a refused body with this framing are discarded.
fn discarded_bytes(framing: Framing, limits: &Limits) -> u64 {
    let maximum = limits.body_bytes.max(DISCARD_BYTES);
    match framing {
        Framing::None => LINGER_BYTES,
        Framing::Length(length) => length.saturating_add(LINGER_BYTES).min(maximum),
        Framing::Chunked => maximum,
    }
}

/// Discards the input; whether the peer may send more.
fn discard(input: &mut Cursor<'_>, left_bytes: &mut u64) -> bool {
    let count = input.rest().len();
    input.take(count);
    match left_bytes.checked_sub(count as u64) {
        Some(left) => *left_bytes = left,
        None => return false,
    }
    true
}

impl Gathering {
    /// Whether the request is complete, so that only the call is due.
    fn is_whole(&self) -> bool {
        self.progress == BodyProgress::Whole
    }

    fn read_body<'i>(&mut self, input: &mut Cursor<'i>) -> Result<Step<'static, 'i>, BodyError> {
        while self.progress == BodyProgress::Receiving {
            let decoded = self.decoder.decode(input.rest())?;
            input.take(decoded.consumed);
            if decoded.is_end {
                self.progress = BodyProgress::Whole;
            }
            if !decoded.data.is_empty() {
                self.window_bytes += decoded.data.len() as u64;
                return Ok(Step::Store(decoded.data));
            }
            if decoded.consumed == 0 && !decoded.is_end {
                return Ok(Step::Read);
            }
        }
        Ok(Step::CallGathered)
    }
}

#[cfg(test)]
mod tests;
