mod accepting;
mod commands;
mod deadlines;
mod progress;
mod sharing;
mod stop;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use nix::sys::eventfd::EventFd;

use super::client_timer::moves_with_progress;
use super::control_socket::ControlSocket;
use super::*;
use crate::application::{AppBody, AppError, Content, Outlet, Reply, Request};
use crate::connection::Timer;
use crate::http::Persistence;
use crate::http::ResponseHead;
use crate::process::supervisor_process;
use crate::shared::fd::{self, send_descriptor};
use crate::shared::scoreboard::{Counter, WorkerEntry};
use crate::worker_init::{CONTROL_ACCESS_LOG, Owner, stage};

/// Answers every request with this many bytes, after this time.
struct App {
    reply: Vec<u8>,
    head: ResponseHead,
    takes: Duration,
}

/// A reply has no further items.
struct NoItems;

impl AppBody for NoItems {
    type Chunk = Vec<u8>;

    fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<Vec<u8>>, AppError> {
        Ok(None)
    }

    fn close(self) {}
}

impl Application for App {
    type Body = NoItems;

    fn call(
        &mut self,
        _request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, NoItems>, AppError> {
        std::thread::sleep(self.takes);
        self.head.start(b"200 OK").unwrap();
        Ok(Reply { head: &self.head, content: Content::Whole(self.reply.clone()) })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }
}

fn app(reply_bytes: usize) -> App {
    let reply = vec![b'x'; reply_bytes];
    App { reply, head: ResponseHead::default(), takes: Duration::ZERO }
}

/// Returns once this many descriptors are ready. What a client sends takes a moment even on the loopback
/// interface.
fn await_events<A: Application>(event_loop: &mut EventLoop<'_, A>, count: usize) {
    while event_loop.poller.wait(Some(Duration::from_secs(20))).unwrap() < count {}
}

/// The bytes for one write, so that they arrive together: write! sends each part separately.
fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").into_bytes()
}

/// More than any socket buffers hold.
const TOO_MUCH: usize = 64 << 20;

/// The surroundings of a loop that a test turns by hand.
struct Surroundings {
    entry: &'static WorkerEntry,
    address: SocketAddr,
    /// A duplicate, as the supervisor has it.
    listener: OwnedFd,
    doorbell: EventFd,
    supervisor: UnixStream,
}

impl Surroundings {
    fn of(app: &mut App, access_log: Option<OwnedFd>) -> (EventLoop<'_, App>, Self) {
        Self::with(app, |init| init.access_log = access_log)
    }

    fn with<A: Application>(
        app: &mut A,
        change: impl FnOnce(&mut WorkerInit),
    ) -> (EventLoop<'_, A>, Self) {
        let (supervisor, control) = UnixStream::pair().unwrap();
        let (mut init, doorbell) = stage::init(control.into());
        // The loop does not check before the control socket ends.
        init.supervisor = Arc::new(supervisor_process::stage::ended());
        change(&mut init);
        init.header.set_worker_count(2);
        let entry = init.entry;
        let SocketName::Inet(address) = init.listeners[0].name else { panic!("no TCP") };
        let listener = init.listeners[0].socket.try_clone().unwrap();
        let event_loop = EventLoop::new(init, app).unwrap();
        (event_loop, Self { entry, address, listener, doorbell, supervisor })
    }

    /// A client whose request has arrived. On a busy machine even the loopback interface takes a moment.
    fn request(&self, path: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).unwrap();
        client.write_all(&request(path)).unwrap();
        // For a connection, the kernel puts the number of unacknowledged segments there.
        while fd::accept_queue(client.as_fd()).unwrap().len > 0 {
            std::thread::yield_now();
        }
        client
    }

    fn command(&self, command: Command) {
        self.entry.set_command(command);
        self.doorbell.write(1).unwrap();
    }
}

#[test]
fn an_exiting_worker_with_a_slow_client_has_a_deadline_as_an_orphan() {
    let mut app = app(TOO_MUCH);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let _slow = around.request("/");
    assert!(!event_loop.turn().unwrap());
    around.command(Command::Quick);
    assert!(!event_loop.turn().unwrap(), "a reply is on its way");
    assert_eq!(event_loop.phase, Phase::Exiting { until: None });
    drop(around.supervisor);
    assert!(!event_loop.turn().unwrap(), "it is still on its way");
    let Phase::Exiting { until: Some(_) } = event_loop.phase else {
        panic!("{:?}", event_loop.phase)
    };
    assert_eq!(event_loop.close_clients().abandoned_count, 1);
}

