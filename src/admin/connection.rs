//! One connection to the admin socket: bytes and time come in, a question and bytes go out.
//!
//! It has one request. What follows the request is never read as another one, so nothing can hide
//! behind it. No I/O and no clock here; the shell around it receives, sends and closes.
//!
//! Who came over TCP may look and not command: POST is for unix sockets alone. TCP asks nobody who they
//! are, and any page that a person on the machine looks at can have their browser send a POST, or make
//! a name of its own mean this address. To look changes nothing.
//!
//! | state | event | next |
//! |---|---|---|
//! | `Reading` | the head, and the body if there may be one, are whole | `Waiting`, a question |
//! | `Reading` | something that is refused | `Waiting`, its refusal |
//! | `Reading` | the peer ends, or [`READ_PATIENCE`] since accept is over | `Closed` |
//! | `Waiting` | the answer, or the refusal | `Writing` |
//! | `Waiting` | the peer ends, or it sends too much | `Closed` |
//! | `Writing` | all is sent | `Lingering`; the shell shuts down its sending direction |
//! | `Writing` | [`WRITE_PATIENCE`] since the answer is over | `Closed` |
//! | `Lingering` | the peer ends, it sends too much, or [`LINGER`] is over | `Closed` |
//! | any | the connection is dead | `Closed` |
//!
//! `Waiting` has no end of its own: a reload takes as long as it takes. A peer that ends its direction
//! meanwhile is taken to be gone; nothing else tells over TCP that nobody waits any more.
//!
//! `Lingering` is there because close(2) on a socket with unread bytes sends a reset, which may take
//! an answer with it that the peer has not read yet (RFC 9112 §9.6).

use std::mem::take;
use std::time::{Duration, Instant};

use arctos_worker::http::{
    BodyDecoder, BodyError, Framing, Head, HeadScan, HttpDate, Parsed, Persistence, ResponseHead,
    Status, Version,
};
use arctos_worker::settings::{HeaderMap, Limits};

use super::acceptor::Trust;
use super::{Answer, Method};

/// A request has to be whole so long after its connection was accepted.
pub(super) const READ_PATIENCE: Duration = Duration::from_secs(5);
/// An answer has to be taken within this.
pub(super) const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// After the answer, the peer's remaining bytes are read so long.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Read and dropped behind a request, before its answer and after it.
const EXCESS_BYTES: usize = 1024 * 1024;
/// Longest head.
const HEAD_BYTES: usize = 8 * 1024;
/// Longest body of a POST. Nothing reads it: it is there for clients that always send one.
const BODY_BYTES: u64 = 64 * 1024;

/// To a POST that came over TCP.
const NOT_HERE: Status = Status(403);

/// See the module.
pub(super) struct Connection {
    limits: Limits,
    trust: Trust,
    state: State,
}

enum State {
    Reading { until: Instant, input: Box<Input> },
    Waiting { shape: Shape, left_bytes: usize },
    Writing { until: Instant, out: Vec<u8>, sent_bytes: usize },
    Lingering { until: Instant, left_bytes: usize },
    Closed,
}

/// A request that comes in.
enum Input {
    Head { buffer: Vec<u8>, scan: HeadScan },
    Body { buffer: Vec<u8>, decoder: BodyDecoder, request: Request },
}

/// What was asked, and how its answer is to look.
struct Request {
    method: Method,
    path: String,
    query: String,
    shape: Shape,
}

/// What of a request decides how its answer looks.
#[derive(Clone, Copy)]
struct Shape {
    version: Version,
    is_head: bool,
    /// What would have been allowed in its place, should it be a 405 (RFC 9110 §15.5.6).
    allowed: &'static str,
}

/// A request that is answered with an error, here and now.
struct Refused {
    status: Status,
    shape: Shape,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaits {
    /// Bytes of its peer.
    Bytes,
    /// Room to send.
    Room,
    /// [`Connection::answer`], or that its peer goes.
    Answer,
    /// Nothing: to be closed.
    Nothing,
}

/// What [`Connection::receive`] has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing that is whole.
    Nothing,
    /// A request.
    Question {
        /// Its method.
        method: Method,
        /// Its path.
        path: String,
        /// Its query.
        query: String,
    },
    /// A request to be answered so.
    Refusal(Answer),
}

