//! One connection as a pure machine: bytes and time come in, [`Step`]s come out.
//!
//! It owns what is due next on a connection and every count of the 15 counters of requests and
//! responses; it knows no socket, no clock, no application. `drive` carries its steps out.
//!
//! | state | event | next |
//! |---|---|---|
//! | Idle | first byte of a request | Head |
//! | Idle, Head | head whole, body whole behind it | Ready ([`Step::Call`]) |
//! | Idle, Head | head whole, body still to come | Body |
//! | Body | body whole | Ready ([`Step::CallGathered`]), unless the client has left: Closed |
//! | Idle, Head, Body | refused | Replying with an answer of ours, then Lingering ([`Step::Refused`] says why) |
//! | Idle, Head, Body | end of stream, error | Closed |
//! | Head, Body | deadline | Lingering, which sends 408 first |
//! | Ready | the application answers, or fails | Replying |
//! | Replying | sent whole | Idle, Lingering or Closed |
//! | Replying | write error, failing application, deadline | Closed |
//! | Lingering | end of stream, deadline, too many bytes | Closed |

mod refused;
mod reply;
mod step;
mod timer;
pub mod write_buffer;

use std::time::{Duration, Instant};

use crate::connection::write_buffer::WriteBuffer;
use crate::http::response::{CONTINUE, refusal};
use crate::http::{
    BodyDecoder, BodyError, Framing, Head, HeadError, HeadScan, HttpDate, Parsed, PartialHead,
    Persistence, ReplyFraming, Status, Version,
};
use crate::settings::{Limits, Settings};
use crate::shared::scoreboard::{Counter, Counters};
use crate::shared::socket_name::SocketName;

use reply::{Replying, Source, status_counter};

pub use refused::{RefusalReason, Refused};
pub use step::{CloseManner, CloseReason, Cursor, ItemFate, Step};
pub use timer::Timer;

/// Bytes that are read and thrown away after the last answer, beside the rest of a refused body.
const LINGER_BYTES: u64 = 64 * 1024;
/// Bytes of a refused body that are thrown away, or as many as an allowed body may have if that is more: a
/// client that sends its body before it reads would be reset, and would not get the answer. Of a longer one, as
/// many are: most clients look at the answer before that. [`Timer::LingerTotal`] bounds the time.
const DISCARD_BYTES: u64 = 64 << 20;

/// What a connection is between two requests, beside its descriptor: fixed in size, free of timers
/// and of anything of the application's.
#[derive(Clone, Debug)]
pub struct ConnInfo {
    /// The peer's address.
    pub peer: SocketName,
    /// Our own address, as the listener that took the connection names it.
    pub local: SocketName,
    /// Index of that listener.
    pub listener: u16,
    /// When the connection was accepted.
    pub accepted: Instant,
    /// Requests answered so far.
    pub served: u32,
}

/// What a connection is held to, and where it counts.
#[derive(Clone, Copy)]
pub struct Rules<'a> {
    /// Limits and options.
    pub settings: &'a Settings,
    /// The current `Date`.
    pub date: &'a HttpDate,
    /// The worker's counters.
    pub counters: &'a Counters,
    /// Whether connections may live on; not while the worker drains.
    pub persistence: Persistence,
}

/// A request that was gathered over several reads: its own copy of its head.
#[derive(Debug)]
pub struct Gathered {
    /// The head's bytes.
    pub head_bytes: Box<[u8]>,
    /// The head, in offsets into them.
    pub head: Head,
}

impl Gathered {
    fn part(&self) -> PartialHead {
        self.head.to_partial(&self.head_bytes)
    }
}

/// The machine. `C` is one item of a response, kept until it is sent.
pub struct Connection<C> {
    info: ConnInfo,
    state: State,
    write_buffer: WriteBuffer<C>,
    /// Bytes came, and whether they are enough was not found out yet.
    is_fed: bool,
    /// A request that was refused, until the shell is told.
    refused: Option<Box<Refused>>,
}

enum State {
    /// Between requests; no byte of the next one is here.
    Idle,
    /// A part of a head is here.
    Head(HeadScan),
    /// The head is whole, the body is not.
    Body(Box<Gathering>),
    /// The application has the request.
    Ready(Facts),
    /// A response is on its way.
    Replying(Replying),
    /// Everything is said; what the peer still sends is thrown away (RFC 9112 §9.6).
    Lingering(Lingering),
    Closed(Closing),
}

/// What is left of a connection.
struct Closing {
    manner: CloseManner,
    /// Status and body bytes of a response that was broken off.
    broken_off: Option<(Status, u64)>,
}

