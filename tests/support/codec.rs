//! Drives the pure codec as a connection does, but without a socket.

use arctos_worker::http::{
    BodyDecoder, Head, HeadScan, Parsed, ParsedProxy, ProxiedAddresses, Status, Version, forwarded,
    proxy_protocol,
};
use arctos_worker::settings::Settings;
use arctos_worker::shared::socket_name::SocketName;

use super::corpus::{Body, Case, End, ExpectedRequest, Place};
use super::stated::announced;

/// A connection that consists of the codec alone.
pub(crate) struct Codec {
    settings: Settings,
    /// What a PROXY header has announced.
    proxied: Option<ProxiedAddresses>,
    head: Head,
    /// Received bytes that are not consumed yet.
    buffer: Vec<u8>,
    state: State,
    requests: Vec<ReceivedRequest>,
    /// Number of bytes received.
    fed: usize,
    /// Number of bytes consumed.
    consumed: usize,
}

enum State {
    /// The PROXY header is due.
    Proxy,
    /// There was none, or a malformed one.
    Broken,
    Head(HeadScan),
    Body(Box<InBody>),
    /// The last request does not keep the connection alive.
    Closed,
    Refused(Status),
}

struct InBody {
    decoder: BodyDecoder,
    request: ReceivedRequest,
}

/// A request that would reach the application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReceivedRequest {
    method: Vec<u8>,
    target: Vec<u8>,
    path: Vec<u8>,
    query: Vec<u8>,
    authority: Option<Vec<u8>>,
    version: &'static str,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
    dropped_count: u32,
    expects_continue: bool,
    keeps_alive: bool,
    stated: String,
    body: Vec<u8>,
    /// Number of bytes of the connection that were consumed when the request was complete.
    pub(crate) ends: usize,
}

/// The result of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) requests: Vec<ReceivedRequest>,
    pub(crate) end: End,
}

impl Codec {
    /// Opens a connection.
    pub(crate) fn new(settings: Settings) -> Self {
        let state = match settings.proxy_protocol.is_off() {
            true => State::Head(HeadScan::default()),
            false => State::Proxy,
        };
        Self {
            settings,
            proxied: None,
            head: Head::new(),
            buffer: Vec::new(),
            state,
            requests: Vec::new(),
            fed: 0,
            consumed: 0,
        }
    }

    /// Receives some bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.fed += bytes.len();
        self.buffer.extend_from_slice(bytes);
        while self.step() {}
    }

    /// The requests that are complete so far.
    pub(crate) fn requests(&self) -> &[ReceivedRequest] {
        &self.requests
    }

    /// Number of bytes received so far.
    pub(crate) fn fed(&self) -> usize {
        self.fed
    }

    /// Closes the connection.
    pub(crate) fn finish(self) -> Outcome {
        let end = match self.state {
            State::Broken => End::Closed,
            State::Proxy => End::Incomplete(Place::Head),
            State::Head(_) if self.buffer.is_empty() => End::Rest(0),
            State::Head(_) => End::Incomplete(Place::Head),
            State::Body(_) => End::Incomplete(Place::Body),
            State::Closed => End::Rest(self.buffer.len()),
            State::Refused(status) => End::Refused(status.0),
        };
        Outcome { requests: self.requests, end }
    }

    /// Takes one step; returns false if the next one needs more bytes.
    fn step(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Proxy => self.parse_proxy(),
            State::Broken => {
                self.state = State::Broken;
                false
            }
            State::Head(scan) => self.parse_head(scan),
            State::Body(in_body) => self.decode_body(in_body),
            State::Closed => false,
            State::Refused(status) => {
                self.state = State::Refused(status);
                false
            }
        }
    }

    fn parse_proxy(&mut self) -> bool {
        self.state = State::Proxy;
        if self.buffer.is_empty() {
            return false;
        }
        match proxy_protocol::parse(&self.buffer, self.settings.proxy_protocol.version) {
            Ok(ParsedProxy::Incomplete) => false,
            Ok(ParsedProxy::Complete { len, addresses }) => {
                self.proxied = addresses;
                self.consume(len);
                self.state = State::Head(HeadScan::default());
                true
            }
            Err(_) => {
                self.state = State::Broken;
                false
            }
        }
    }

    fn parse_head(&mut self, mut scan: HeadScan) -> bool {
        if self.buffer.is_empty() {
            self.state = State::Head(scan);
            return false;
        }
        let Settings { limits, header_map, .. } = &self.settings;
        match self.head.parse(&self.buffer, &mut scan, limits, *header_map) {
            Ok(Parsed::Incomplete) => {
                self.state = State::Head(scan);
                false
            }
            Ok(Parsed::Complete) => {
                let mut request = ReceivedRequest::of(&self.head, &self.buffer);
                match self.stated() {
                    Ok(stated) => request.stated = stated,
                    Err(status) => {
                        self.state = State::Refused(status);
                        return false;
                    }
                }
                let framing = self.head.framing;
                self.consume(self.head.len);
                self.state = match BodyDecoder::new(framing, &self.settings.limits) {
                    Ok(decoder) => State::Body(Box::new(InBody { decoder, request })),
                    Err(error) => State::Refused(error.status()),
                };
                true
            }
            Err(error) => {
                self.state = State::Refused(error.status());
                false
            }
        }
    }

    /// What trusted proxies state about the request of this head, which 127.0.0.1 has sent.
    fn stated(&self) -> Result<String, Status> {
        let forwarding = &self.settings.forwarding;
        let peer = SocketName::Inet("127.0.0.1:1".parse().expect("an address"));
        let (proxied, peer) = match &self.proxied {
            Some(ends) => (Some(ends), &ends.source),
            None => (None, &peer),
        };
        if !forwarded::is_trusted(peer, &forwarding.proxies) {
            return Ok(announced(proxied, None));
        }
        let read = forwarded::read(&self.head, &self.buffer, forwarding);
        read.map(|read| announced(proxied, read.as_deref())).map_err(|error| error.status())
    }

    fn decode_body(&mut self, mut in_body: Box<InBody>) -> bool {
        let decoded = match in_body.decoder.decode(&self.buffer) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.state = State::Refused(error.status());
                return false;
            }
        };
        assert!(decoded.data.len() <= decoded.consumed, "the data is a part of the consumed bytes");
        assert!(decoded.consumed <= self.buffer.len(), "no more bytes are consumed than received");
        in_body.request.body.extend_from_slice(decoded.data);
        let (consumed, is_end) = (decoded.consumed, decoded.is_end);
        self.consume(consumed);
        if !is_end {
            self.state = State::Body(in_body);
            return consumed > 0;
        }
        let mut request = in_body.request;
        request.ends = self.consumed;
        self.state =
            if request.keeps_alive { State::Head(HeadScan::default()) } else { State::Closed };
        self.requests.push(request);
        true
    }

    fn consume(&mut self, count: usize) {
        self.buffer.drain(..count);
        self.consumed += count;
    }
}

