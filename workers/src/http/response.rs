//! The head of a response: checked as it is built, and framed as it is sent.

use std::ops::Range;

use crate::http::byte_class::{self, TOKEN};
use crate::http::date::HttpDate;
use crate::http::status::Status;
use crate::http::version::Version;

/// The status line and fields of the application, checked and encoded. [`ResponseHead::send`] adds framing,
/// `Date` and `Server`; [`ResponseHead::start`] clears the head for reuse and keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Status line and fields, each with its CRLF, in the application's order and spelling.
    encoded: Vec<u8>,
    code: u16,
    length: Option<DeclaredLength>,
    /// Whether the application sent `Date`, which the server adds otherwise.
    has_date: bool,
    /// Whether the application sent `Server`, which the server adds otherwise.
    has_server: bool,
    /// Whether the application sent `Connection: close`.
    closes: bool,
    /// Whether the application sent `X-Sendfile` or `X-Accel-Redirect`.
    names_file: bool,
}

/// The application's Content-Length, and where its line lies in the encoded head.
#[derive(Clone, Debug)]
struct DeclaredLength {
    bytes: u64,
    line: Range<usize>,
}

/// Why the application's response head is not sent. The developer of the application reads the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The status is not three digits, a space and a reason.
    #[error("the status must be three digits, a space and a reason, such as '200 OK'")]
    StatusForm,
    /// The code is outside 200 to 599. A 1xx is an interim response and never an answer.
    #[error("the status code must be from 200 to 599")]
    StatusRange,
    /// The reason has a control character.
    #[error("the status must not contain CR, LF or other control characters")]
    StatusControl,
    /// A name is empty or has a byte that names cannot have.
    #[error("a header name must be a token: letters, digits and !#$%&'*+-.^_`|~")]
    Name,
    /// A value has a control character other than HTAB.
    #[error("a header value must not contain CR, LF or other control characters")]
    Value,
    /// Content-Length is not a number.
    #[error("Content-Length must be a number of digits only")]
    ContentLength,
    /// Content-Length is repeated.
    #[error("Content-Length must not be repeated")]
    ContentLengthRepeated,
    /// The field is a hop-by-hop field.
    #[error(
        "an application must not send hop-by-hop headers (PEP 3333), except 'Connection: close'"
    )]
    HopByHop,
}

/// How a client finds the end of a response's body (RFC 9112 §6.3, rules 1, 4, 6 and 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFraming {
    /// The response has no body (HEAD, 204, 205, 304). What the application yields is discarded.
    NoBody,
    /// The body has this many bytes (Content-Length).
    Length(u64),
    /// The body is chunked (Transfer-Encoding).
    Chunked,
    /// The body ends with the connection.
    UntilClose,
}

/// Whether the connection persists after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// The connection stays open for further requests.
    KeepAlive,
    /// The connection closes after the response.
    Close,
}

