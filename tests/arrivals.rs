//! What a worker makes of clients that come, send and go while it is in the middle of a request.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use arctos_worker::application::{AppError, Application, Content, Outlet, Reply, Request};
use arctos_worker::http::ResponseHead;
use arctos_worker::settings::Settings;
use arctos_worker::shared::scoreboard::{Counter, WorkerEntry};
use arctos_worker::worker::WorkerExit;
use socket2::SockRef;

use crate::support::ok::NoItems;
use crate::support::server::{PATIENCE, Server};

/// More than a client's receive buffer takes, less than a worker's send buffer holds.
const LARGE_BYTES: usize = 256 * 1024;

/// What the application was asked, and how long that had waited.
struct Asked {
    path: String,
    waited: Duration,
}

/// Tells of each call; in `/hold` and `/large` it waits until it is told to go on.
struct Held {
    head: ResponseHead,
    calls: Sender<Asked>,
    go: Receiver<()>,
}

impl Application for Held {
    type Body = NoItems;

    fn call(
        &mut self,
        request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, NoItems>, AppError> {
        let path = String::from_utf8_lossy(request.head.path.of(request.head_bytes)).into_owned();
        let bytes = if path == "/large" { vec![b'x'; LARGE_BYTES] } else { b"hello".to_vec() };
        let waits = path == "/hold" || path == "/large";
        let _ = self.calls.send(Asked { path, waited: request.queue_wait }); // The test is over.
        if waits {
            let _ = self.go.recv_timeout(PATIENCE);
        }
        self.head.start(b"200 OK").map_err(|_| AppError::Invalid)?;
        Ok(Reply { head: &self.head, content: Content::Whole(bytes) })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }
}

/// A worker and its application's strings.
struct Stage {
    server: Server,
    calls: Receiver<Asked>,
    go: Sender<()>,
}

impl Stage {
    fn start() -> Self {
        let (told, calls) = channel();
        let (go, hears) = channel();
        let server = Server::start(Settings::default(), move || Held {
            head: ResponseHead::default(),
            calls: told,
            go: hears,
        });
        Self { server, calls, go }
    }

    fn next_call(&self) -> Asked {
        self.calls.recv_timeout(PATIENCE).expect("a call")
    }

    /// A connection whose request the worker is in, until it is let go on.
    fn hold(&self) -> TcpStream {
        let mut client = self.server.connect();
        ask(&mut client, "/hold", "");
        assert_eq!(self.next_call().path, "/hold");
        client
    }

    fn go_on(&self) {
        self.go.send(()).expect("the application waits");
    }

    /// Lets the worker leave; what it counted, and what else was asked of the application.
    fn finish(self) -> (&'static WorkerEntry, Vec<String>) {
        let entry = self.server.entry();
        assert_eq!(self.server.stop(), WorkerExit::Done);
        (entry, self.calls.try_iter().map(|asked| asked.path).collect())
    }
}

fn ask(client: &mut TcpStream, path: &str, fields: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    client.write_all(request.as_bytes()).expect("the connection lives");
}

fn expect_hello(client: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhello") {
        let mut room = [0; 512];
        let count = client.read(&mut room).expect("an answer");
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&room[..count]);
    }
}

