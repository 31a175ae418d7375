//! What the loop shows to who watches it: that it goes on, and that the application has its time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;
use crate::application::Stream;
use crate::event_loop::client::Record;
use crate::event_loop::drive::TURN_TIME;
use crate::http::Version;

const MINUTE: Duration = Duration::from_secs(60);

/// What the board showed each time that the application was called.
#[derive(Clone, Default)]
struct Seen(Rc<RefCell<Vec<(&'static str, Showed)>>>);

/// What the board showed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Showed {
    is_call: bool,
    is_request: bool,
    line: Option<String>,
    /// How long the request had been running when this call began.
    age: Option<Duration>,
}

impl Seen {
    fn note(&self, what: &'static str, block: &Block) {
        let showed = Showed {
            is_call: block.call_start().is_some(),
            is_request: block.request_start().is_some(),
            line: block.request_line(),
            age: block.call_start().zip(block.request_start()).map(|(call, start)| call - start),
        };
        self.0.borrow_mut().push((what, showed));
    }

    fn of(&self, what: &str) -> Vec<Showed> {
        let seen = self.0.borrow();
        seen.iter().filter(|(which, _)| *which == what).map(|(_, showed)| showed.clone()).collect()
    }
}

/// Answers with one item more than it begins with.
struct Streaming {
    head: ResponseHead,
    block: &'static Block,
    seen: Seen,
}

struct Items {
    has_more: Cell<bool>,
    block: &'static Block,
    seen: Seen,
}

impl AppBody for Items {
    type Chunk = &'static [u8];

    fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<Self::Chunk>, AppError> {
        self.seen.note("pull", self.block);
        Ok(self.has_more.replace(false).then_some(b"more"))
    }

    fn close(self) {
        self.seen.note("close", self.block);
    }
}

impl Application for Streaming {
    type Body = Items;

    fn call(
        &mut self,
        _request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Items>, AppError> {
        self.seen.note("call", self.block);
        self.head.start(b"200 OK").unwrap();
        let (block, seen) = (self.block, self.seen.clone());
        let rest = Items { has_more: Cell::new(true), block, seen };
        let stream = Stream { first: Some(&b"first"[..]), rest, length: None };
        Ok(Reply { head: &self.head, content: Content::Stream(stream) })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }

    fn signalled(&mut self) -> Heard {
        self.seen.note("signalled", self.block);
        Heard::Nothing
    }
}

/// The loop of such an application, its surroundings, and what it saw.
fn with_loop(test: impl FnOnce(&mut EventLoop<'_, Streaming>, &Surroundings, &Seen)) {
    let (supervisor, life) = UnixStream::pair().unwrap();
    let (post, doorbell) = stage::post(life.into());
    let (block, seen) = (post.block, Seen::default());
    let listener = post.listeners[0].socket.try_clone().unwrap();
    let SocketName::Inet(address) = post.listeners[0].name else { panic!("no TCP") };
    let mut app = Streaming { head: ResponseHead::default(), block, seen: seen.clone() };
    let mut event_loop = EventLoop::new(post, &mut app).unwrap();
    let around = Surroundings { block, address, listener, doorbell, supervisor };
    test(&mut event_loop, &around, &seen);
}

#[test]
fn each_connection_of_a_batch_is_a_step() {
    with_loop(|event_loop, around, _| {
        let mut clients: Vec<_> = (0..8)
            .map(|index| {
                let client = TcpStream::connect(around.address).unwrap();
                // A silent connection delays the next accept by more than one turn.
                while event_loop.channels.len() == index {
                    event_loop.turn().unwrap();
                }
                client
            })
            .collect();
        assert_eq!(event_loop.channels.len(), 8);
        for client in &mut clients {
            client.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        }
        await_events(event_loop, 8);
        let before = around.block.ticks();
        event_loop.take_batch(8);
        assert_eq!(around.block.ticks() - before, 8);
    });
}

#[test]
fn a_connection_that_has_had_its_turn_is_not_read_from_in_it() {
    let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    let mut app = App { takes: TURN_TIME + Duration::from_millis(1), ..app(2) };
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let mut client = TcpStream::connect(around.address).unwrap();
    client.write_all(&request.repeat(3)).unwrap();
    let answered = || around.block.row.get(Counter::RespDone);
    while answered() == 0 {
        event_loop.turn().unwrap();
    }
    // One when its event came, one when those that have had their turn were looked at again.
    assert_eq!((answered(), event_loop.waiting.len()), (2, 1), "each uses a turn up");
    client.write_all(request).unwrap();
    let token = event_loop.waiting[0];
    let socket = event_loop.channels.get(token).unwrap().socket.as_fd();
    assert_eq!(poll(&mut [PollFd::new(socket, PollFlags::POLLIN)], PollTimeout::NONE), Ok(1));
    event_loop.turn().unwrap();
    assert_eq!(answered(), 3);
    let channel = event_loop.channels.get(token).unwrap();
    assert!(channel.pending.is_empty() && event_loop.waiting.is_empty(), "the fourth was read");
    event_loop.turn().unwrap();
    assert_eq!(answered(), 4, "its turn is the next");
}

#[test]
fn what_the_application_is_called_for_is_its_own_time() {
    with_loop(|event_loop, around, seen| {
        let _client = around.asks("/download");
        event_loop.turn().unwrap();
        let calls = [seen.of("call"), seen.of("pull"), seen.of("close")];
        assert_eq!(calls.each_ref().map(Vec::len), [1, 2, 1]);
        for showed in calls.iter().flatten() {
            assert!(showed.is_call && showed.is_request, "{showed:?}");
            assert_eq!(showed.line.as_deref(), Some("GET /download"));
        }
        assert_eq!((around.block.call_start(), around.block.request_start()), (None, None));
    });
}

#[test]
fn an_iterable_that_is_closed_because_its_client_left_has_its_own_time_and_its_request_is_as_old_as_it_is()
 {
    with_loop(|event_loop, around, seen| {
        let _client = around.asks("/download");
        let token = event_loop.take_queued(0).unwrap();
        let channel = event_loop.channels.get_mut(token).unwrap();
        let (block, seen_too) = (around.block, seen.clone());
        channel.body = Some(Items { has_more: Cell::new(true), block, seen: seen_too });
        channel.record = Some(Box::new(Record {
            id: None,
            method: b"GET".as_slice().into(),
            path: b"/download".as_slice().into(),
            version: Version::Http11,
            called: event_loop.desk.clock.now(),
            referer: None,
            user_agent: None,
        }));
        event_loop.desk.clock.pass(MINUTE);
        channel.conn.give_up(&around.block.row);
        event_loop.serve(token, false);
        let closed = seen.of("close");
        let expected = Showed {
            is_call: true,
            is_request: true,
            line: Some("GET /download".to_owned()),
            age: Some(MINUTE),
        };
        assert_eq!(closed, [expected]);
        assert_eq!(around.block.call_start(), None);
    });
}

#[test]
fn signal_handlers_of_the_application_have_its_time_and_are_no_request() {
    with_loop(|event_loop, around, seen| {
        around.doorbell.write(1).unwrap();
        event_loop.turn().unwrap();
        let seen = seen.of("signalled");
        assert!(
            matches!(seen.as_slice(), [Showed { is_call: true, is_request: false, .. }]),
            "{seen:?}"
        );
        assert_eq!(around.block.call_start(), None);
    });
}
