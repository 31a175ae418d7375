//! A connection that sends one file of the corpus and compares the responses with the expectation.

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::Instant;

use arctos_worker::shared::scoreboard::{Counter, Counters};

use super::corpus::{Case, End, ExpectedRequest};
use super::echo;
use super::response::{Response, ResponseFraming, ResponseReader};
use super::server::{PATIENCE, Server};

/// When the next piece of a file is sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Once the worker has read the previous piece.
    Lockstep,
    /// At once.
    AtOnce,
}

/// One connection of a client that sends one file.
pub(crate) struct Conversation<'a> {
    case: &'a Case,
    counters: &'static Counters,
    reader: ResponseReader<TcpStream>,
    /// Number of bytes that the worker had read before.
    bytes_before: u64,
    /// Number of connections that the worker had accepted before, all of which it has closed.
    accepted_before: u64,
}

impl<'a> Conversation<'a> {
    /// Connects to the worker.
    pub(crate) fn open(server: &Server, case: &'a Case) -> Self {
        let counters = &server.entry().counters;
        let bytes_before = counters.get(Counter::BytesIn);
        let accepted_before = counters.get(Counter::ConnAcceptSuccess);
        let reader = ResponseReader::new(server.connect());
        Self { case, counters, reader, bytes_before, accepted_before }
    }

    /// Sends the pieces, and compares everything that the worker sends back with the expectation.
    pub(crate) fn run(mut self, pieces: &[&[u8]], pace: Pace) -> Result<(), String> {
        let sent = self.send(pieces, pace)?;
        if let End::Incomplete(_) = self.case.end {
            self.shut()?;
        }
        for (at, request) in self.case.requests.iter().enumerate() {
            self.receive(request).map_err(|difference| format!("response {at}: {difference}"))?;
        }
        match self.case.end {
            End::Rest(left) => {
                let keeps_alive = self.case.requests.last().is_none_or(|last| last.keeps_alive);
                if keeps_alive {
                    self.shut()?;
                }
                self.end(left)
            }
            End::Refused(status) => {
                let response =
                    self.next(false)?.ok_or("closed instead of rejecting the request")?;
                compare_rejection(&response, status)?;
                self.end(0)?;
                // The worker reads the bytes after a rejected request (RFC 9112 section 9.6). If it closed
                // with unread bytes, the kernel would reset the connection and could lose the response.
                self.wait_until_read(sent)
            }
            End::Closed => self.end(1),
            End::Incomplete(_) => {
                while let Some(response) = self.next(false)? {
                    if !matches!(response.status, 100 | 408) {
                        return Err(format!(
                            "an incomplete request is answered: {}",
                            response.line
                        ));
                    }
                }
                Ok(())
            }
        }
    }

    /// Sends the pieces and returns the number of bytes sent. The worker may close before the last piece only
    /// where it may leave bytes unread.
    fn send(&self, pieces: &[&[u8]], pace: Pace) -> Result<usize, String> {
        let mut sent = 0;
        for piece in pieces {
            match self.reader.get_ref().write_all(piece) {
                Ok(()) => sent += piece.len(),
                Err(error) if self.may_reset() && is_reset(error.kind()) => break,
                Err(error) => return Err(format!("after {sent} bytes sent: {error}")),
            }
            if pace == Pace::Lockstep {
                self.wait_until_read(sent)?;
            }
        }
        Ok(sent)
    }

    /// The worker may reset a connection on which the client sends bytes after a request that closes it.
    fn may_reset(&self) -> bool {
        matches!(self.case.end, End::Rest(1..) | End::Closed)
    }

    /// Waits until the worker has read `sent` bytes of this connection, or closed it.
    fn wait_until_read(&self, sent: usize) -> Result<(), String> {
        let wanted = self.bytes_before + sent as u64;
        let start = Instant::now();
        while self.counters.get(Counter::BytesIn) < wanted
            && !(self.may_reset() && self.is_closed())
        {
            if start.elapsed() > PATIENCE {
                let read = self.counters.get(Counter::BytesIn) - self.bytes_before;
                return Err(format!("the worker has read {read} of {sent} bytes"));
            }
            thread::yield_now();
        }
        Ok(())
    }

