//! A server inside the process of the test, with an application in plain Rust.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::thread;

use arctos_worker::application::{
    AppBody, AppError, Content, Outlet, Reply, Request, ShutdownRequest, Stream,
};
use arctos_worker::http::ResponseHead;
use arctos_worker::process::fork_guard;

use super::*;

/// Responds with `hello`, or with an endless body for `/endless`. Its signal handlers always end the server.
#[derive(Default)]
struct Hello {
    head: ResponseHead,
    signal_count: usize,
}

/// An endless body.
struct Endless;

impl AppBody for Endless {
    type Chunk = Vec<u8>;

    fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<Vec<u8>>, AppError> {
        Ok(Some(vec![b'x'; 1 << 16]))
    }

    fn close(self) {}
}

impl Application for Hello {
    type Body = Endless;

    fn call(
        &mut self,
        request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Endless>, AppError> {
        self.head.start(b"200 OK").map_err(|_| AppError::Invalid)?;
        let content = match request.head.path.of(request.head_bytes) {
            b"/endless" => {
                Content::Stream(Stream { first: Some(b"x".into()), rest: Endless, length: None })
            }
            _ => Content::Whole(b"hello".into()),
        };
        Ok(Reply { head: &self.head, content })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }

    fn run_signal_handlers(&mut self) -> ShutdownRequest {
        self.signal_count += 1;
        ShutdownRequest::Exit
    }
}

/// Runs a server in this thread and the client in another. Returns the client's result, and how often the server ran
/// the application's signal handlers.
fn with_server<T: Send>(client: impl FnOnce(TcpStream, UnixStream) -> T + Send) -> (T, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (doorbell, doorbell_writer) = UnixStream::pair().unwrap();
    doorbell.set_nonblocking(true).unwrap();
    let (socket, name) = crate::listener::borrow(listener.as_raw_fd()).unwrap();
    let plan = Plan {
        listener: socket,
        name,
        doorbell: doorbell.into(),
        statsd: None,
        settings: settings(),
        log: Log::discard(),
    };
    let mut app = Hello::default();
    let result = thread::scope(|scope| {
        let client =
            scope.spawn(move || client(TcpStream::connect(address).unwrap(), doorbell_writer));
        serve(plan, &mut app).unwrap();
        client.join().unwrap()
    });
    (result, app.signal_count)
}

/// This is one test, because the event loop guards descriptors for the whole process.
#[test]
fn it_serves_until_a_signal_handler_ends_it_and_aborts_running_requests() {
    let (answer, _) = with_server(|mut stream, mut doorbell_writer| {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut byte = [0];
        while !answer.ends_with(b"hello") {
            assert_eq!(stream.read(&mut byte).unwrap(), 1);
            answer.push(byte[0]);
        }
        doorbell_writer.write_all(b"!").unwrap();
        assert_eq!(stream.read(&mut byte).unwrap(), 0, "an idle connection is closed");
        String::from_utf8(answer).unwrap()
    });
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(!fork_guard::is_forked());

    // An endless reply is aborted.
    let ((), signal_count) = with_server(|mut stream, mut doorbell_writer| {
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 64]).unwrap();
        doorbell_writer.write_all(b"!").unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest); // The end may be a reset.
        assert!(
            !rest.ends_with(b"\r\n0\r\n\r\n"),
            "an aborted reply does not end like a complete one"
        );
    });
    assert!(signal_count >= 1);
}

#[test]
fn only_a_listening_stream_socket_can_be_borrowed() {
    let invalid = |number| crate::listener::borrow(number).unwrap_err().kind();
    let connected = UnixStream::pair().unwrap().0;
    assert_eq!(invalid(connected.as_raw_fd()), io::ErrorKind::InvalidInput);
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    assert_eq!(invalid(datagrams.as_raw_fd()), io::ErrorKind::InvalidInput);
    let file = tempfile::tempfile().unwrap();
    assert_eq!(
        crate::listener::borrow(file.as_raw_fd()).unwrap_err().raw_os_error(),
        Some(nix::libc::ENOTSOCK)
    );
}
