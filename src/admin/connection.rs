//! A connection to the admin socket, as a state machine: bytes and time go in, a request and bytes come out.
//!
//! A connection has a single request. Bytes after it are never read as another request, so none can be smuggled.
//! There is no I/O and no clock here; the parent module receives, sends and closes.
//!
//! A client over TCP may only look: POST is for unix sockets. TCP does not authenticate its clients, and any web
//! page that is open on the machine can make the browser send a POST, or make a name of its own resolve to this
//! address.
//!
//! | state | event | next |
//! |---|---|---|
//! | `Reading` | the head, and the body if there is one, are complete | `Waiting`, with a request |
//! | `Reading` | the request is refused | `Waiting`, with a refusal |
//! | `Reading` | the peer ends, or [`READ_TIMEOUT`] has passed since accept | `Closed` |
//! | `Waiting` | the response, or the refusal | `Writing` |
//! | `Waiting` | the peer ends, or sends too much | `Closed` |
//! | `Writing` | everything is sent | `Lingering`; the parent shuts down the sending direction |
//! | `Writing` | [`WRITE_TIMEOUT`] has passed since the response | `Closed` |
//! | `Lingering` | the peer ends, sends too much, or [`LINGER`] has passed | `Closed` |
//! | any | the connection is dead | `Closed` |
//!
//! `Waiting` has no timeout, because a reload may take any time. A peer that ends its direction meanwhile counts as
//! gone; over TCP nothing else shows that a client has stopped waiting.
//!
//! `Lingering` exists because close(2) on a socket with unread bytes sends a reset, which may destroy a response
//! that the peer has not read yet (RFC 9112 §9.6).

use std::mem::take;
use std::time::{Duration, Instant};

use arctos_worker::http::{
    BodyDecoder, BodyError, Framing, Head, HeadScan, HttpDate, Parsed, Persistence, ResponseHead,
    Status, Version,
};
use arctos_worker::settings::{HeaderMap, Limits};

use super::acceptor::Trust;
use super::{AdminResponse, Method};

/// Time limit from accept to the complete request.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit for sending a response.
pub(super) const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer's remaining bytes are read after the response.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Maximum bytes after a request that are read and dropped, before its response and again after it.
const EXCESS_BYTES: usize = 1024 * 1024;
/// Maximum size of a head.
const HEAD_BYTES: usize = 8 * 1024;
/// Maximum size of the body of a POST. It is ignored; some clients always send one.
const BODY_BYTES: u64 = 64 * 1024;

/// The response to a POST over TCP.
const FORBIDDEN: Status = Status(403);

/// The state machine of one connection.
pub struct Connection {
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

/// The part of a request that has arrived.
enum Input {
    Head { buffer: Vec<u8>, scan: HeadScan },
    Body { buffer: Vec<u8>, decoder: BodyDecoder, request: Request },
}

/// A request, and the shape of its response.
struct Request {
    incoming: Incoming,
    shape: Shape,
}

/// A complete request.
#[derive(Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `AdminRequest`")]
pub struct Incoming {
    pub method: Method,
    pub path: String,
    pub query: String,
    pub accept: String,
}

/// The properties of a request that shape its response.
#[derive(Clone, Copy)]
struct Shape {
    version: Version,
    is_head: bool,
    /// The `Allow` field, in case the response is a 405 (RFC 9110 §15.5.6).
    allowed: &'static str,
}

/// A request that is refused here.
struct Refused {
    status: Status,
    shape: Shape,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaits {
    /// Bytes from its peer.
    Bytes,
    /// Room in the socket's send buffer.
    Room,
    /// [`Connection::respond`], or the end of its peer.
    Response,
    /// Nothing; it is to be closed.
    Nothing,
}

/// The outcome of [`Connection::receive`].
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// The request is not complete.
    Nothing,
    /// A complete request.
    Request(Incoming),
    /// A request that is to be answered with this response.
    Refusal(AdminResponse),
}

impl Connection {
    /// The state right after accept.
    pub fn new(trust: Trust, now: Instant) -> Self {
        let limits = Limits {
            request_line_bytes: HEAD_BYTES,
            header_field_bytes: HEAD_BYTES,
            head_bytes: HEAD_BYTES,
            body_bytes: BODY_BYTES,
            ..Limits::default()
        };
        let input = Box::new(Input::Head { buffer: Vec::new(), scan: HeadScan::default() });
        Self { limits, trust, state: State::Reading { until: now + READ_TIMEOUT, input } }
    }

    /// What the connection waits for.
    pub fn awaits(&self) -> Awaits {
        match self.state {
            State::Reading { .. } | State::Lingering { .. } => Awaits::Bytes,
            State::Waiting { .. } => Awaits::Response,
            State::Writing { .. } => Awaits::Room,
            State::Closed => Awaits::Nothing,
        }
    }