impl ResponseHead {
    /// Clears the head and starts it with a status such as `200 OK`, in latin-1 bytes.
    ///
    /// Shape:  three digits, a space and a reason, as in PEP 3333 and RFC 9112 §4. The reason may be empty, but
    ///         the space is required.
    /// Errors: the head is then as if it had never been started.
    pub fn start(&mut self, status: &[u8]) -> Result<(), ResponseError> {
        self.encoded.clear();
        self.code = 0;
        self.length = None;
        self.has_date = false;
        self.has_server = false;
        self.closes = false;
        self.names_file = false;
        let [hundreds @ b'0'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', b' ', reason @ ..] =
            status
        else {
            return Err(ResponseError::StatusForm);
        };
        let digit = |byte: &u8| u16::from(byte - b'0');
        let code = digit(hundreds) * 100 + digit(tens) * 10 + digit(ones);
        if !(200..=599).contains(&code) {
            return Err(ResponseError::StatusRange);
        }
        if reason.iter().any(u8::is_ascii_control) {
            return Err(ResponseError::StatusControl);
        }
        self.code = code;
        self.encoded.extend_from_slice(b"HTTP/1.1 ");
        self.encoded.extend_from_slice(status);
        self.encoded.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Adds one field, with name and value in latin-1 bytes. Call it only after a successful
    /// [`ResponseHead::start`].
    pub fn add(&mut self, name: &[u8], value: &[u8]) -> Result<(), ResponseError> {
        if !byte_class::are(name, TOKEN) {
            return Err(ResponseError::Name);
        }
        if !byte_class::is_value(value) {
            return Err(ResponseError::Value);
        }
        let known = ResponseField::of(name);
        let mut declared = None;
        match known {
            ResponseField::Other => {}
            ResponseField::Date => self.has_date = true,
            ResponseField::Server => self.has_server = true,
            ResponseField::NamesFile => self.names_file = true,
            ResponseField::ContentLength if self.length.is_some() => {
                return Err(ResponseError::ContentLengthRepeated);
            }
            ResponseField::ContentLength => {
                declared = Some(byte_class::decimal(value).ok_or(ResponseError::ContentLength)?);
            }
            ResponseField::Connection if value.eq_ignore_ascii_case(b"close") => {
                self.closes = true;
                return Ok(());
            }
            ResponseField::Connection | ResponseField::HopByHop => {
                return Err(ResponseError::HopByHop);
            }
        }
        let start = self.encoded.len();
        self.encoded.reserve(name.len() + value.len() + 4);
        self.encoded.extend_from_slice(name);
        self.encoded.extend_from_slice(b": ");
        self.encoded.extend_from_slice(value);
        self.encoded.extend_from_slice(b"\r\n");
        if let Some(bytes) = declared {
            self.length = Some(DeclaredLength { bytes, line: start..self.encoded.len() });
        }
        Ok(())
    }

    /// Whether a field of this name could be added, and means nothing to the server.
    pub fn is_free_name(name: &[u8]) -> bool {
        byte_class::are(name, TOKEN) && ResponseField::of(name) == ResponseField::Other
    }

    /// Returns the status; `Status(0)` before [`ResponseHead::start`].
    pub fn status(&self) -> Status {
        Status(self.code)
    }

    /// Returns the length of status line and fields.
    pub fn encoded_bytes(&self) -> usize {
        self.encoded.len()
    }

    /// Returns the application's Content-Length.
    pub fn content_length(&self) -> Option<u64> {
        self.length.as_ref().map(|length| length.bytes)
    }

    /// Whether there is an `X-Sendfile` or `X-Accel-Redirect`.
    pub fn names_file(&self) -> bool {
        self.names_file
    }

    /// Returns the application's fields in their order, without `Connection`.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let lines = self.encoded.split(|&byte| byte == b'\n').skip(1);
        lines.filter_map(|line| {
            let line = line.strip_suffix(b"\r")?;
            let colon = memchr::memchr(b':', line)?;
            Some((&line[..colon], byte_class::trim(&line[colon + 1..])))
        })
    }

    /// Returns the value of the first field of this name that the application has set. Names are case-insensitive.
    pub fn find(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields();
        fields.find_map(|(n, value)| n.eq_ignore_ascii_case(name.as_bytes()).then_some(value))
    }

    /// Adds the fields of another head whose names are wanted, and its `Connection: close`.
    pub fn add_from(&mut self, other: &Self, is_wanted: impl Fn(&[u8]) -> bool) {
        for (name, value) in other.fields().filter(|(name, _)| is_wanted(name)) {
            // A field that the other head has accepted cannot fail here, unless it is a second Content-Length, and
            // the first one stays.
            let _ = self.add(name, value);
        }
        self.closes |= other.closes;
    }

    /// Returns the status line without version, such as `200 OK`.
    pub fn status_line(&self) -> &[u8] {
        let end = memchr::memchr(b'\r', &self.encoded).unwrap_or(0);
        self.encoded.get(b"HTTP/1.1 ".len()..end).unwrap_or_default()
    }

    /// Decides the framing and appends the encoded head, with its empty line, to `out`.
    ///
    /// `length` is the length of the body, if it is known without a Content-Length from the application.
    /// `persistence` is what the request, the configuration and a drain allow; the returned one is what the
    /// response says.
    ///
    /// | response | sent | framing |
    /// |---|---|---|
    /// | 204 | no Content-Length, not even the application's (RFC 9110 §8.6) | `NoBody` |
    /// | 205 | `Content-Length: 0`, not the application's (RFC 9110 §15.3.6) | `NoBody` |
    /// | 304 | the application's Content-Length | `NoBody` |
    /// | to HEAD | Content-Length: the application's, or a `length` above 0 | `NoBody` |
    /// | with a length | Content-Length: the application's before `length` | `Length` |
    /// | other, to HTTP/1.1 | Transfer-Encoding: chunked | `Chunked` |
    /// | other, to HTTP/1.0 | nothing | `UntilClose`, which closes |
    ///
    /// A response to HEAD with a `length` of 0 gets no Content-Length: an application that omits the body for
    /// HEAD has the same length, and its GET would have another. Transfer-Encoding is omitted for HEAD, too, as
    /// RFC 9112 §6.1 allows: a client never waits for more than the head.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, one moment: everything that decides a head"
    )]
    pub fn send(
        &self,
        out: &mut Vec<u8>,
        request_is_head: bool,
        version: Version,
        length: Option<u64>,
        persistence: Persistence,
        date: &HttpDate,
        server: bool,
    ) -> (ReplyFraming, Persistence) {
        out.reserve(self.encoded.len() + OWN_BYTES);
        match &self.length {
            Some(declared) if matches!(self.code, 204 | 205) => {
                out.extend_from_slice(&self.encoded[..declared.line.start]);
                out.extend_from_slice(&self.encoded[declared.line.end..]);
            }
            Some(_) | None => out.extend_from_slice(&self.encoded),
        }

        let declared = self.content_length();
        let framing = if self.status().is_bodyless() {
            ReplyFraming::NoBody
        } else if self.code == 205 {
            // Clients read a body behind this status, so its length has to say that there is none.
            put_length(out, 0);
            ReplyFraming::NoBody
        } else if request_is_head {
            if let (None, Some(length @ 1..)) = (declared, length) {
                put_length(out, length);
            }
            ReplyFraming::NoBody
        } else if let Some(length) = declared {
            ReplyFraming::Length(length)
        } else if let Some(length) = length {
            put_length(out, length);
            ReplyFraming::Length(length)
        } else {
            match version {
                Version::Http11 => {
                    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
                    ReplyFraming::Chunked
                }
                Version::Http10 => ReplyFraming::UntilClose,
            }
        };

        if !self.has_date {
            put_date(out, date);
        }
        if server && !self.has_server {
            out.extend_from_slice(SERVER);
        }
        let persistence = match persistence {
            Persistence::KeepAlive if self.closes || framing == ReplyFraming::UntilClose => {
                Persistence::Close
            }
            Persistence::KeepAlive | Persistence::Close => persistence,
        };
        put_connection(out, persistence, version);
        out.extend_from_slice(b"\r\n");
        (framing, persistence)
    }
}

