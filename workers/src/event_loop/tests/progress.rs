//! What the loop shows on the scoreboard: that it is alive, and which time is the application's.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::application::Stream;
use crate::event_loop::drive::TURN_TIME;
use crate::event_loop::record::{Record, Timing};
use crate::http::Head;
use crate::settings::{HeaderMap, Limits};

const MINUTE: Duration = Duration::from_secs(60);

/// What the scoreboard showed at each call of the application.
#[derive(Clone, Default)]
struct Seen(Rc<RefCell<Vec<(&'static str, Showed)>>>);

/// What the scoreboard showed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Showed {
    is_call: bool,
    is_request: bool,
    line: Option<String>,
    /// How long the request had been running when this call began.
    age: Option<Duration>,
    /// How many requests were counted.
    counted: u64,
}

impl Seen {
    fn note(&self, what: &'static str, entry: &WorkerEntry) {
        let showed = Showed {
            is_call: entry.call_start().is_some(),
            is_request: entry.request_start().is_some(),
            line: entry.request_line(),
            age: entry.call_start().zip(entry.request_start()).map(|(call, start)| call - start),
            counted: entry.requests.send.count(),
        };
        self.0.borrow_mut().push((what, showed));
    }

    fn of(&self, what: &str) -> Vec<Showed> {
        let seen = self.0.borrow();
        seen.iter().filter(|(which, _)| *which == what).map(|(_, showed)| showed.clone()).collect()
    }
}

/// Answers with two items.
struct Streaming {
    head: ResponseHead,
    entry: &'static WorkerEntry,
    seen: Seen,
}

struct Items {
    has_more: Cell<bool>,
    entry: &'static WorkerEntry,
    seen: Seen,
}

impl AppBody for Items {
    type Chunk = &'static [u8];

    fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<Self::Chunk>, AppError> {
        self.seen.note("pull", self.entry);
        Ok(self.has_more.replace(false).then_some(b"more"))
    }

    fn close(self) {
        self.seen.note("close", self.entry);
    }
}

impl Application for Streaming {
    type Body = Items;

    fn call(
        &mut self,
        _request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Items>, AppError> {
        self.seen.note("call", self.entry);
        self.head.start(b"200 OK").unwrap();
        let (entry, seen) = (self.entry, self.seen.clone());
        let rest = Items { has_more: Cell::new(true), entry, seen };
        let stream = Stream { first: Some(&b"first"[..]), rest, length: None };
        Ok(Reply { head: &self.head, content: Content::Stream(stream) })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }

    fn run_signal_handlers(&mut self) -> ShutdownRequest {
        self.seen.note("run_signal_handlers", self.entry);
        ShutdownRequest::None
    }
}

/// Runs a test with the loop of such an application, its surroundings, and what it saw.
fn with_loop(test: impl FnOnce(&mut EventLoop<'_, Streaming>, &Surroundings, &Seen)) {
    let (supervisor, control) = UnixStream::pair().unwrap();
    let (init, doorbell) = stage::init(control.into());
    let (entry, seen) = (init.entry, Seen::default());
    let listener = init.listeners[0].socket.try_clone().unwrap();
    let SocketName::Inet(address) = init.listeners[0].name else { panic!("no TCP") };
    let mut app = Streaming { head: ResponseHead::default(), entry, seen: seen.clone() };
    let mut event_loop = EventLoop::new(init, &mut app).unwrap();
    let around = Surroundings { entry, address, listener, doorbell, supervisor };
    test(&mut event_loop, &around, &seen);
}

#[test]
fn each_connection_of_a_batch_is_a_step() {
    with_loop(|event_loop, around, _| {
        let mut clients: Vec<_> = (0..8)
            .map(|index| {
                let client = TcpStream::connect(around.address).unwrap();
                // A silent connection delays the next accept by more than one turn.
                while event_loop.clients.table.len() == index {
                    event_loop.turn().unwrap();
                }
                client
            })
            .collect();
        assert_eq!(event_loop.clients.table.len(), 8);
        for client in &mut clients {
            client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        }
        await_events(event_loop, 8);
        let before = around.entry.ticks();
        event_loop.take_batch(8);
        assert_eq!(around.entry.ticks() - before, 8);
    });
}

#[test]
fn a_client_that_used_up_its_turn_is_not_read_from() {
    let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    let mut app = App { takes: TURN_TIME + Duration::from_millis(1), ..app(2) };
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let mut client = TcpStream::connect(around.address).unwrap();
    client.write_all(&request.repeat(3)).unwrap();
    let answered = || around.entry.counters.get(Counter::RespDone);
    while answered() == 0 {
        event_loop.turn().unwrap();
    }
    // One at its event, and one when the clients that had yielded were served again.
    assert_eq!((answered(), event_loop.schedule.yielded.len()), (2, 1), "each uses a turn up");
    client.write_all(request).unwrap();
    let token = event_loop.schedule.yielded[0];
    let socket = event_loop.clients.table.get(token).unwrap().socket();
    assert_eq!(poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], PollTimeout::NONE), Ok(1));
    event_loop.turn().unwrap();
    assert_eq!(answered(), 3);
    let client = event_loop.clients.table.get(token).unwrap();
    assert!(
        client.unread().is_empty() && event_loop.schedule.yielded.is_empty(),
        "the fourth was read"
    );
    event_loop.turn().unwrap();
    assert_eq!(answered(), 4, "its turn is the next");
}

#[test]
fn the_time_of_each_call_is_the_applications() {
    with_loop(|event_loop, around, seen| {
        let _client = around.request("/download");
        event_loop.turn().unwrap();
        let calls = [seen.of("call"), seen.of("pull"), seen.of("close")];
        assert_eq!(calls.each_ref().map(Vec::len), [1, 2, 1]);
        for showed in calls.iter().flatten() {
            assert!(showed.is_call && showed.is_request, "{showed:?}");
            assert_eq!(showed.line.as_deref(), Some("GET /download"));
        }
        let counted = calls.map(|all| all.iter().map(|it| it.counted).collect::<Vec<_>>());
        assert_eq!(counted, [vec![0], vec![0, 0], vec![1]], "close() may never return");
        assert_eq!((around.entry.call_start(), around.entry.request_start()), (None, None));
    });
}

#[test]
fn closing_an_iterable_is_a_call_that_is_as_old_as_its_request() {
    with_loop(|event_loop, around, seen| {
        let _client = around.request("/download");
        let token = event_loop.take_queued(0).unwrap();
        let client = event_loop.clients.table.get_mut(token).unwrap();
        let (entry, seen_too) = (around.entry, seen.clone());
        let bytes = b"GET /download HTTP/1.1\r\nHost: x\r\n\r\n";
        let head = Head::of(bytes, &Limits::default(), HeaderMap::Drop).unwrap().unwrap();
        let now = event_loop.context.clock.now();
        client.begin_call(Timing::new(now, Duration::ZERO), None);
        let body = Items { has_more: Cell::new(true), entry, seen: seen_too };
        client.stream(body, || Record::of(bytes, &head));
        event_loop.context.clock.pass(MINUTE);
        client.conn_mut().give_up(&around.entry.counters);
        event_loop.serve(token, false);
        let closed = seen.of("close");
        let expected = Showed {
            is_call: true,
            is_request: true,
            line: Some("GET /download".to_owned()),
            age: Some(MINUTE),
            counted: 1,
        };
        assert_eq!(closed, [expected]);
        assert_eq!(around.entry.call_start(), None);
    });
}

#[test]
fn signal_handlers_are_a_call_of_the_application_but_no_request() {
    with_loop(|event_loop, around, seen| {
        around.doorbell.write(1).unwrap();
        event_loop.turn().unwrap();
        let seen = seen.of("run_signal_handlers");
        assert!(
            matches!(seen.as_slice(), [Showed { is_call: true, is_request: false, .. }]),
            "{seen:?}"
        );
        assert_eq!(around.entry.call_start(), None);
    });
}
