//! The clients whose request a dead worker has left unanswered, as a source: the supervisor answers them on the
//! descriptors that it holds.
//!
//! | what the worker was doing for a client when it ended | what the client gets |
//! |---|---|
//! | reading a request, or running one | 502, or 504 if it was killed because it hung; then the end of the connection |
//! | sending a response, even if no byte of it has left | the end of the connection |
//! | nothing | nothing: the connection waits for its next request |
//!
//! | a connection is | event | next |
//! |---|---|---|
//! | held for a worker | the worker has ended | the response is sent, as far as the kernel takes it at once, and the sending direction is shut down: lingering |
//! | lingering | bytes | discarded |
//! | lingering | end of stream, an error, [`MAX_BYTES`], [`LINGER`] without a byte, or [`LINGER_TOTAL`] | closed |
//!
//! A connection that is closed while the client still sends is reset, and the client may lose the response (RFC 9112
//! §9.6). The limits are those of a worker.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use arctos_worker::http::response::{IdField, Refusal};
use arctos_worker::http::{HttpDate, Status};
use arctos_worker::shared::scoreboard::{Counter, WorkerEntry};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::socket::{MsgFlags, Shutdown, recv, send, shutdown};

use super::running_request::running_request;
use super::source::{Report, Round, Source};
use crate::supervisor::log_event::{Answered, RunningRequest};
use crate::system::descriptors::OwnDescriptors;

/// How long a connection stays open without a byte.
const LINGER: Duration = Duration::from_secs(2);
/// How long it stays open in total.
const LINGER_TOTAL: Duration = Duration::from_secs(30);
/// How many bytes of one connection are discarded.
const MAX_BYTES: usize = 64 << 20;
/// How many bytes of one connection are discarded in a round.
const ROUND_BYTES: usize = 256 * 1024;
/// How many connections linger at once. Further ones are closed at once.
const MAX_LINGERING: usize = 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Victims {
    lingering: Vec<Lingering>,
}

/// A connection whose last response was sent.
struct Lingering {
    socket: OwnedFd,
    /// When it is closed if nothing comes.
    until: Instant,
    /// When it is closed in any case.
    until_at_most: Instant,
    left_bytes: usize,
}

/// A worker that was reaped.
pub(super) struct DeadWorker {
    pub(super) entry: &'static WorkerEntry,
    pub(super) end: WorkerEnd,
    /// The request that it was running.
    pub(super) running: Option<RunningRequest>,
    /// What its clients got.
    pub(super) answered: Answered,
}

impl DeadWorker {
    pub(super) fn new(entry: &'static WorkerEntry, end: WorkerEnd) -> Self {
        Self { entry, end, running: running_request(entry), answered: Answered::default() }
    }
}

/// How a worker has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerEnd {
    /// It exited, or it was killed by somebody else.
    Died,
    /// It was killed because it hung.
    TimedOut,
}

impl WorkerEnd {
    fn answer_status(self) -> Status {
        match self {
            Self::Died => Status(502),
            Self::TimedOut => Status(504),
        }
    }
}

/// What a dead worker was doing for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its request was incomplete, or the application was not called for it yet.
    Read,
    /// The application was called for it.
    Running,
}

impl Victims {
    /// Answers the client of a request that the worker has left unanswered, and closes its connection once the client
    /// has read that.
    pub(super) fn answer(
        &mut self,
        dead: &mut DeadWorker,
        stage: Stage,
        socket: OwnedFd,
        now: Instant,
    ) {
        let running = dead.running.as_ref().filter(|_| stage == Stage::Running);
        let status = dead.end.answer_status();
        let response = response(status, running);
        // A socket that takes less is full of earlier responses, which its client does not read.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        let is_sent = send(socket.as_raw_fd(), &response, flags) == Ok(response.len());
        if is_sent {
            dead.entry.counters.inc(Counter::RespVictim);
            dead.answered.count += 1;
            if running.is_some() {
                dead.answered.running = Some(status.0);
            }
        }
        self.linger(socket, now);
    }

    /// Ends a connection. Its client may still be sending.
    fn linger(&mut self, socket: OwnedFd, now: Instant) {
        if self.lingering.len() >= MAX_LINGERING {
            return close(&socket);
        }
        // ENOTCONN: the peer was faster, and the next read says so.
        let _ = shutdown(socket.as_raw_fd(), Shutdown::Write);
        let (until, until_at_most) = (now + LINGER, now + LINGER_TOTAL);
        self.lingering.push(Lingering { socket, until, until_at_most, left_bytes: MAX_BYTES });
    }
}

/// Ends a connection for all processes that have a descriptor of it.
pub(super) fn close(socket: &OwnedFd) {
    // ENOTCONN: the peer was faster.
    let _ = shutdown(socket.as_raw_fd(), Shutdown::Both);
}

/// The response to a request. Which one it was is known only of the one that ran.
fn response(status: Status, running: Option<&RunningRequest>) -> Vec<u8> {
    let is_head = running.is_some_and(|running| running.line.starts_with("HEAD "));
    let request_id = running.and_then(|running| IdField::usual(running.id.as_bytes()));
    let refusal = Refusal { request_id, ..Refusal::closing(status, is_head) };
    let mut response = Vec::new();
    refusal.put(&mut response, &HttpDate::at(SystemTime::now()), false);
    response
}