/// What the server does with a field from the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ResponseField {
    Other,
    Connection,
    ContentLength,
    Date,
    Server,
    /// `X-Sendfile` and `X-Accel-Redirect`.
    NamesFile,
    /// PEP 3333 forbids applications to send these: the names in wsgiref's `is_hop_by_hop`, and `Trailer` and
    /// `Proxy-Connection`. `Trailers` is wsgiref's spelling, from RFC 2616.
    HopByHop,
}

impl ResponseField {
    /// Classifies the field of this name. Length and first letter leave one candidate.
    #[inline]
    fn of(name: &[u8]) -> Self {
        let (known, text): (Self, &[u8]) = match (name.len(), name.first().map(|b| b | 0x20)) {
            (2, Some(b't')) => (Self::HopByHop, b"te"),
            (4, Some(b'd')) => (Self::Date, b"date"),
            (6, Some(b's')) => (Self::Server, b"server"),
            (7, Some(b't')) => (Self::HopByHop, b"trailer"),
            (7, Some(b'u')) => (Self::HopByHop, b"upgrade"),
            (8, Some(b't')) => (Self::HopByHop, b"trailers"),
            (10, Some(b'c')) => (Self::Connection, b"connection"),
            (10, Some(b'k')) => (Self::HopByHop, b"keep-alive"),
            (10, Some(b'x')) => (Self::NamesFile, b"x-sendfile"),
            (14, Some(b'c')) => (Self::ContentLength, b"content-length"),
            (16, Some(b'p')) => (Self::HopByHop, b"proxy-connection"),
            (16, Some(b'x')) => (Self::NamesFile, b"x-accel-redirect"),
            (17, Some(b't')) => (Self::HopByHop, b"transfer-encoding"),
            (18, Some(b'p')) => (Self::HopByHop, b"proxy-authenticate"),
            (19, Some(b'p')) => (Self::HopByHop, b"proxy-authorization"),
            _ => return Self::Other,
        };
        if byte_class::is_name(name, text) { known } else { Self::Other }
    }
}

/// The `Server` field. It names no version, which would help attackers more than clients.
const SERVER: &[u8] = b"Server: arctos\r\n";
/// Maximum bytes that the server adds to a head: framing, Date, Server, Connection, empty line.
const OWN_BYTES: usize = 160;

