//! The test harness of this directory: an application from Python source, requests from bytes, and the reply as the
//! event loop sees it.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::application::{
    AppBody, AppError, Application, ClientGone, Content, Outlet, Request, RequestBody,
};
use crate::connection::ConnInfo;
use crate::http::{Forwarded, Head, HttpDate, Persistence, ResponseHead, Version};
use crate::settings::{HeaderMap, Limits, Settings};
use crate::shared::identity::{Generation, SlotId};
use crate::shared::log::{Level, Log, LogFormat};
use crate::shared::scoreboard::WorkerEntry;
use crate::shared::socket_name::SocketName;
use crate::wsgi::Bridge;

/// Creates a log that a test can read.
pub(in crate::wsgi) fn readable_log() -> (Log, File) {
    let file = tempfile::tempfile().unwrap();
    let descriptor = file.try_clone().unwrap().into();
    (Log::new(Level::Debug, LogFormat::Text, descriptor), file)
}

/// Returns the content of a test's log.
pub(in crate::wsgi) fn text_of(log: &File) -> String {
    let mut file = log.try_clone().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    text
}

/// The client as `write()` sees it.
#[derive(Default)]
pub(in crate::wsgi) struct Wire {
    /// What was written, without the head.
    pub(in crate::wsgi) written: Vec<u8>,
    /// The status at the first write.
    pub(in crate::wsgi) status: Option<u16>,
    /// Whether the client has disconnected.
    pub(in crate::wsgi) is_gone: bool,
}

impl Outlet for Wire {
    fn write(&mut self, head: &ResponseHead, data: &[u8]) -> Result<(), ClientGone> {
        if self.is_gone {
            return Err(ClientGone);
        }
        self.status.get_or_insert(head.status().0);
        self.written.extend_from_slice(data);
        Ok(())
    }
}

/// The kind of content of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::wsgi) enum Kind {
    Empty,
    Whole,
    Stream,
    File,
}

/// A complete, closed reply.
#[derive(Debug)]
pub(in crate::wsgi) struct Answer {
    pub(in crate::wsgi) kind: Kind,
    /// Status line and fields as sent, without those that the server adds.
    pub(in crate::wsgi) head: String,
    /// The items, in order.
    pub(in crate::wsgi) items: Vec<Vec<u8>>,
    pub(in crate::wsgi) length: Option<u64>,
    /// The error that ended the items early.
    pub(in crate::wsgi) broken: Option<AppError>,
}

/// A bridge around an application, with everything that a test inspects.
pub(in crate::wsgi) struct App {
    pub(in crate::wsgi) bridge: Bridge,
    pub(in crate::wsgi) wire: Wire,
    pub(in crate::wsgi) conn: ConnInfo,
    pub(in crate::wsgi) forwarded: Option<Forwarded>,
    names: Py<PyDict>,
    log: File,
    sequence: u64,
}

/// Runs Python source and returns the names that it defines.
pub(in crate::wsgi) fn run(py: Python<'_>, source: &str) -> Py<PyDict> {
    let names = PyDict::new(py);
    py.run(&CString::new(source).unwrap(), Some(&names), None).unwrap();
    names.unbind()
}

impl App {
    /// Wraps `app` from this source.
    pub(in crate::wsgi) fn new(source: &str) -> Self {
        Self::with(source, &Settings::default())
    }

    /// Wraps `app` from this source, with settings.
    pub(in crate::wsgi) fn with(source: &str, settings: &Settings) -> Self {
        Python::initialize();
        let (writer, log) = readable_log();
        let (bridge, names) = Python::attach(|py| {
            let names = run(py, source);
            let app = names.bind(py).get_item("app").unwrap().unwrap().unbind();
            let entry = WorkerEntry::detached();
            let bridge =
                Bridge::around(py, app, settings, (SlotId(3), Generation(1)), entry, writer);
            (bridge.unwrap(), names)
        });
        let (peer, local) = (inet("192.0.2.7:40000"), inet("192.0.2.1:8000"));
        let conn = ConnInfo::new(peer, local, Instant::now());
        Self { bridge, wire: Wire::default(), conn, forwarded: None, names, log, sequence: 0 }
    }

    /// Wraps an application that replies with `repr()` of an expression over `environ`.
    pub(in crate::wsgi) fn showing(expression: &str) -> Self {
        Self::new(&showing(expression))
    }

