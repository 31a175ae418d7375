//! A worker that has run out of file descriptors.
//!
//! The limit holds for a whole process and would make the tests beside this one fail, so the test starts
//! this program once more, to run nothing else.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::process::Command;

use arctos_worker::application::{AppBody, AppError, Application, Content, Outlet, Reply, Request};
use arctos_worker::http::ResponseHead;
use arctos_worker::settings::Settings;
use arctos_worker::shared::scoreboard::Counter;
use arctos_worker::worker::WorkerExit;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::server::{PATIENCE, Server};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Set in the process that runs only this test.
const ALONE: &str = "ARCTOS_TEST_ALONE";

/// Answers `ok`.
#[derive(Default)]
struct Brief {
    head: ResponseHead,
}

/// There is nothing behind `ok`.
struct Nothing;

impl AppBody for Nothing {
    type Chunk = &'static [u8];

    fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<&'static [u8]>, AppError> {
        Ok(None)
    }

    fn close(self) {}
}

impl Application for Brief {
    type Body = Nothing;

    fn call(
        &mut self,
        _request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Nothing>, AppError> {
        self.head.start(b"200 OK").map_err(|_| AppError::Invalid)?;
        Ok(Reply { head: &self.head, content: Content::Whole(&b"ok"[..]) })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }
}

fn is_answered(client: &mut TcpStream) -> bool {
    client.write_all(GET).expect("the request is sent");
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"\r\n\r\nok") {
        match client.read(&mut piece) {
            Ok(0) => return false,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}

/// Runs one test of this program in a process of its own.
fn run_alone(name: &str) {
    let output = Command::new(std::env::current_exe().expect("the path of this program"))
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .expect("this program starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // Without the count, a name that matches no test would pass.
    let has_passed = output.status.success() && stdout.contains(" 1 passed;");
    assert!(has_passed, "{}\n{stdout}\n{stderr}", output.status);
}

#[test]
fn a_worker_without_free_descriptors_evicts_the_longest_idle_connection() {
    if std::env::var_os(ALONE).is_none() {
        let name =
            "descriptors::a_worker_without_free_descriptors_evicts_the_longest_idle_connection";
        return run_alone(name);
    }
    let server = Server::start(Settings::default(), Brief::default);
    let mut idle = [server.connect(), server.connect()];
    for client in &mut idle {
        assert!(is_answered(client));
    }
    let new = Socket::new(Domain::IPV4, Type::STREAM, None).expect("the last but a few");
    new.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("RLIMIT_NOFILE");
    let mut others = vec![File::open("/dev/null").expect("/dev/null")];
    let highest = others[0].as_raw_fd() as u64;
    setrlimit(Resource::RLIMIT_NOFILE, highest.max(64) + 1, hard).expect("a lower limit");
    while let Ok(other) = File::open("/dev/null") {
        others.push(other);
    }
    let address = idle[0].peer_addr().expect("the server's");
    new.connect(&SockAddr::from(address)).expect("the queue has room");
    let mut new = TcpStream::from(new);
    assert!(is_answered(&mut new));
    assert_eq!(idle[0].read(&mut [0]).expect("a tidy end"), 0, "it was idle for longest");
    assert!(is_answered(&mut idle[1]), "one was enough");
    assert_eq!(server.entry().counters.get(Counter::ConnAcceptError), 1);
    drop((others, idle, new));
    assert_eq!(server.stop(), WorkerExit::Done);
}