#[test]
fn an_orphan_that_got_a_quick_stop_has_a_deadline() {
    let mut app = app(TOO_MUCH);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let _slow = around.request("/");
    assert!(!event_loop.turn().unwrap());
    drop(around.supervisor);
    around.entry.set_command(Command::Quick);
    assert!(!event_loop.turn().unwrap(), "a reply is on its way");
    let Phase::Exiting { until: Some(_) } = event_loop.phase else {
        panic!("{:?}", event_loop.phase)
    };
}

/// The other server's duplicate of the listener shows whether it still listens.
#[test]
fn an_orphan_shuts_its_listeners_down_unless_another_server_has_them() {
    for is_shared in [false, true] {
        let (supervisor, control) = UnixStream::pair().unwrap();
        let (mut init, _doorbell) = stage::init(control.into());
        init.supervisor = Arc::new(supervisor_process::stage::ended());
        init.header.set_shares_listeners(is_shared);
        let of_other = init.listeners[0].socket.try_clone().unwrap();
        let SocketName::Inet(address) = init.listeners[0].name else { panic!("no TCP") };
        let mut app = app(2);
        let mut event_loop = EventLoop::new(init, &mut app).unwrap();
        drop(supervisor);
        event_loop.turn().unwrap();
        assert!(event_loop.acceptor.is_closed());
        assert_eq!(TcpStream::connect(address).is_ok(), is_shared);
        drop(of_other);
    }
}

#[test]
fn a_disconnected_worker_leaves_the_listeners_to_the_others() {
    let (supervisor, control) = UnixStream::pair().unwrap();
    let (init, _doorbell) = stage::init(control.into());
    let of_others = init.listeners[0].socket.try_clone().unwrap();
    let SocketName::Inet(address) = init.listeners[0].name else { panic!("no TCP") };
    let mut app = app(2);
    let mut event_loop = EventLoop::new(init, &mut app).unwrap();
    drop(supervisor);
    assert!(!event_loop.turn().unwrap());
    assert_eq!(event_loop.phase, Phase::Serving, "the supervisor may be about to end");
    event_loop.link.control =
        ControlSocket::Ended { since: Instant::now() - Duration::from_secs(60) };
    assert!(event_loop.turn().is_ok());
    let Phase::Draining { cause: DrainCause::Disconnected, .. } = event_loop.phase else {
        panic!("{:?}", event_loop.phase)
    };
    assert!(event_loop.acceptor.is_closed());
    assert!(TcpStream::connect(address).is_ok(), "another worker still accepts there");
    drop(of_others);
}

#[test]
fn the_access_log_goes_to_the_last_file_that_came() {
    let (mut before, writer) = std::io::pipe().unwrap();
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, Some(writer.into()));
    let _first = around.request("/one");
    while around.entry.counters.get(Counter::RespDone) < 1 {
        event_loop.turn().unwrap();
    }
    let (mut after, writer) = std::io::pipe().unwrap();
    send_descriptor(around.supervisor.as_fd(), CONTROL_ACCESS_LOG, writer.as_fd()).unwrap();
    drop(writer);
    event_loop.turn().unwrap();
    let _second = around.request("/two");
    while around.entry.counters.get(Counter::RespDone) < 2 {
        event_loop.turn().unwrap();
    }
    drop(event_loop);
    let (mut old, mut new) = (String::new(), String::new());
    before.read_to_string(&mut old).unwrap();
    after.read_to_string(&mut new).unwrap();
    assert_eq!((old.lines().count(), new.lines().count()), (1, 1));
    assert!(old.contains("GET /one ") && new.contains("GET /two "), "{old}{new}");
}