    /// Whether the worker has closed our connection, which is the only one that is open.
    fn is_closed(&self) -> bool {
        let closed = [Counter::RespConnClose, Counter::RespAborted, Counter::ReqAborted];
        closed.map(|counter| self.counters.get(counter)).iter().sum::<u64>() > self.accepted_before
    }

    fn shut(&self) -> Result<(), String> {
        let shut = self.reader.get_ref().shutdown(Shutdown::Write);
        shut.map_err(|error| format!("the connection is gone: {error}"))
    }

    fn next(&mut self, request_is_head: bool) -> Result<Option<Response>, String> {
        self.reader.next_response(request_is_head).map_err(|error| error.to_string())
    }

    /// Reads one response of the application.
    fn receive(&mut self, request: &ExpectedRequest) -> Result<(), String> {
        let is_head = request.method == b"HEAD";
        loop {
            let response = self.next(is_head)?.ok_or("closed instead")?;
            if response.status == 100 && request.expects_continue {
                continue;
            }
            return compare_response(&response, request, is_head);
        }
    }

    /// Expects that the worker closes without sending anything else.
    fn end(&mut self, left: usize) -> Result<(), String> {
        match self.reader.rest() {
            Ok(rest) if rest.is_empty() => Ok(()),
            Ok(rest) => Err(format!("followed by `{}`", rest.escape_ascii())),
            Err(error) if left > 0 && is_reset(error.kind()) => Ok(()),
            Err(error) => Err(format!("the connection does not end: {error}")),
        }
    }
}

fn is_reset(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn compare_response(
    response: &Response,
    request: &ExpectedRequest,
    is_head: bool,
) -> Result<(), String> {
    if response.status != 200 {
        return Err(response.line.clone());
    }
    if response.field("Date").is_none() {
        return Err("no Date".to_owned());
    }
    if response.says_close() == request.keeps_alive {
        return Err(format!("Connection: {:?}", response.field("Connection")));
    }
    if request.keeps_alive
        && request.version == "HTTP/1.0"
        && !response
            .field("Connection")
            .is_some_and(|value| value.eq_ignore_ascii_case("keep-alive"))
    {
        return Err("HTTP/1.0 is kept alive without a field that says so".to_owned());
    }
    if is_head {
        let has_length = response.field("Content-Length").is_some();
        return if has_length { Ok(()) } else { Err("HEAD without Content-Length".to_owned()) };
    }
    if response.framing != ResponseFraming::Length {
        return Err(format!("framing: {:?}", response.framing));
    }
    let mut first =
        echo::first_lines(&request.method, &request.target, &request.version, request.body);
    first.extend(echo::stated_line(&request.stated));
    let Some(lines) = response.body.strip_prefix(&first[..]) else {
        return Err(format!("the application received `{}`", response.body.escape_ascii()));
    };
    let mut lines = lines.split_inclusive(|&byte| byte == b'\n');
    for (name, value) in &request.fields {
        let line = echo::field_line(name, value);
        if !lines.any(|seen| seen == line) {
            return Err(format!("the application did not receive `{}`", line.escape_ascii()));
        }
    }
    Ok(())
}

fn compare_rejection(response: &Response, status: u16) -> Result<(), String> {
    if response.status != status {
        return Err(format!("expected {status}, got {}", response.line));
    }
    if !response.says_close() {
        return Err("a rejection without `Connection: close`".to_owned());
    }
    if response.framing != ResponseFraming::Length {
        return Err(format!("framing of a rejection: {:?}", response.framing));
    }
    if response.field("Date").is_none() {
        return Err("a rejection without Date".to_owned());
    }
    Ok(())
}
