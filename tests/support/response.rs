//! A reader of HTTP/1.1 responses that takes nothing on trust: a response that is cut short, framed
//! twice or not at all is an error, so that a test cannot mistake it for a whole one.

use std::io::{self, Read};

/// One response, interim ones included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// `HTTP/1.1 200 OK`
    pub(crate) line: String,
    /// Names as sent, values without surrounding white space; latin-1.
    pub(crate) fields: Vec<(String, String)>,
    /// The decoded body.
    pub(crate) body: Vec<u8>,
    /// How the end of the body was told.
    pub(crate) framing: ResponseFraming,
}

/// How the end of a response's body is told (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseFraming {
    /// It never has one: the answer to HEAD, 1xx, 204, 304.
    NoBody,
    Length,
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

impl Response {
    /// The value of a field that comes at most once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| &value[..]);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} comes twice");
        value
    }

    /// Whether it announces the end of the connection.
    pub(crate) fn says_close(&self) -> bool {
        self.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads the responses of one connection in turn.
pub(crate) struct ResponseReader<R> {
    stream: R,
    /// Bytes that were read and belong to what comes next.
    buffer: Vec<u8>,
}

impl<R: Read> ResponseReader<R> {
    /// Reads from `stream`.
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    /// The stream.
    pub(crate) fn get_ref(&self) -> &R {
        &self.stream
    }

    /// The next response; `None` when the connection ends between two.
    ///
    /// Errors: `UnexpectedEof` when it ends within one, `InvalidData` when it is not a response.
    pub(crate) fn next_response(&mut self, request_is_head: bool) -> io::Result<Option<Response>> {
        if self.buffer.is_empty() && self.fill()? == 0 {
            return Ok(None);
        }
        let line = self.line()?;
        let status = match line.as_bytes() {
            [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1', b' ', status @ ..] => status
                .get(..3)
                .filter(|_| status.get(3) == Some(&b' '))
                .and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok())
                .ok_or_else(|| invalid(&line))?,
            _ => return Err(invalid(&line)),
        };
        let fields = self.fields()?;
        let mut response =
            Response { status, line, fields, body: Vec::new(), framing: ResponseFraming::NoBody };
        self.body(&mut response, request_is_head)?;
        Ok(Some(response))
    }

    /// Everything up to the end of the connection.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.buffer))
    }

    fn body(&mut self, response: &mut Response, request_is_head: bool) -> io::Result<()> {
        let length = response.field("Content-Length").map(str::to_owned);
        let coding = response.field("Transfer-Encoding").map(str::to_owned);
        let has_body = !request_is_head && !matches!(response.status, 100..=199 | 204 | 304);
        response.framing = match (length, coding) {
            _ if !has_body => ResponseFraming::NoBody,
            (Some(_), Some(coding)) => return Err(invalid(&coding)),
            (Some(length), None) => {
                let length = length.parse().map_err(|_| invalid(&length))?;
                response.body = self.take(length)?;
                ResponseFraming::Length
            }
            (None, Some(coding)) if coding == "chunked" => {
                response.body = self.chunks()?;
                ResponseFraming::Chunked
            }
            (None, Some(coding)) => return Err(invalid(&coding)),
            (None, None) => {
                response.body = self.rest()?;
                ResponseFraming::UntilClose
            }
        };
        Ok(())
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let is_hex = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
            let size = usize::from_str_radix(&line, 16).ok().filter(|_| is_hex);
            match size.ok_or_else(|| invalid(&line))? {
                0 => {
                    self.fields()?;
                    return Ok(body);
                }
                size => body.extend(self.take(size)?),
            }
            let end = self.take(2)?;
            if end != b"\r\n" {
                return Err(invalid("no CRLF behind a chunk"));
            }
        }
    }

    /// Field lines, and the empty line behind them.
    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or_else(|| invalid(&line))?;
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// A line without its CRLF, taken as latin-1.
    fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).take(at).collect();
                return Ok(line.into_iter().map(char::from).collect());
            }
            self.fill_or_fail()?;
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill_or_fail()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    fn fill_or_fail(&mut self) -> io::Result<()> {
        match self.fill()? {
            0 => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("it ends behind `{}`", self.buffer.escape_ascii()),
            )),
            _ => Ok(()),
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece)?;
        self.buffer.extend_from_slice(&piece[..count]);
        Ok(count)
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`{}`", text.escape_debug()))
}
