//! Clients that connect, send and disconnect while the worker is busy with the request of another.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use arctos_worker::application::{AppError, Application, Content, Outlet, Reply, Request};
use arctos_worker::http::ResponseHead;
use arctos_worker::settings::{Settings, Timeouts};
use arctos_worker::shared::scoreboard::{Counter, WorkerEntry};
use arctos_worker::worker::WorkerExit;
use socket2::SockRef;

use crate::support::ok::NoItems;
use crate::support::server::{PATIENCE, Server};

/// Size of the large response: too large for the client's receive buffer, and small enough for the worker's
/// send buffer.
const LARGE_BYTES: usize = 256 * 1024;

/// One call of the application: the requested path and the time that the request waited in the queue.
struct Call {
    path: String,
    queue_wait: Duration,
}

/// Reports each call to the test. A call of `/hold` or `/large` blocks until the test releases it.
struct Blocking {
    head: ResponseHead,
    calls: Sender<Call>,
    release: Receiver<()>,
}

impl Application for Blocking {
    type Body = NoItems;

    fn call(
        &mut self,
        request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, NoItems>, AppError> {
        let path = String::from_utf8_lossy(request.head.path.of(request.head_bytes)).into_owned();
        let bytes = if path == "/large" { vec![b'x'; LARGE_BYTES] } else { b"hello".to_vec() };
        let blocks = path == "/hold" || path == "/large";
        let _ = self.calls.send(Call { path, queue_wait: request.queue_wait }); // The test may be over.
        if blocks {
            let _ = self.release.recv_timeout(PATIENCE);
        }
        self.head.start(b"200 OK").map_err(|_| AppError::Invalid)?;
        Ok(Reply { head: &self.head, content: Content::Whole(bytes) })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }
}

/// A worker whose application the test observes and blocks.
struct BlockingServer {
    worker: Server,
    calls: Receiver<Call>,
    release: Sender<()>,
}

impl BlockingServer {
    fn start() -> Self {
        Self::with(Settings::default())
    }

    fn with(settings: Settings) -> Self {
        let (calls_sender, calls) = channel();
        let (release, release_receiver) = channel();
        let worker = Server::start(settings, move || Blocking {
            head: ResponseHead::default(),
            calls: calls_sender,
            release: release_receiver,
        });
        Self { worker, calls, release }
    }

    fn next_call(&self) -> Call {
        self.calls.recv_timeout(PATIENCE).expect("a call")
    }

    /// Opens a connection whose request blocks the worker until the test releases it.
    fn hold(&self) -> TcpStream {
        let mut client = self.worker.connect();
        send_get(&mut client, "/hold", "");
        assert_eq!(self.next_call().path, "/hold");
        client
    }

    /// Opens a connection that is kept after its first response.
    fn keep(&self) -> TcpStream {
        let mut client = self.worker.connect();
        send_get(&mut client, "/first", "");
        expect_hello(&mut client);
        assert_eq!(self.next_call().path, "/first");
        client
    }

    fn release(&self) {
        self.release.send(()).expect("the application waits");
    }

    /// Stops the worker; returns its counters and the paths of the calls that the test has not taken.
    fn finish(self) -> (&'static WorkerEntry, Vec<String>) {
        let entry = self.worker.entry();
        assert_eq!(self.worker.stop(), WorkerExit::Done);
        (entry, self.calls.try_iter().map(|call| call.path).collect())
    }
}

fn send_get(client: &mut TcpStream, path: &str, fields: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    client.write_all(request.as_bytes()).expect("the connection lives");
}

fn expect_hello(client: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nhello") {
        let mut room = [0; 512];
        let count = client.read(&mut room).expect("a response");
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&room[..count]);
    }
}