struct Gathering {
    request: Gathered,
    decoder: BodyDecoder,
    facts: Facts,
    progress: BodyProgress,
    /// Body bytes since the least rate was last checked.
    window_bytes: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BodyProgress {
    Receiving,
    Whole,
}

/// What the response needs to know of its request.
#[derive(Clone, Copy)]
struct Facts {
    is_head: bool,
    version: Version,
    persistence: Persistence,
}

/// `left_bytes` is what the peer may still send.
enum Lingering {
    /// The last words are still in the write_buffer.
    Speaking { left_bytes: u64 },
    /// Our direction is shut.
    Listening { left_bytes: u64 },
}

impl<C: AsRef<[u8]>> Connection<C> {
    /// A connection without a byte of a request: just accepted, or kept and handed over.
    pub fn new(info: ConnInfo) -> Self {
        Self {
            info,
            state: State::Idle,
            write_buffer: WriteBuffer::new(),
            is_fed: false,
            refused: None,
        }
    }

    /// Who the peer is.
    pub fn info(&self) -> &ConnInfo {
        &self.info
    }

    /// What outlives requests, if there is no request: nothing is lost by giving up the machine.
    #[expect(clippy::result_large_err, reason = "a busy connection is handed back as it was")]
    pub fn release(self) -> Result<ConnInfo, Self> {
        match self.state {
            State::Idle => Ok(self.info),
            State::Head(_)
            | State::Body(_)
            | State::Ready(_)
            | State::Replying(_)
            | State::Lingering(_)
            | State::Closed(_) => Err(self),
        }
    }

    /// Bytes came. If they do not complete a request, the step that asks for more counts them.
    pub fn received(&mut self) {
        self.is_fed = true;
    }