impl ReceivedRequest {
    fn of(head: &Head, bytes: &[u8]) -> Self {
        Self {
            method: head.method.of(bytes).to_vec(),
            target: head.target.of(bytes).to_vec(),
            path: head.path.of(bytes).to_vec(),
            query: head.query.of(bytes).to_vec(),
            authority: head.authority.map(|span| span.of(bytes).to_vec()),
            version: match head.version {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            },
            fields: head
                .fields
                .iter()
                .map(|field| (field.name.of(bytes).to_vec(), field.value.of(bytes).to_vec()))
                .collect(),
            dropped_count: head.dropped_count,
            expects_continue: head.expects_continue,
            keeps_alive: head.keeps_alive,
            stated: String::new(),
            body: Vec::new(),
            ends: 0,
        }
    }

    fn compare(&self, expected: &ExpectedRequest) -> Result<(), String> {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let equal = |what: &str, got: &[u8], expected: &[u8]| {
            if got == expected {
                return Ok(());
            }
            Err(format!("{what}: expected `{}`, got `{}`", text(expected), text(got)))
        };
        equal("method", &self.method, &expected.method)?;
        equal("target", &self.target, &expected.target)?;
        equal("version", self.version.as_bytes(), expected.version.as_bytes())?;
        equal("path", &self.path, expected.path.as_ref().unwrap_or(&self.path))?;
        equal("query", &self.query, expected.query.as_ref().unwrap_or(&self.query))?;
        if self.authority != expected.authority {
            return Err(format!("authority: expected {:?}", expected.authority));
        }
        if self.fields.len() != expected.field_count.unwrap_or(self.fields.len()) {
            return Err(format!("{} fields", self.fields.len()));
        }
        let mut fields = self.fields.iter();
        if let Some((name, _)) =
            expected.fields.iter().find(|&expected| !fields.any(|field| field == expected))
        {
            return Err(format!("field `{}` is missing, different or out of order", text(name)));
        }
        if self.dropped_count != expected.dropped_count {
            return Err(format!("{} fields dropped", self.dropped_count));
        }
        if self.expects_continue != expected.expects_continue {
            return Err(format!("expects_continue is {}", self.expects_continue));
        }
        if self.keeps_alive != expected.keeps_alive {
            return Err(format!("keeps_alive is {}", self.keeps_alive));
        }
        equal("stated", self.stated.as_bytes(), expected.stated.as_bytes())?;
        if Body::of(&self.body) != expected.body {
            return Err(format!("body of {} bytes: `{}`", self.body.len(), text(&self.body)));
        }
        Ok(())
    }
}

impl Outcome {
    /// Compares the outcome with the expectation. The error describes the difference.
    pub(crate) fn compare(&self, case: &Case) -> Result<(), String> {
        for (at, (request, expected)) in self.requests.iter().zip(&case.requests).enumerate() {
            request
                .compare(expected)
                .map_err(|difference| format!("request {at}: {difference}"))?;
        }
        if (self.requests.len(), self.end) != (case.requests.len(), case.end) {
            return Err(format!(
                "expected {} requests, then {:?}; got {}, then {:?}",
                case.requests.len(),
                case.end,
                self.requests.len(),
                self.end
            ));
        }
        Ok(())
    }
}