#[test]
fn other_control_messages_do_not_change_the_access_log() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut app = app(2);
    let (mut event_loop, mut around) = Surroundings::of(&mut app, Some(writer.into()));
    let (_other, stray) = std::io::pipe().unwrap();
    around.supervisor.write_all(&[b'?', CONTROL_ACCESS_LOG]).unwrap();
    send_descriptor(around.supervisor.as_fd(), b'!', stray.as_fd()).unwrap();
    for _ in 0..3 {
        assert!(!event_loop.turn().unwrap());
    }
    let _client = around.request("/");
    event_loop.turn().unwrap();
    assert_eq!(event_loop.phase, Phase::Serving);
    drop(event_loop);
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn a_worker_reads_what_it_accepted_before_it_accepts_again() {
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let counted = |counter| around.entry.counters.get(counter);
    let mut first = TcpStream::connect(around.address).unwrap();
    assert!(!event_loop.turn().unwrap());
    let _second = around.request("/second");
    write!(first, "GET /first HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    assert!(!event_loop.turn().unwrap());
    assert_eq!([Counter::ConnAcceptSuccess, Counter::RespDone].map(counted), [1, 1]);
    assert!(!event_loop.turn().unwrap());
    assert_eq!([Counter::ConnAcceptSuccess, Counter::RespDone].map(counted), [2, 2]);
}

/// The number of workers changes after the start (TTIN, `ctl scale`), and only one slot has a socket of its own.
#[test]
fn accepting_is_delayed_only_if_another_worker_accepts_there_now() {
    let cases = [
        (1, Owner::Supervisor, false, false),
        (2, Owner::Supervisor, false, true),
        (1, Owner::Outside, false, false),
        (2, Owner::Outside, false, true),
        (2, Owner::Slot, false, false),
        (1, Owner::Supervisor, true, true),
        (1, Owner::Slot, true, true),
    ];
    for (worker_count, owner, is_upgrade, is_delayed) in cases {
        let (_supervisor, control) = UnixStream::pair().unwrap();
        let (mut init, _doorbell) = stage::init(control.into());
        init.listeners[0].owner = owner;
        let (header, listener) = (init.header, &init.listeners[0]);
        let SocketName::Inet(address) = listener.name else { panic!("no TCP") };
        let mut app = app(2);
        let mut event_loop = EventLoop::new(init, &mut app).unwrap();
        header.set_worker_count(worker_count);
        header.set_shares_listeners(is_upgrade);
        let _silent = TcpStream::connect(address).unwrap();
        await_events(&mut event_loop, 1);
        event_loop.accept(0);
        let awaits_bytes = event_loop.acceptor.awaits_bytes_from().is_some();
        assert_eq!(awaits_bytes, is_delayed, "{worker_count} {owner:?} {is_upgrade}");
    }
}

#[test]
fn a_silent_client_keeps_no_other_client_out() {
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let _silent = TcpStream::connect(around.address).unwrap();
    assert!(!event_loop.turn().unwrap());
    let _second = around.request("/second");
    while around.entry.counters.get(Counter::RespDone) == 0 {
        assert!(!event_loop.turn().unwrap());
    }
}

#[test]
fn a_client_that_leaves_silently_keeps_no_other_client_out() {
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let brief = TcpStream::connect(around.address).unwrap();
    assert!(!event_loop.turn().unwrap());
    drop(brief);
    assert!(!event_loop.turn().unwrap());
    assert_eq!(event_loop.acceptor.awaits_bytes_from(), None);
}

/// Everything fits in a socket's buffer, so it is there when the loop turns.
#[test]
fn a_body_of_tiny_chunks_takes_many_turns_however_fast_it_arrives() {
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    let mut client = TcpStream::connect(around.address).unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(&[head, &*b"1\r\nx\r\n".repeat(10_000), b"0\r\n\r\n"].concat()).unwrap();
    let is_answered = || around.entry.counters.get(Counter::RespDone) == 1;
    assert!(!event_loop.turn().unwrap());
    assert!(!is_answered(), "others get their turn between two pieces of one body");
    while !is_answered() {
        assert!(!event_loop.turn().unwrap());
    }
}

#[test]
fn a_refused_client_that_sends_gets_more_time_unless_the_worker_exits() {
    assert!(moves_with_progress(Timer::Linger, Persistence::KeepAlive));
    assert!(!moves_with_progress(Timer::Linger, Persistence::Close));
    assert!(moves_with_progress(Timer::Body, Persistence::Close));
}

#[test]
fn a_readiness_check_is_not_counted() {
    let mut app = app(2);
    let (mut event_loop, around) = Surroundings::of(&mut app, None);
    assert_eq!(event_loop.check_readiness("/health"), Ok(()));
    assert!(event_loop.check_readiness("/a b").is_err());
    let counted = Counter::ALL.map(|counter| around.entry.counters.get(counter));
    assert!(counted.iter().all(|count| *count == 0));
}
