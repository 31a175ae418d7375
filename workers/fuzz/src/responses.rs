//! A strict client: reads what a connection sent, and compares it with what the application gave.

use super::connection::application::Behavior;
use super::connection::shell::Outcome;

/// Compares the responses with the requests. A response that was cut off is the last one, and cannot be taken for
/// a complete one.
pub(crate) fn check(outcome: &Outcome) {
    use arctos_worker::connection::CloseManner;

    let mut rest = &outcome.sent.0[..];
    let mut is_open = true;
    for request in &outcome.requests {
        assert!(is_open, "a request behind the last response");
        let behavior = Behavior::of(request);
        let head = Head::read(&mut rest);
        assert_eq!(head.status, behavior.status());
        let has_body = request.method.0 != b"HEAD" && !matches!(head.status, 204 | 304);
        let persists = head.persists(request.is_http_11);
        assert!(!persists || request.keeps_alive);
        is_open = persists;
        if !has_body {
            assert!(head.field("transfer-encoding").is_none());
            continue;
        }
        let body = head.body(&mut rest);
        if behavior.is_cut_off() {
            assert!(rest.is_empty(), "something behind a response that was cut off");
            let is_until_close = head.framing() == Framing::UntilClose;
            assert!(body.is_none() || is_until_close, "it looks complete");
            assert_eq!(outcome.manner == CloseManner::Reset, is_until_close);
            is_open = false;
            continue;
        }
        let body = body.expect("a complete body");
        match behavior.body(request) {
            Some(expected) => assert_eq!(body, expected),
            None => assert_eq!(body, b"500 Internal Server Error\n"),
        }
    }
    if let Some(refused) = &outcome.refused {
        assert!(is_open, "a refusal behind the last response");
        let head = Head::read(&mut rest);
        assert_eq!(head.status, refused.reason.status().0);
        assert!(!head.persists(true));
        assert!(head.body(&mut rest).is_some());
    }
    assert_eq!(rest.escape_ascii().to_string(), "", "behind the last response");
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(usize),
    Chunked,
    UntilClose,
}

/// The head of a response.
pub(crate) struct Head {
    pub(crate) status: u16,
    fields: Vec<(String, String)>,
}

impl Head {
    /// Reads the head at the start of `bytes`, and removes it from them.
    pub(crate) fn read(bytes: &mut &[u8]) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
        let text = str::from_utf8(&bytes[..end]).expect("ASCII");
        *bytes = &bytes[end + 4..];
        let mut lines = text.split("\r\n");
        let line = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
        let (status, _) = line.and_then(|line| line.split_once(' ')).expect("a status line");
        let fields = lines.map(|line| {
            let (name, value) = line.split_once(": ").expect("a field line");
            assert!(!name.contains(' ') && !value.contains(['\r', '\n']));
            (name.to_ascii_lowercase(), value.to_owned())
        });
        let head = Self { status: status.parse().expect("a number"), fields: fields.collect() };
        assert!(head.field("date").is_some());
        head
    }

    fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(known, _)| known == name);
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice");
        value.map(|(_, value)| &value[..])
    }

    /// Whether the connection persists after this response.
    pub(crate) fn persists(&self, request_is_http_11: bool) -> bool {
        match self.field("connection") {
            None => request_is_http_11,
            Some("close") => false,
            Some("keep-alive") => true,
            Some(other) => panic!("Connection: {other}"),
        }
    }

    fn framing(&self) -> Framing {
        match (self.field("content-length"), self.field("transfer-encoding")) {
            (None, None) => Framing::UntilClose,
            (Some(length), None) => Framing::Length(length.parse().expect("a number")),
            (None, Some("chunked")) => Framing::Chunked,
            (length, coding) => panic!("{length:?} and {coding:?}"),
        }
    }

    /// Reads the body; `None` if it is not complete.
    pub(crate) fn body(&self, rest: &mut &[u8]) -> Option<Vec<u8>> {
        match self.framing() {
            Framing::Length(length) => take(rest, length),
            Framing::UntilClose => take(rest, rest.len()),
            Framing::Chunked => {
                let mut body = Vec::new();
                loop {
                    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
                    let size = str::from_utf8(&rest[..end]).expect("ASCII");
                    let size = usize::from_str_radix(size, 16).expect("a chunk size");
                    *rest = &rest[end + 2..];
                    body.extend(take(rest, size)?);
                    assert_eq!(take(rest, 2)?, b"\r\n");
                    if size == 0 {
                        return Some(body);
                    }
                }
            }
        }
    }
}

/// Takes the next bytes; if there are not as many, it takes all of them and returns `None`.
fn take(rest: &mut &[u8], count: usize) -> Option<Vec<u8>> {
    let taken = rest.get(..count).map(<[u8]>::to_vec);
    *rest = rest.get(count..).unwrap_or_default();
    taken
}
