use std::cell::Cell;
use std::rc::Rc;

use super::*;
use crate::application::Reply;

/// An application with one behavior.
struct Actor {
    role: Role,
    head: ResponseHead,
    /// The head of the request and its peer.
    requested: String,
    seen: Rc<Seen>,
}

#[derive(Clone, Copy)]
enum Role {
    Answers(&'static [u8]),
    Raises,
    Streams(Ending),
}

#[derive(Clone, Copy)]
enum Ending {
    /// It ends after three items.
    Tidy,
    /// It raises after three items.
    Raises,
    Never,
}

/// What happened to a stream.
#[derive(Default)]
struct Seen {
    pulled_count: Cell<usize>,
    closed_count: Cell<usize>,
}

const ITEM: [u8; 1000] = [b'x'; 1000];

struct Items {
    ending: Ending,
    seen: Rc<Seen>,
}

impl AppBody for Items {
    type Chunk = &'static [u8];

    fn pull(&mut self, outlet: &mut dyn Outlet) -> Result<Option<&'static [u8]>, AppError> {
        outlet.write(&ResponseHead::default(), b"by the way").map_err(|_| AppError::ClientGone)?;
        let count = self.seen.pulled_count.get() + 1;
        self.seen.pulled_count.set(count);
        match self.ending {
            Ending::Tidy if count > 3 => Ok(None),
            Ending::Raises if count > 3 => Err(AppError::Raised),
            Ending::Tidy | Ending::Raises | Ending::Never => Ok(Some(&ITEM)),
        }
    }

    fn close(self) {
        self.seen.closed_count.set(self.seen.closed_count.get() + 1);
    }
}

impl Application for Actor {
    type Body = Items;

    fn call(
        &mut self,
        request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Items>, AppError> {
        self.requested = String::from_utf8_lossy(request.head_bytes).into_owned();
        assert_eq!(request.conn.peer, SocketName::Unix(String::new()));
        let status = match self.role {
            Role::Answers(status) => status,
            Role::Raises => return Err(AppError::Raised),
            Role::Streams(_) => b"200 OK",
        };
        self.head.start(status).unwrap();
        let content = match self.role {
            Role::Answers(_) | Role::Raises => Content::Empty,
            Role::Streams(ending) => Content::Stream(Stream {
                first: None,
                rest: Items { ending, seen: Rc::clone(&self.seen) },
                length: None,
            }),
        };
        Ok(Reply { head: &self.head, content })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }
}

fn actor(role: Role) -> Actor {
    Actor { role, head: ResponseHead::default(), requested: String::new(), seen: Rc::default() }
}

fn outcome(app: &mut Actor, path: &str) -> Result<(), ReadinessFailure> {
    let local = SocketName::Inet("127.0.0.1:8000".parse().unwrap());
    run(app, &Settings::default(), path, local, Instant::now())
}

#[test]
fn the_application_gets_one_plain_request_for_the_path() {
    let mut app = actor(Role::Answers(b"200 OK"));
    assert_eq!(outcome(&mut app, "/health?deep=yes"), Ok(()));
    assert_eq!(
        app.requested,
        "GET /health?deep=yes HTTP/1.1\r\nHost: localhost\r\nUser-Agent: arctos-reload-check\r\n\
         Connection: close\r\n\r\n"
    );
}

#[test]
fn only_a_status_of_500_or_above_is_a_failure() {
    for status in [&b"204 No Content"[..], b"302 Found", b"404 Not Found", b"499 "] {
        assert_eq!(outcome(&mut actor(Role::Answers(status)), "/"), Ok(()));
    }
    for (status, code) in [(&b"500 Oops"[..], 500), (b"503 Not yet", 503), (b"599 ", 599)] {
        let failure = outcome(&mut actor(Role::Answers(status)), "/");
        assert_eq!(failure, Err(ReadinessFailure::Answered(Status(code))));
    }
}

#[test]
fn a_failure_says_why() {
    let said = |role| outcome(&mut actor(role), "/").unwrap_err().to_string();
    assert_eq!(said(Role::Answers(b"503 Not yet")), "was answered 503 Service Unavailable");
    assert_eq!(said(Role::Raises), "failed: the application raised");
    assert_eq!(
        outcome(&mut actor(Role::Raises), "/a b").unwrap_err().to_string(),
        "is no request: the version is malformed"
    );
}

#[test]
fn a_stream_is_read_to_its_end_and_closed_once() {
    let mut app = actor(Role::Streams(Ending::Tidy));
    assert_eq!(outcome(&mut app, "/"), Ok(()));
    assert_eq!((app.seen.pulled_count.get(), app.seen.closed_count.get()), (4, 1));
}

#[test]
fn a_stream_that_raises_is_a_failure_and_closed_once() {
    let mut app = actor(Role::Streams(Ending::Raises));
    assert_eq!(outcome(&mut app, "/"), Err(ReadinessFailure::Failed(AppError::Raised)));
    assert_eq!(app.seen.closed_count.get(), 1);
}

#[test]
fn an_endless_stream_is_closed_after_a_megabyte() {
    let mut app = actor(Role::Streams(Ending::Never));
    assert_eq!(outcome(&mut app, "/"), Ok(()));
    assert_eq!(app.seen.pulled_count.get(), BODY_BYTES.div_ceil(ITEM.len()));
    assert_eq!(app.seen.closed_count.get(), 1);
}

#[test]
fn a_path_that_makes_another_request_is_not_sent() {
    for path in ["", "a", "/ HTTP/1.1\r\n\r\nGET /", "/a b", "/\u{7f}", "/ HTTP/1.1\r\nX: y\r\n"] {
        let mut app = actor(Role::Answers(b"200 OK"));
        assert!(outcome(&mut app, path).is_err(), "{path:?}");
        assert_eq!(app.requested, "", "{path:?}");
    }
}