fn reset(client: TcpStream) {
    SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

/// Returns the counts of ER, CD, RX (as in `counters.rs`) and of abandoned requests.
fn aborts(entry: &WorkerEntry) -> [u64; 4] {
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
    let server = BlockingServer::start();
    let mut held = server.hold();
    let mut hasty = server.worker.connect();
    send_get(&mut hasty, "/hasty", "");
    reset(hasty);
    server.release();
    expect_hello(&mut held);
    drop(held);
    let (entry, calls) = server.finish();
    assert_eq!(calls, [""; 0]);
    assert_eq!(entry.counters.get(Counter::ConnAcceptSuccess), 2);
    assert_eq!(entry.counters.get(Counter::ReqSuccessRead), 1);
    assert_eq!(aborts(entry), [1, 1, 2, 0], "ER RX, and CD RX for the other client");
}

#[test]
fn a_client_that_half_closes_before_accept_is_served() {
    let server = BlockingServer::start();
    let mut held = server.hold();
    let mut brief = server.worker.connect();
    send_get(&mut brief, "/brief", "Connection: close\r\n");
    brief.shutdown(std::net::Shutdown::Write).expect("half a close");
    server.release();
    expect_hello(&mut held);
    expect_hello(&mut brief);
    let (_, calls) = server.finish();
    assert_eq!(calls, ["/brief"]);
}

#[test]
fn a_client_that_half_closes_is_abandoned_if_the_option_says_so() {
    let settings = Settings { abandon_on_half_close: true, ..Settings::default() };
    let server = BlockingServer::with(settings);
    let mut kept = server.keep();
    let mut held = server.hold();
    let mut new = server.worker.connect();
    for client in [&mut new, &mut kept] {
        send_get(client, "/brief", "");
        client.shutdown(std::net::Shutdown::Write).expect("half a close");
    }
    server.release();
    expect_hello(&mut held);
    for client in [&mut new, &mut kept] {
        assert_eq!(client.read(&mut [0]).expect("an orderly close"), 0);
    }
    send_get(&mut held, "/open", "");
    expect_hello(&mut held);
    assert_eq!(server.next_call().path, "/open");
    drop(held);
    let (entry, calls) = server.finish();
    assert_eq!(calls, [""; 0]);
    assert_eq!(aborts(entry), [0, 3, 3, 2], "CD RX and abandoned twice, and CD RX at the end");
}

#[test]
fn a_client_that_gives_up_before_accept_never_reaches_the_application() {
    let server = BlockingServer::start();
    let mut held = server.hold();
    let mut impatient = server.worker.connect();
    send_get(&mut impatient, "/impatient", "");
    // An end of stream that follows the request at once is a half-close; one that follows a second later
    // means that the client gave up. The worker tells them apart by the kernel's clock.
    std::thread::sleep(Duration::from_millis(1100));
    drop(impatient);
    server.release();
    expect_hello(&mut held);
    drop(held);
    let (entry, calls) = server.finish();
    assert_eq!(calls, [""; 0]);
    assert_eq!(aborts(entry), [0, 2, 2, 1], "CD RX and abandoned, and CD RX for the other client");
}

#[test]
fn a_client_reset_while_others_are_served_never_reaches_the_application() {
    let server = BlockingServer::start();
    let mut kept: Vec<_> = (0..2).map(|_| server.keep()).collect();
    let mut held = server.hold();
    send_get(&mut kept[0], "/hold", "");
    send_get(&mut kept[1], "/hasty", "");
    server.release();
    expect_hello(&mut held);
    assert_eq!(server.next_call().path, "/hold");
    reset(kept.remove(1));
    // The worker checks a client only if its request has waited for 20 ms.
    std::thread::sleep(Duration::from_millis(40));
    server.release();
    expect_hello(&mut kept[0]);
    drop((held, kept));
    let (entry, calls) = server.finish();
    assert_eq!(calls, [""; 0]);
    assert_eq!(aborts(entry)[3], 1, "abandoned");
}

#[test]
fn a_keep_alive_request_that_is_reset_never_reaches_the_application() {
    let server = BlockingServer::start();
    let mut kept = server.keep();
    let mut held = server.hold();
    send_get(&mut kept, "/second", "");
    reset(kept);
    server.release();
    expect_hello(&mut held);
    drop(held);
    let (entry, calls) = server.finish();
    assert_eq!(calls, [""; 0]);
    assert_eq!(aborts(entry), [1, 1, 2, 1], "ER RX and abandoned, and CD RX for the other client");
}

#[test]
fn queue_wait_is_the_time_that_a_request_waits_for_a_busy_worker() {
    let server = BlockingServer::start();
    let mut held = server.hold();
    let mut patient = server.worker.connect();
    send_get(&mut patient, "/patient", "");
    // The sleep is what the test measures, and synchronizes nothing. The kernel counts in steps of 4 ms.
    std::thread::sleep(Duration::from_millis(300));
    server.release();
    expect_hello(&mut held);
    expect_hello(&mut patient);
    let waited = server.next_call().queue_wait;
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
    send_get(&mut patient, "/again", "");
    expect_hello(&mut patient);
    let waited_again = server.next_call().queue_wait;
    assert!(waited_again < waited, "only the first request was queued: {waited_again:?}");
    drop((held, patient));
    let (entry, _) = server.finish();
    assert_eq!(entry.queue_wait.count(), 2, "once for each connection");
    assert!(entry.queue_wait.sum() >= Duration::from_millis(200));
}

#[test]
fn queue_wait_of_a_kept_connection_is_the_time_that_a_request_waits_for_a_busy_worker() {
    let server = BlockingServer::start();
    let mut kept = server.keep();
    let mut held = server.hold();
    send_get(&mut kept, "/second", "");
    std::thread::sleep(Duration::from_millis(300)); // This is measured.
    server.release();
    expect_hello(&mut held);
    expect_hello(&mut kept);
    let waited = server.next_call().queue_wait;
    assert!(waited >= Duration::from_millis(200), "{waited:?}");
    drop((held, kept));
    server.finish();
}

/// Settings with this `--max-queue-time`.
fn max_queue_time(queue: Duration) -> Settings {
    let timeouts = Timeouts { queue: Some(queue), ..Timeouts::default() };
    Settings { timeouts, ..Settings::default() }
}

/// Reads the response to a request that has waited for too long.
fn expect_overloaded(client: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n503 Service Unavailable\n") {
        let mut room = [0; 512];
        let count = client.read(&mut room).expect("a response");
        assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&room[..count]);
    }
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("\r\nRetry-After: 1\r\n") && !text.contains("Connection:"), "{text}");
}