impl Lingering {
    /// Discards what has arrived. Returns whether the connection stays open.
    fn discard(&mut self, now: Instant) -> bool {
        let mut buffer = [0; 16 * 1024];
        let mut count = 0;
        while count < ROUND_BYTES.min(self.left_bytes) {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return false,
                Ok(bytes) => count += bytes,
                Err(Errno::EAGAIN | Errno::EINTR) => break,
                Err(_) => return false,
            }
        }
        self.left_bytes = self.left_bytes.saturating_sub(count);
        self.until = now + LINGER;
        self.left_bytes > 0
    }

    fn deadline(&self) -> Instant {
        self.until.min(self.until_at_most)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        close(&self.socket);
    }
}

impl Source for Victims {
    fn poll<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        let sockets = self.lingering.iter().map(|lingering| lingering.socket.as_fd());
        fds.extend(sockets.map(|socket| PollFd::new(socket, PollFlags::POLLIN)));
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.lingering.iter().map(Lingering::deadline).min()
    }

    fn read(&mut self, round: &Round, _reports: &mut Vec<Report>) {
        self.lingering.retain_mut(|lingering| {
            let is_ready = round.ready_fds.contains(&lingering.socket.as_raw_fd());
            !is_ready || lingering.discard(round.now)
        });
    }

    fn check_deadlines(&mut self, round: &Round, _reports: &mut Vec<Report>) {
        self.lingering.retain(|lingering| lingering.deadline() > round.now);
    }

    fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.extend(self.lingering.iter().map(|lingering| &lingering.socket));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn dead(end: WorkerEnd, line: &str) -> DeadWorker {
        let (line, id) = (line.to_owned(), "7f-01".to_owned());
        let running = Some(RunningRequest { age: Duration::ZERO, line, id, trace: String::new() });
        DeadWorker { running, ..DeadWorker::new(WorkerEntry::detached(), end) }
    }

    /// A client and the server's end of its connection.
    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = listener.accept().unwrap().0;
        server.set_nonblocking(true).unwrap();
        (client, server)
    }

    fn text(end: WorkerEnd, line: &str, stage: Stage) -> String {
        let (mut client, server) = connection();
        let (mut victims, mut dead) = (Victims::default(), dead(end, line));
        victims.answer(&mut dead, stage, server.into(), Instant::now());
        assert_eq!(dead.entry.counters.get(Counter::RespVictim), 1);
        assert_eq!(dead.answered.count, 1);
        assert_eq!(dead.answered.running.is_some(), stage == Stage::Running);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn the_client_of_the_running_request_gets_its_identifier() {
        let died = text(WorkerEnd::Died, "GET /", Stage::Running);
        assert!(died.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{died}");
        assert!(died.contains("\r\nX-Request-Id: 7f-01\r\nConnection: close\r\n"), "{died}");
        assert!(died.contains("\r\nContent-Length: 16\r\n"), "{died}");
        assert!(died.ends_with("\r\n\r\n502 Bad Gateway\n"), "{died}");
        let hung = text(WorkerEnd::TimedOut, "HEAD /", Stage::Running);
        assert!(hung.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{hung}");
        assert!(hung.ends_with("\r\n\r\n"), "{hung}");
    }

    #[test]
    fn a_request_that_did_not_run_has_no_identifier() {
        let text = text(WorkerEnd::Died, "HEAD /other", Stage::Read);
        assert!(!text.contains("X-Request-Id"), "{text}");
        assert!(text.ends_with("\r\n\r\n502 Bad Gateway\n"), "{text}");
    }

    #[test]
    fn a_client_that_does_not_read_its_responses_is_no_victim() {
        let (_client, server) = connection();
        while send(server.as_raw_fd(), &[b'x'; 65_536], MsgFlags::MSG_DONTWAIT).is_ok() {}
        let (mut victims, mut dead) = (Victims::default(), dead(WorkerEnd::Died, "GET /"));
        victims.answer(&mut dead, Stage::Running, server.into(), Instant::now());
        assert_eq!(dead.entry.counters.get(Counter::RespVictim), 0);
        assert_eq!(dead.answered, Answered::default());
    }

    #[test]
    fn a_client_that_still_sends_reads_its_answer() {
        let (mut client, server) = connection();
        client.write_all(&[b'x'; 100_000]).unwrap();
        let now = Instant::now();
        let (mut victims, mut dead) = (Victims::default(), dead(WorkerEnd::Died, "POST /"));
        victims.answer(&mut dead, Stage::Read, server.into(), now);
        let mut received = Vec::new();
        while victims.lingering[0].discard(now) {
            if received.is_empty() {
                client.write_all(&[b'x'; 100_000]).unwrap();
                client.read_to_end(&mut received).unwrap();
                client.shutdown(std::net::Shutdown::Write).unwrap();
            }
        }
        assert!(received.starts_with(b"HTTP/1.1 502 "));
    }

    #[test]
    fn a_client_that_sends_nothing_more_is_closed_after_a_while() {
        let (mut client, server) = connection();
        let now = Instant::now();
        let (mut victims, mut dead) = (Victims::default(), dead(WorkerEnd::Died, "GET /"));
        victims.answer(&mut dead, Stage::Running, server.into(), now);
        assert_eq!(victims.next_deadline(), Some(now + LINGER));
        client.write_all(b"more").unwrap();
        assert!(victims.lingering[0].discard(now + LINGER_TOTAL));
        assert_eq!(victims.next_deadline(), Some(now + LINGER_TOTAL), "it moves only so far");
        victims.lingering[0].left_bytes = 1;
        client.write_all(b"more").unwrap();
        assert!(!victims.lingering[0].discard(now), "it has sent too much");
    }
}