impl Connection {
    /// One that was accepted just now.
    pub(super) fn new(trust: Trust, now: Instant) -> Self {
        let limits = Limits {
            request_line_bytes: HEAD_BYTES,
            header_field_bytes: HEAD_BYTES,
            head_bytes: HEAD_BYTES,
            body_bytes: BODY_BYTES,
            ..Limits::default()
        };
        let input = Box::new(Input::Head { buffer: Vec::new(), scan: HeadScan::default() });
        Self { limits, trust, state: State::Reading { until: now + READ_PATIENCE, input } }
    }

    /// What is to be done.
    pub(super) fn awaits(&self) -> Awaits {
        match self.state {
            State::Reading { .. } | State::Lingering { .. } => Awaits::Bytes,
            State::Waiting { .. } => Awaits::Answer,
            State::Writing { .. } => Awaits::Room,
            State::Closed => Awaits::Nothing,
        }
    }

    /// When patience ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Reading { until, .. }
            | State::Writing { until, .. }
            | State::Lingering { until, .. } => Some(until),
            State::Waiting { .. } | State::Closed => None,
        }
    }

    /// Time passes.
    pub(super) fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|until| now >= until) {
            self.close();
        }
    }

    /// The peer ends its direction, or the connection is dead, or its place is needed.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Bytes of the peer.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Heard {
        match &mut self.state {
            State::Reading { input, .. } => match input.take(bytes, self.trust, &self.limits) {
                Ok(None) => Heard::Nothing,
                Ok(Some(Request { method, path, query, shape })) => {
                    self.state = State::waiting(shape);
                    Heard::Question { method, path, query }
                }
                Err(Refused { status, shape }) => {
                    self.state = State::waiting(shape);
                    Heard::Refusal(Answer::plain(status.0, &words(status)))
                }
            },
            State::Waiting { left_bytes, .. } | State::Lingering { left_bytes, .. } => {
                match left_bytes.checked_sub(bytes.len()) {
                    Some(left) => *left_bytes = left,
                    None => self.close(),
                }
                Heard::Nothing
            }
            State::Writing { .. } | State::Closed => Heard::Nothing,
        }
    }

    /// The answer to its question, or its refusal. Nothing happens when there is none to answer.
    pub(super) fn answer(&mut self, answer: &Answer, date: &HttpDate, now: Instant) {
        match self.state {
            State::Waiting { shape, .. } => {
                let out = shape.encode(answer, date);
                self.state = State::Writing { until: now + WRITE_PATIENCE, out, sent_bytes: 0 };
            }
            State::Reading { .. }
            | State::Writing { .. }
            | State::Lingering { .. }
            | State::Closed => {}
        }
    }

    /// What is to be sent next.
    pub(super) fn outgoing(&self) -> &[u8] {
        match &self.state {
            State::Writing { out, sent_bytes, .. } => &out[*sent_bytes..],
            State::Reading { .. }
            | State::Waiting { .. }
            | State::Lingering { .. }
            | State::Closed => &[],
        }
    }

    /// So many bytes of [`Connection::outgoing`] are sent; whether that was the last of them.
    pub(super) fn sent(&mut self, count: usize, now: Instant) -> bool {
        match &mut self.state {
            State::Writing { out, sent_bytes, .. } => {
                *sent_bytes += count;
                let is_end = *sent_bytes >= out.len();
                if is_end {
                    self.state = State::Lingering { until: now + LINGER, left_bytes: EXCESS_BYTES };
                }
                is_end
            }
            State::Reading { .. }
            | State::Waiting { .. }
            | State::Lingering { .. }
            | State::Closed => false,
        }
    }
}

impl State {
    fn waiting(shape: Shape) -> Self {
        Self::Waiting { shape, left_bytes: EXCESS_BYTES }
    }
}

impl Input {
    /// Takes in what has come; the request when it is whole.
    fn take(
        &mut self,
        bytes: &[u8],
        trust: Trust,
        limits: &Limits,
    ) -> Result<Option<Request>, Refused> {
        match self {
            Self::Head { buffer, scan } => {
                buffer.extend_from_slice(bytes);
                let Some((request, decoder, head_bytes)) = read_head(buffer, scan, trust, limits)?
                else {
                    return Ok(None);
                };
                let buffer = buffer.split_off(head_bytes);
                *self = Self::Body { buffer, decoder, request };
            }
            Self::Body { buffer, .. } => buffer.extend_from_slice(bytes),
        }
        self.skip_body()
    }

