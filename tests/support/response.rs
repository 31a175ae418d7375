//! A strict reader of HTTP/1.1 responses. A response that is truncated, or framed twice or not at all, is an
//! error, so that a test cannot mistake it for a complete one.

use std::io::{self, Read};

/// One response, which may be an interim one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// The status line, as in `HTTP/1.1 200 OK`.
    pub(crate) line: String,
    /// The names as sent, and the values without surrounding whitespace, both decoded as Latin-1.
    pub(crate) fields: Vec<(String, String)>,
    /// The decoded body.
    pub(crate) body: Vec<u8>,
    /// How the response delimits its body.
    pub(crate) framing: ResponseFraming,
}

/// How a response delimits its body (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseFraming {
    /// It has no body: a response to HEAD, or 1xx, 204 or 304.
    NoBody,
    Length,
    Chunked,
    /// The end of the connection ends the body.
    UntilClose,
}

impl Response {
    /// The value of a field that may appear once.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self
            .fields
            .iter()
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| &value[..]);
        let value = values.next();
        assert_eq!(values.next(), None, "{name} appears twice");
        value
    }

    /// Whether the response announces that the server closes the connection.
    pub(crate) fn says_close(&self) -> bool {
        self.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Reads the responses of one connection one after the other.
pub(crate) struct ResponseReader<R> {
    stream: R,
    /// Bytes that were read but not consumed.
    buffer: Vec<u8>,
}

impl<R: Read> ResponseReader<R> {
    /// Creates a reader of `stream`.
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn get_ref(&self) -> &R {
        &self.stream
    }

    /// Reads the next response, or `None` if the connection ends before it.
    ///
    /// Errors: `UnexpectedEof` if the connection ends within the response, `InvalidData` if it is not one.
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

    /// Reads everything up to the end of the connection.
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
                return Err(invalid("no CRLF after a chunk"));
            }
        }
    }

    /// Reads field lines and the empty line after them.
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

    /// Reads a line without its CRLF, decoded as Latin-1.
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
                format!("the connection ends after `{}`", self.buffer.escape_ascii()),
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