    /// When [`Connection::tick`] closes the connection.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Reading { until, .. }
            | State::Writing { until, .. }
            | State::Lingering { until, .. } => Some(until),
            State::Waiting { .. } | State::Closed => None,
        }
    }

    /// Closes the connection if its deadline has passed.
    pub fn tick(&mut self, now: Instant) {
        if self.deadline().is_some_and(|until| now >= until) {
            self.close();
        }
    }

    /// Closes the connection: the peer has ended its direction, the connection is dead, or its place is needed.
    pub fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Takes in bytes from the peer.
    pub fn receive(&mut self, bytes: &[u8]) -> Received {
        match &mut self.state {
            State::Reading { input, .. } => match input.take(bytes, self.trust, &self.limits) {
                Ok(None) => Received::Nothing,
                Ok(Some(Request { incoming, shape })) => {
                    self.state = State::waiting(shape);
                    Received::Request(incoming)
                }
                Err(Refused { status, shape }) => {
                    self.state = State::waiting(shape);
                    Received::Refusal(AdminResponse::plain(status.0, &refusal_text(status)))
                }
            },
            State::Waiting { left_bytes, .. } | State::Lingering { left_bytes, .. } => {
                match left_bytes.checked_sub(bytes.len()) {
                    Some(left) => *left_bytes = left,
                    None => self.close(),
                }
                Received::Nothing
            }
            State::Writing { .. } | State::Closed => Received::Nothing,
        }
    }

    /// Responds to the request. Nothing happens if none waits for its response.
    pub fn respond(&mut self, response: &AdminResponse, date: &HttpDate, now: Instant) {
        match self.state {
            State::Waiting { shape, .. } => {
                let out = shape.encode(response, date);
                self.state = State::Writing { until: now + WRITE_TIMEOUT, out, sent_bytes: 0 };
            }
            State::Reading { .. }
            | State::Writing { .. }
            | State::Lingering { .. }
            | State::Closed => {}
        }
    }

    /// The bytes to send next.
    pub fn outgoing(&self) -> &[u8] {
        match &self.state {
            State::Writing { out, sent_bytes, .. } => &out[*sent_bytes..],
            State::Reading { .. }
            | State::Waiting { .. }
            | State::Lingering { .. }
            | State::Closed => &[],
        }
    }

    /// Takes note that `count` bytes of [`Connection::outgoing`] were sent. Returns whether they were the last.
    pub fn sent(&mut self, count: usize, now: Instant) -> bool {
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
    /// Takes in bytes, and returns the request once it is complete.
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

    /// Drops the body as far as it has arrived, and returns the request at its end.
    fn skip_body(&mut self) -> Result<Option<Request>, Refused> {
        let Self::Body { buffer, decoder, request } = self else { return Ok(None) };
        let shape = request.shape;
        let refused = |error: BodyError| Refused { status: error.status(), shape };
        loop {
            let decoded = decoder.decode(buffer).map_err(refused)?;
            let (consumed, is_end) = (decoded.consumed, decoded.is_end);
            buffer.drain(..consumed);
            if is_end {
                return Ok(Some(Request { incoming: take(&mut request.incoming), shape }));
            }
            if consumed == 0 {
                return Ok(None);
            }
        }
    }
}

/// Reads the head. Returns the request, the decoder that skips its body, and the length of the head.
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
        b"POST" => (Some(Method::Post), "GET, HEAD"),
        _ => (None, "GET, HEAD, POST"),
    };
    let shape = Shape { version: head.version, is_head: head.is_head(buffer), allowed };
    let refused = |status| Refused { status, shape };
    let has_body = head.framing != Framing::None;
    let method = match method {
        Some(Method::Post) if trust == Trust::Anyone => return Err(refused(FORBIDDEN)),
        Some(Method::Get | Method::Head) if has_body => return Err(refused(Status(413))),
        // So short a body is not worth the round trip of 100 Continue.
        Some(Method::Post) if has_body && head.expects_continue => {
            return Err(refused(Status(417)));
        }
        Some(method @ (Method::Get | Method::Head | Method::Post)) => method,
        None => return Err(refused(Status(405))),
    };
    let decoder =
        BodyDecoder::new(head.framing, limits).map_err(|error| refused(error.status()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let accept = head.find_all(buffer, "accept").map(text).collect::<Vec<_>>().join(",");
    let (path, query) = (text(head.path.of(buffer)), text(head.query.of(buffer)));
    let request = Request { incoming: Incoming { method, path, query, accept }, shape };
    Ok(Some((request, decoder, head.len)))
}

/// The text of a refusal.
fn refusal_text(status: Status) -> String {
    if status == FORBIDDEN {
        return "POST is accepted only over a unix socket: --admin-bind unix:/path\n".to_owned();
    }
    format!("{}\n", status.reason())
}

impl Shape {
    /// Encodes the whole response.
    fn encode(self, response: &AdminResponse, date: &HttpDate) -> Vec<u8> {
        let status = Status(response.status);
        let line = format!("{} {}", status.0, status.reason());
        let mut head = ResponseHead::default();
        head.start(line.as_bytes()).expect("our responses have valid status codes");
        let mut add = |name: &str, value: &str| {
            head.add(name.as_bytes(), value.as_bytes()).expect("our fields are well-formed");
        };
        add("Content-Type", response.content_type);
        add("Cache-Control", "no-store");
        if status == Status(405) {
            add("Allow", self.allowed);
        }
        let mut out = Vec::new();
        let length = Some(response.body.len() as u64);
        let (close, has_server) = (Persistence::Close, false);
        // Ignored: the framing is known, and the connection closes.
        let _ = head.send(&mut out, self.is_head, self.version, length, close, date, has_server);
        if !self.is_head && !status.is_bodyless() {
            out.extend_from_slice(response.body.as_bytes());
        }
        out
    }
}

#[cfg(test)]
mod tests;