fn put_length(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"Content-Length: ");
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn put_date(out: &mut Vec<u8>, date: &HttpDate) {
    out.extend_from_slice(b"Date: ");
    out.extend_from_slice(date.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn put_connection(out: &mut Vec<u8>, persistence: Persistence, version: Version) {
    match (persistence, version) {
        // HTTP/1.0 closes by default, but a client that asked for keep-alive should learn that it
        // did not get it.
        (Persistence::Close, Version::Http10 | Version::Http11) => {
            out.extend_from_slice(b"Connection: close\r\n");
        }
        (Persistence::KeepAlive, Version::Http10) => {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        (Persistence::KeepAlive, Version::Http11) => {}
    }
}

/// The field with the identifier of a request.
#[derive(Clone, Copy, Debug)]
pub struct IdField<'a> {
    /// Its name, a token.
    pub name: &'a str,
    /// The identifier: visible ASCII.
    pub id: &'a [u8],
}

impl<'a> IdField<'a> {
    /// `X-Request-Id`, if there is an identifier.
    pub fn usual(id: &'a [u8]) -> Option<Self> {
        if id.is_empty() { None } else { Some(Self { name: "X-Request-Id", id }) }
    }

    /// Adds the field to a complete head at the end of `out`: in front of its empty line.
    pub fn add_to_head(&self, out: &mut Vec<u8>) {
        out.truncate(out.len().saturating_sub(b"\r\n".len()));
        self.put(out);
        out.extend_from_slice(b"\r\n");
    }

    fn put(&self, out: &mut Vec<u8>) {
        for part in [self.name.as_bytes(), b": ", self.id, b"\r\n"] {
            out.extend_from_slice(part);
        }
    }
}

/// A complete response that the server sends in place of the application: a one-line text body with the status.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the names of the fields say what they are")]
pub struct Refusal<'a> {
    pub status: Status,
    /// Whether the request is a HEAD, whose response has no body.
    pub is_head: bool,
    pub version: Version,
    pub persistence: Persistence,
    /// The field with the identifier of the request, or none.
    pub request_id: Option<IdField<'a>>,
    /// When to try again after a 503 (RFC 9110 §10.2.3).
    pub retry_after_s: u32,
}

impl Refusal<'_> {
    /// The usual [`Refusal::retry_after_s`]: a server that refuses what has waited too long has emptied its queue soon.
    pub const RETRY_AFTER_S: u32 = 1;

    /// A response after which the connection is closed.
    pub fn closing(status: Status, is_head: bool) -> Self {
        let (version, persistence) = (Version::Http11, Persistence::Close);
        let retry_after_s = Self::RETRY_AFTER_S;
        Self { status, is_head, version, persistence, request_id: None, retry_after_s }
    }

    /// Appends head and body. A 503 has Retry-After.
    pub fn put(&self, out: &mut Vec<u8>, date: &HttpDate, server: bool) {
        let mut code = itoa::Buffer::new();
        let code = code.format(self.status.0).as_bytes();
        let reason = self.status.reason().as_bytes();
        out.extend_from_slice(b"HTTP/1.1 ");
        out.extend_from_slice(code);
        out.push(b' ');
        out.extend_from_slice(reason);
        out.extend_from_slice(b"\r\nContent-Type: text/plain\r\n");
        put_length(out, (code.len() + reason.len() + 2) as u64);
        put_date(out, date);
        if server {
            out.extend_from_slice(SERVER);
        }
        if self.status == Status(503) {
            out.extend_from_slice(b"Retry-After: ");
            out.extend_from_slice(itoa::Buffer::new().format(self.retry_after_s).as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        if let Some(field) = &self.request_id {
            field.put(out);
        }
        put_connection(out, self.persistence, self.version);
        out.extend_from_slice(b"\r\n");
        if !self.is_head {
            out.extend_from_slice(code);
            out.push(b' ');
            out.extend_from_slice(reason);
            out.push(b'\n');
        }
    }
}

/// Appends `chunk-size CRLF`, which starts a chunk of `length` bytes (never 0).
pub fn put_chunk_size(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length > 0, "a chunk of no bytes would end the body");
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 2 * size_of::<usize>() + 2];
    let mut start = text.len() - 2;
    text[start..].copy_from_slice(b"\r\n");
    let mut left = length;
    loop {
        start -= 1;
        text[start] = DIGITS[left & 0xf];
        left >>= 4;
        if left == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[start..]);
}

/// The end of each chunk.
pub const CHUNK_CLOSING: &[u8] = b"\r\n";
/// The last chunk and the empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The interim response.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
mod tests;