    /// What is due next. `input` holds the bytes that were read and not yet used; `head` is scratch
    /// that describes the request after [`Step::Call`].
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
                self.is_fed = false;
                return Step::Read;
            }
            match self.read_head(input, head, rules) {
                Reading::Unfinished => {
                    self.await_rest(rules.counters);
                    return Step::Read;
                }
                Reading::Whole { head_bytes, body } => return Step::Call { head_bytes, body },
                Reading::Refused { reason, request, framing } => {
                    self.refuse_read(reason, request, framing, rules);
                }
                Reading::Gathering => {}
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
            State::Body(_) | State::Replying(_) | State::Lingering(Lingering::Speaking { .. })
                if !self.write_buffer.is_empty() =>
            {
                let is_end = matches!(&self.state, State::Replying(r) if r.source == Source::Done);
                Step::Write { parts: self.write_buffer.parts(), is_end }
            }
            State::Replying(replying) => match replying.source {
                Source::Items => Step::Pull,
                Source::File { offset, left } => Step::SendFile { offset, length: left },
                Source::Done => Step::Finish,
            },
            State::Lingering(Lingering::Speaking { .. }) => Step::ShutWrite,
            State::Lingering(Lingering::Listening { left_bytes }) => {
                let count = input.rest().len();
                input.take(count);
                match left_bytes.checked_sub(count as u64) {
                    Some(left) => *left_bytes = left,
                    None => {
                        self.close(CloseReason::Lingered, rules.counters);
                        return Step::Close(CloseManner::Tidy);
                    }
                }
                Step::Read
            }
            State::Closed(closing) => Step::Close(closing.manner),
            // The shell answers every call before it asks again.
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
    ) -> Reading<'a> {
        if matches!(self.state, State::Idle) {
            self.state = State::Head(HeadScan::default());
        }
        let State::Head(scan) = &mut self.state else { return Reading::Unfinished };
        let settings = rules.settings;
        match head.parse(input.rest(), scan, &settings.limits, settings.header_map) {
            Ok(Parsed::Incomplete) => return Reading::Unfinished,
            Err(error) => {
                let request = scan.to_partial(input.rest());
                let framing = framing_behind(&error);
                return Reading::Refused { reason: error.into(), request, framing };
            }
            Ok(Parsed::Complete) => {}
        }
        if head.dropped_count > 0 {
            rules.counters.add(Counter::ReqHeaderDropped, u64::from(head.dropped_count));
        }
        let bytes = input.rest();
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
                return Reading::Refused { reason: error.into(), request, framing };
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
            return Reading::Whole { head_bytes, body: input.take(length) };
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
        Reading::Gathering
    }

    /// The head that goes with [`Step::CallGathered`].
    pub fn take_gathered(&mut self) -> Option<Gathered> {
        let State::Body(gathering) = &self.state else { return None };
        let facts = gathering.facts;
        let before = std::mem::replace(&mut self.state, State::Ready(facts));
        let State::Body(gathering) = before else { return None };
        Some(gathering.request)
    }

    /// The request is still not whole.
    fn await_rest(&mut self, counters: &Counters) {
        if std::mem::take(&mut self.is_fed) {
            counters.inc(Counter::ReqActive);
        }
    }

    /// The peer has shut its sending direction.
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

    /// Reading or writing failed: the connection is dead.
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

    /// Our sending direction is shut.
    pub fn write_shut(&mut self) {
        let left_bytes = match &self.state {
            State::Lingering(Lingering::Speaking { left_bytes }) => *left_bytes,
            State::Idle
            | State::Head(_)
            | State::Body(_)
            | State::Ready(_)
            | State::Replying(_)
            | State::Lingering(Lingering::Listening { .. })
            | State::Closed(_) => LINGER_BYTES,
        };
        self.state = State::Lingering(Lingering::Listening { left_bytes });
    }

    /// A deadline has passed. `input` holds the bytes that were read and not yet used.
    pub fn expire(&mut self, timer: Timer, input: &[u8], rules: &Rules<'_>) {
        match (&mut self.state, timer) {
            (State::Idle, Timer::KeepAlive) => self.close(CloseReason::IdleLong, rules.counters),
            (State::Head(scan), Timer::Head) => {
                let request = scan.to_partial(input);
                self.late(RefusalReason::HeadLate, request, rules);
            }
            (State::Body(gathering), Timer::Body) => {
                let request = gathering.request.part();
                self.late(RefusalReason::BodyLate, request, rules);
            }
            (State::Replying(_), Timer::Write) => {
                self.close(CloseReason::WriteFailed, rules.counters)
            }
            (State::Lingering(_), Timer::Linger | Timer::LingerTotal) => {
                self.close(CloseReason::Lingered, rules.counters);
            }
            // The deadline of a state that was left in the same turn.
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

    /// A window is over in which a body has its least rate to keep. The loop looked at the connection for a
    /// part of it only, and holds the peer to no more.
    pub fn end_window(&mut self, looked: Duration, rules: &Rules<'_>) {
        let State::Body(gathering) = &mut self.state else { return };
        let timeouts = &rules.settings.timeouts;
        let part = looked.min(timeouts.body).as_nanos();
        let least = u128::from(timeouts.body_rate_bytes) * part / timeouts.body.as_nanos().max(1);
        if u128::from(gathering.window_bytes) < least {
            let request = gathering.request.part();
            self.late(RefusalReason::BodySlow, request, rules);
        } else {
            gathering.window_bytes = 0;
        }
    }

    /// 408, counted as a peer that went away: what it did not send is lost the same way.
    fn late(&mut self, reason: RefusalReason, request: PartialHead, rules: &Rules<'_>) {
        let status = reason.status();
        self.refused = Some(Box::new(Refused { reason, request }));
        for counter in CloseReason::PeerLeft.counters() {
            rules.counters.inc(*counter);
        }
        // Behind what is left of a `100 Continue`: a part of it may have left already.
        let server = rules.settings.server_header;
        refusal(self.write_buffer.tail(), status, false, rules.date, server);
        rules.counters.inc(status_counter(status));
        self.state = State::Lingering(Lingering::Speaking { left_bytes: LINGER_BYTES });
    }

    /// Gives the connection up for a reason of the worker's own.
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

    /// The one way into `Closed`: counts the reason, once.
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
                | State::Closed(_) => CloseManner::Tidy,
            };
            let unsent: usize = self.write_buffer.parts().iter().map(|part| part.len()).sum();
            let broken_off =
                self.reply().map(|(status, bytes)| (status, bytes.saturating_sub(unsent as u64)));
            self.write_buffer.clear();
            self.state = State::Closed(Closing { manner, broken_off });
        }
    }
}

/// Outcome of looking for a head.
enum Reading<'a> {
    Unfinished,
    Whole { head_bytes: &'a [u8], body: &'a [u8] },
    Gathering,
    Refused { reason: RefusalReason, request: PartialHead, framing: Framing },
}

/// What may come behind a head that was refused before its framing was known. A client whose request is well
/// formed, but too large or not supported, may have a body to send; what is malformed has none.
fn framing_behind(error: &HeadError) -> Framing {
    if error.status() == Status(400) { Framing::None } else { Framing::Chunked }
}

/// How much a peer may send whose body of this framing is refused.
fn discarded_bytes(framing: Framing, limits: &Limits) -> u64 {
    let most = limits.body_bytes.max(DISCARD_BYTES);
    match framing {
        Framing::None => LINGER_BYTES,
        Framing::Length(length) => length.saturating_add(LINGER_BYTES).min(most),
        Framing::Chunked => most,
    }
}

impl Gathering {
    /// Whether all of the request is here: only the call is due.
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