fn reset(client: TcpStream) {
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

fn ends(entry: &WorkerEntry) -> [u64; 4] {
    [
        Counter::ReqErrorRead,
        Counter::ReqErrorClientDisconnected,
        Counter::ReqAborted,
        Counter::ReqAbandoned,
    ]
    .map(|counter| entry.counters.get(counter))
}

#[test]
fn a_connection_reset_before_accept_never_reaches_the_application() {
    let stage = Stage::start();
    let mut held = stage.hold();
    let mut hasty = stage.server.connect();
    ask(&mut hasty, "/hasty", "");
    reset(hasty);
    stage.go_on();
    expect_hello(&mut held);
    drop(held);
    let (entry, calls) = stage.finish();
    assert_eq!(calls, [""; 0]);
    assert_eq!(entry.counters.get(Counter::ConnAcceptSuccess), 2);
    assert_eq!(entry.counters.get(Counter::ReqSuccessRead), 1);
    assert_eq!(ends(entry), [1, 1, 2, 0], "ER RX, and CD RX of the other");
}

#[test]
fn a_client_that_half_closes_before_accept_is_served() {
    let stage = Stage::start();
    let mut held = stage.hold();
    let mut brief = stage.server.connect();
    ask(&mut brief, "/brief", "Connection: close\r\n");
    brief.shutdown(std::net::Shutdown::Write).expect("half a close");
    stage.go_on();
    expect_hello(&mut held);
    expect_hello(&mut brief);
    let (_, calls) = stage.finish();
    assert_eq!(calls, ["/brief"]);
}

#[test]
fn a_client_that_gives_up_before_accept_never_reaches_the_application() {
    let stage = Stage::start();
    let mut held = stage.hold();
    let mut impatient = stage.server.connect();
    ask(&mut impatient, "/impatient", "");
    // The kernel's clock is what tells a client that waited from one that half-closes.
    std::thread::sleep(Duration::from_millis(1100));
    drop(impatient);
    stage.go_on();
    expect_hello(&mut held);
    drop(held);
    let (entry, calls) = stage.finish();
    assert_eq!(calls, [""; 0]);
    assert_eq!(ends(entry), [0, 2, 2, 1], "CD RX and abandoned, and CD RX of the other");
}

#[test]
fn a_client_reset_while_others_are_served_never_reaches_the_application() {
    let stage = Stage::start();
    let mut kept: Vec<_> = (0..2)
        .map(|_| {
            let mut kept = stage.server.connect();
            ask(&mut kept, "/first", "");
            expect_hello(&mut kept);
            assert_eq!(stage.next_call().path, "/first");
            kept
        })
        .collect();
    let mut held = stage.hold();
    ask(&mut kept[0], "/hold", "");
    ask(&mut kept[1], "/hasty", "");
    stage.go_on();
    expect_hello(&mut held);
    assert_eq!(stage.next_call().path, "/hold");
    reset(kept.remove(1));
    std::thread::sleep(Duration::from_millis(40)); // A client that has just been heard of is not looked at.
    stage.go_on();
    expect_hello(&mut kept[0]);
    drop((held, kept));
    let (entry, calls) = stage.finish();
    assert_eq!(calls, [""; 0]);
    assert_eq!(ends(entry)[3], 1, "abandoned");
}

#[test]
fn a_keep_alive_request_that_is_reset_never_reaches_the_application() {
    let stage = Stage::start();
    let mut kept = stage.server.connect();
    ask(&mut kept, "/first", "");
    expect_hello(&mut kept);
    assert_eq!(stage.next_call().path, "/first");
    let mut held = stage.hold();
    ask(&mut kept, "/second", "");
    reset(kept);
    stage.go_on();
    expect_hello(&mut held);
    drop(held);
    let (entry, calls) = stage.finish();
    assert_eq!(calls, [""; 0]);
    assert_eq!(ends(entry), [1, 1, 2, 1], "ER RX and abandoned, and CD RX of the other");
}

#[test]
fn queue_wait_is_the_time_that_a_request_waits_for_a_busy_worker() {
    let stage = Stage::start();
    let mut held = stage.hold();
    let mut patient = stage.server.connect();
    ask(&mut patient, "/patient", "");
    // What is measured is time; nothing is synchronised by it. The kernel counts in steps of 4 ms.
    std::thread::sleep(Duration::from_millis(300));
    stage.go_on();
    expect_hello(&mut held);
    expect_hello(&mut patient);
    let waited = stage.next_call().waited;
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
    ask(&mut patient, "/again", "");
    expect_hello(&mut patient);
    let waited_again = stage.next_call().waited;
    assert!(waited_again < waited, "only the first request waited in the queue: {waited_again:?}");
    drop((held, patient));
    let (entry, _) = stage.finish();
    assert_eq!(entry.queue_wait.count(), 2, "one a connection");
    assert!(entry.queue_wait.sum() >= Duration::from_millis(200));
}

#[test]
fn queue_wait_excludes_the_time_that_a_client_takes_to_send() {
    let stage = Stage::start();
    let mut slow = stage.server.connect();
    let start = Instant::now();
    slow.write_all(b"GET /slow HTTP/1.1\r\n").expect("the connection lives");
    while stage.server.entry().counters.get(Counter::ReqActive) == 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(300)); // Measured, as above.
    slow.write_all(b"Host: a\r\n\r\n").expect("the connection lives");
    expect_hello(&mut slow);
    let waited = stage.next_call().waited;
    assert!(waited < Duration::from_millis(300), "{waited:?}");
    drop(slow);
    stage.finish();
}

#[test]
fn bytes_after_the_last_request_do_not_truncate_its_response() {
    let stage = Stage::start();
    let mut client = stage.server.connect();
    SockRef::from(&client).set_recv_buffer_size(32 * 1024).expect("SO_RCVBUF");
    ask(&mut client, "/large", "Connection: close\r\n");
    assert_eq!(stage.next_call().path, "/large");
    client.write_all(b"GET /behind HTTP/1.1\r\n").expect("the connection lives");
    stage.go_on();
    let start = Instant::now();
    while stage.server.entry().counters.get(Counter::RespConnClose) == 0 {
        assert!(start.elapsed() < PATIENCE, "the answer fits in the worker's send buffer");
        std::thread::yield_now();
    }
    let mut answer = Vec::new();
    let mut room = [0; 16 * 1024];
    loop {
        match client.read(&mut room) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&room[..count]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                panic!("reset after {} bytes", answer.len());
            }
            Err(error) => panic!("{error}"),
        }
    }
    let body_start = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    assert_eq!(answer.len() - body_start, LARGE_BYTES);
    drop(client);
    let (_, calls) = stage.finish();
    assert_eq!(calls, [""; 0], "nothing behind it is parsed");
}