    /// Drops the body as far as it is there; the request at its end.
    fn skip_body(&mut self) -> Result<Option<Request>, Refused> {
        let Self::Body { buffer, decoder, request } = self else { return Ok(None) };
        let shape = request.shape;
        let refused = |error: BodyError| Refused { status: error.status(), shape };
        loop {
            let decoded = decoder.decode(buffer).map_err(refused)?;
            let (consumed, is_end) = (decoded.consumed, decoded.is_end);
            buffer.drain(..consumed);
            if is_end {
                return Ok(Some(Request {
                    method: request.method,
                    path: take(&mut request.path),
                    query: take(&mut request.query),
                    shape,
                }));
            }
            if consumed == 0 {
                return Ok(None);
            }
        }
    }
}

/// Reads the head; with it come what skips the body, and its own length.
fn read_head(
    buffer: &[u8],
    scan: &mut HeadScan,
    trust: Trust,
    limits: &Limits,
) -> Result<Option<(Request, BodyDecoder, usize)>, Refused> {
    let mut head = Head::new();
    match head.parse(buffer, scan, limits, HeaderMap::Drop) {
        Ok(Parsed::Incomplete) => return Ok(None),
        Ok(Parsed::Complete) => {}
        Err(error) => {
            let shape = Shape { version: Version::Http11, is_head: false, allowed: "" };
            return Err(Refused { status: error.status(), shape });
        }
    }
    let (method, allowed) = match head.method.of(buffer) {
        b"GET" => (Some(Method::Get), "POST"),
        b"HEAD" => (Some(Method::Head), "POST"),
        b"POST" => (Some(Method::WorkerInit), "GET, HEAD"),
        _ => (None, "GET, HEAD, POST"),
    };
    let shape = Shape { version: head.version, is_head: head.is_head(buffer), allowed };
    let refused = |status| Refused { status, shape };
    let has_body = head.framing != Framing::None;
    let method = match method {
        Some(Method::WorkerInit) if trust == Trust::Anybody => return Err(refused(NOT_HERE)),
        Some(Method::Get | Method::Head) if has_body => return Err(refused(Status(413))),
        // A client that asks first is told to send without asking: so short a body is worth no round trip.
        Some(Method::WorkerInit) if has_body && head.expects_continue => {
            return Err(refused(Status(417)));
        }
        Some(method @ (Method::Get | Method::Head | Method::WorkerInit)) => method,
        None => return Err(refused(Status(405))),
    };
    let decoder =
        BodyDecoder::new(head.framing, limits).map_err(|error| refused(error.status()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = Request {
        method,
        path: text(head.path.of(buffer)),
        query: text(head.query.of(buffer)),
        shape,
    };
    Ok(Some((request, decoder, head.len)))
}

/// What a refusal says.
fn words(status: Status) -> String {
    if status == NOT_HERE {
        return "POST is taken over a unix socket alone: --admin-bind unix:/path\n".to_owned();
    }
    format!("{}\n", status.reason())
}

impl Shape {
    /// The whole answer.
    fn encode(self, answer: &Answer, date: &HttpDate) -> Vec<u8> {
        let status = Status(answer.status);
        let line = format!("{} {}", status.0, status.reason());
        let mut head = ResponseHead::default();
        head.start(line.as_bytes()).expect("answers are ours, and have a status that is one");
        let mut add = |name: &str, value: &str| {
            head.add(name.as_bytes(), value.as_bytes()).expect("fields are ours, and well-formed");
        };
        add("Content-Type", answer.content_type);
        add("Cache-Control", "no-store");
        if status == Status(405) {
            add("Allow", self.allowed);
        }
        let mut out = Vec::new();
        let length = Some(answer.body.len() as u64);
        let (close, has_server) = (Persistence::Close, false);
        // Its framing is known, and it closes.
        let _ = head.send(&mut out, self.is_head, self.version, length, close, date, has_server);
        if !self.is_head && !status.is_bodyless() {
            out.extend_from_slice(answer.body.as_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests;