#[test]
fn a_request_that_waited_too_long_gets_503_and_its_connection_is_kept() {
    let server = BlockingServer::with(max_queue_time(Duration::from_secs(1)));
    let mut kept = server.keep();
    let mut held = server.hold();
    let mut new = server.worker.connect();
    send_get(&mut new, "/new", "");
    let body = "x".repeat(100_000);
    let post = format!("POST /kept HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n{body}");
    kept.write_all(post.as_bytes()).expect("the connection lives");
    std::thread::sleep(Duration::from_millis(1500)); // Both wait for longer than they may.
    server.release();
    expect_hello(&mut held);
    for client in [&mut new, &mut kept] {
        expect_overloaded(client);
        send_get(client, "/again", "");
        expect_hello(client);
        assert_eq!(server.next_call().path, "/again");
    }
    drop((held, new, kept));
    let (entry, calls) = server.finish();
    assert_eq!(calls, [""; 0], "neither request has reached the application");
    assert_eq!(entry.counters.get(Counter::ReqErrorParse), 2);
    assert_eq!(entry.counters.get(Counter::RespStatus5xx), 2);
}

#[test]
fn a_request_that_waited_less_than_the_maximum_reaches_the_application() {
    let server = BlockingServer::with(max_queue_time(PATIENCE));
    let mut held = server.hold();
    let mut patient = server.worker.connect();
    send_get(&mut patient, "/patient", "");
    std::thread::sleep(Duration::from_millis(50));
    server.release();
    expect_hello(&mut held);
    expect_hello(&mut patient);
    assert_eq!(server.next_call().path, "/patient");
    drop((held, patient));
    server.finish();
}

#[test]
fn queue_wait_excludes_the_time_that_a_client_takes_to_send() {
    let server = BlockingServer::start();
    let mut slow = server.worker.connect();
    let start = Instant::now();
    slow.write_all(b"GET /slow HTTP/1.1\r\n").expect("the connection lives");
    while server.worker.entry().counters.get(Counter::ReqActive) == 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    std::thread::sleep(Duration::from_millis(300)); // This is measured, too.
    slow.write_all(b"Host: a\r\n\r\n").expect("the connection lives");
    expect_hello(&mut slow);
    let waited = server.next_call().queue_wait;
    assert!(waited < Duration::from_millis(300), "{waited:?}");
    drop(slow);
    server.finish();
}

#[test]
fn bytes_after_the_last_request_do_not_truncate_its_response() {
    let server = BlockingServer::start();
    let mut client = server.worker.connect();
    SockRef::from(&client).set_recv_buffer_size(32 * 1024).expect("SO_RCVBUF");
    send_get(&mut client, "/large", "Connection: close\r\n");
    assert_eq!(server.next_call().path, "/large");
    client.write_all(b"GET /behind HTTP/1.1\r\n").expect("the connection lives");
    server.release();
    let start = Instant::now();
    while server.worker.entry().counters.get(Counter::RespConnClose) == 0 {
        assert!(start.elapsed() < PATIENCE, "the response fits into the worker's send buffer");
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
    let (_, calls) = server.finish();
    assert_eq!(calls, [""; 0], "nothing after it is parsed");
}