    /// Returns the body of the reply to a GET with these header lines.
    pub(in crate::wsgi) fn text(&mut self, target: &str, header_lines: &str) -> String {
        let head = format!("GET {target} HTTP/1.1\r\nHost: example.org\r\n{header_lines}\r\n");
        let answer = self.send(head.as_bytes(), RequestBody::Empty).unwrap();
        String::from_utf8(answer.items.concat()).unwrap()
    }

    /// Returns the reply to a plain GET.
    pub(in crate::wsgi) fn get(&mut self) -> Result<Answer, AppError> {
        self.send(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", RequestBody::Empty)
    }

    /// Returns the reply to a POST with this body.
    pub(in crate::wsgi) fn post(&mut self, body: RequestBody<'_>) -> Result<Answer, AppError> {
        self.send(b"POST / HTTP/1.1\r\nHost: example.org\r\n\r\n", body)
    }

    /// Returns the reply to this head with a body.
    pub(in crate::wsgi) fn send(
        &mut self,
        head_bytes: &[u8],
        body: RequestBody<'_>,
    ) -> Result<Answer, AppError> {
        self.sequence += 1;
        let head = parsed(head_bytes);
        let request = Request {
            head_bytes,
            head: &head,
            body,
            conn: &self.conn,
            sequence: self.sequence,
            forwarded: self.forwarded.as_ref(),
            queue_wait: Duration::ZERO,
        };
        let reply = self.bridge.call(request, &mut self.wire)?;
        let mut answer = Answer {
            kind: Kind::Empty,
            head: shown(reply.head),
            items: Vec::new(),
            length: None,
            broken: None,
        };
        match reply.content {
            Content::Empty => {}
            Content::Whole(chunk) => {
                answer.kind = Kind::Whole;
                answer.items.push(chunk.to_vec());
            }
            Content::Stream(stream) => {
                answer.kind = Kind::Stream;
                answer.length = stream.length;
                answer.items.extend(stream.first.map(|first| first.to_vec()));
                let mut rest = stream.rest;
                loop {
                    match rest.pull(&mut self.wire) {
                        Ok(Some(chunk)) => answer.items.push(chunk.to_vec()),
                        Ok(None) => break,
                        Err(error) => {
                            answer.broken = Some(error);
                            break;
                        }
                    }
                }
                rest.close();
            }
            Content::File(span) => {
                answer.kind = Kind::File;
                answer.length = Some(span.length);
                let mut file = File::from(span.file);
                file.seek(SeekFrom::Start(span.offset)).unwrap();
                let mut bytes = Vec::new();
                file.take(span.length).read_to_end(&mut bytes).unwrap();
                answer.items.push(bytes);
                span.owner.close();
            }
        }
        Ok(answer)
    }

    /// Returns `repr()` of a name that the source or the application has set.
    pub(in crate::wsgi) fn value(&self, name: &str) -> String {
        Python::attach(|py| {
            let value = self.names.bind(py).get_item(name).unwrap().unwrap();
            value.repr().unwrap().to_string()
        })
    }

    /// Returns what has been logged so far.
    pub(in crate::wsgi) fn logged(&self) -> String {
        text_of(&self.log)
    }
}

/// Returns the source of an application that replies with `repr()` of an expression over `environ`.
pub(in crate::wsgi) fn showing(expression: &str) -> String {
    format!(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    \
         return [repr({expression}).encode('latin-1')]\n"
    )
}

/// Returns a TCP address.
pub(in crate::wsgi) fn inet(address: &str) -> SocketName {
    SocketName::Inet(address.parse::<SocketAddr>().unwrap())
}

/// Parses a head.
pub(in crate::wsgi) fn parsed(head_bytes: &[u8]) -> Head {
    Head::of(head_bytes, &Limits::DEFAULT, HeaderMap::Drop).unwrap().unwrap()
}

/// Encodes a head as it is sent, without Date, Server and framing.
fn shown(head: &ResponseHead) -> String {
    let mut out = Vec::new();
    let date = HttpDate::at(std::time::UNIX_EPOCH);
    head.send(&mut out, true, Version::Http11, None, Persistence::KeepAlive, &date, false);
    let text = String::from_utf8_lossy(&out).into_owned();
    text.lines().filter(|line| !line.starts_with("Date:")).collect::<Vec<_>>().join("\n")
}
