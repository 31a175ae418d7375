//! Checks what a worker counts for one connection.
//!
//! The sequences are those of the state table of bjoern's 15 counters, with its abbreviations.

use std::fmt;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use arctos_worker::settings::Settings;
use arctos_worker::shared::scoreboard::{Counter, Counters};
use arctos_worker::worker::WorkerExit;

use crate::support::echo::Echo;
use crate::support::response::ResponseReader;
use crate::support::server::{PATIENCE, Server};

/// The 15 counters with their abbreviations, in the order of the state table.
const COUNTERS: [(&str, Counter); 15] = [
    ("AS", Counter::ConnAcceptSuccess),
    ("AE", Counter::ConnAcceptError),
    ("RR", Counter::ReqSuccessRead),
    ("RD", Counter::ReqDone),
    ("RA", Counter::ReqActive),
    ("EP", Counter::ReqErrorParse),
    ("EI", Counter::ReqErrorInternal),
    ("ER", Counter::ReqErrorRead),
    ("CD", Counter::ReqErrorClientDisconnected),
    ("RX", Counter::ReqAborted),
    ("SA", Counter::RespActive),
    ("SD", Counter::RespDone),
    ("SK", Counter::RespDoneKeepalive),
    ("SC", Counter::RespConnClose),
    ("SX", Counter::RespAborted),
];

/// The value of each of the 15 counters.
#[derive(PartialEq, Eq)]
struct Counts([u64; 15]);

impl Counts {
    fn of(counters: &Counters) -> Self {
        Self(COUNTERS.map(|(_, counter)| counters.get(counter)))
    }

    fn parse(sequence: &str) -> Self {
        let words: Vec<&str> = sequence.split(' ').collect();
        assert!(words.iter().all(|word| COUNTERS.iter().any(|(name, _)| name == word)));
        Self(COUNTERS.map(|(name, _)| words.iter().filter(|word| **word == name).count() as u64))
    }
}

impl fmt::Debug for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((name, _), &count) in COUNTERS.iter().zip(&self.0) {
            for _ in 0..count {
                write!(f, "{name} ")?;
            }
        }
        Ok(())
    }
}

/// The only client of a worker, which waits for the worker after each step.
struct Client {
    reader: ResponseReader<TcpStream>,
    counters: &'static Counters,
}

impl Client {
    fn connect(server: &Server) -> Self {
        let client = Self {
            reader: ResponseReader::new(server.connect()),
            counters: &server.entry().counters,
        };
        client.wait("accepted", |counters| counters.get(Counter::ConnAcceptSuccess) == 1);
        client
    }

    fn wait(&self, what: &str, is_so: impl Fn(&Counters) -> bool) {
        let start = Instant::now();
        while !is_so(self.counters) {
            assert!(start.elapsed() < PATIENCE, "not {what}: {:?}", Counts::of(self.counters));
            thread::yield_now();
        }
    }

    fn send(&self, bytes: &[u8]) {
        let read = self.counters.get(Counter::BytesIn) + bytes.len() as u64;
        self.reader.get_ref().write_all(bytes).expect("the connection is open");
        self.wait("read", |counters| counters.get(Counter::BytesIn) == read);
    }

    fn expect(&mut self, status: u16) {
        let response = self.reader.next_response(false).expect("a response");
        assert_eq!(response.map(|response| response.status), Some(status));
    }
}

/// Returns what a worker counts for the connection of one client.
fn counts(converse: impl FnOnce(Client)) -> Counts {
    let server = Server::start(Settings::default(), Echo::default);
    converse(Client::connect(&server));
    let counters = &server.entry().counters;
    assert_eq!(server.stop(), WorkerExit::Done);
    Counts::of(counters)
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn a_keep_alive_connection_closed_by_the_client_counts_as_in_bjoern() {
    let counts = counts(|mut client| {
        client.send(GET);
        client.expect(200);
    });
    assert_eq!(counts, Counts::parse("AS RR RD SD SK CD RX"));
}

#[test]
fn a_connection_closed_by_request_counts_no_abort() {
    let counts = counts(|mut client| {
        client.send(GET_CLOSE);
        client.expect(200);
    });
    assert_eq!(counts, Counts::parse("AS RR RD SD SC"));
}

#[test]
fn each_request_of_a_keep_alive_connection_is_counted() {
    let counts = counts(|mut client| {
        for _ in 0..2 {
            client.send(GET);
            client.expect(200);
        }
    });
    assert_eq!(counts, Counts::parse("AS RR RD SD SK RR RD SD SK CD RX"));
}

#[test]
fn both_of_two_pipelined_requests_are_counted() {
    let counts = counts(|mut client| {
        client.send(&[GET, GET].concat());
        client.expect(200);
        client.expect(200);
    });
    assert_eq!(counts, Counts::parse("AS RR RD SD SK RR RD SD SK CD RX"));
}

#[test]
fn a_response_does_not_wait_for_the_rest_of_a_pipelined_request() {
    let server = Server::start(Settings::default(), Echo::default);
    // The kernel sends a response that was corked for the next one after 200 ms. Without a cork, it takes as
    // long as the machine is busy, so the shortest of ten counts.
    let waits = (0..10).map(|_| {
        let mut stream = server.connect();
        let sent = Instant::now();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTT").expect("the worker reads");
        stream.read_exact(&mut [0; 16]).expect("a response");
        sent.elapsed()
    });
    assert!(waits.min() < Some(Duration::from_millis(150)));
    server.stop();
}

#[test]
fn a_connection_without_a_request_counts_an_abort() {
    assert_eq!(counts(drop), Counts::parse("AS CD RX"));
}

#[test]
fn a_connection_that_is_reset_counts_a_read_error() {
    let counts = counts(|client| {
        let stream = socket2::SockRef::from(client.reader.get_ref());
        stream.set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    });
    assert_eq!(counts, Counts::parse("AS ER RX"));
}

#[test]
fn a_head_in_three_packets_counts_as_active_twice() {
    let counts = counts(|mut client| {
        let (first, rest) = GET_CLOSE.split_at(10);
        let (second, third) = rest.split_at(10);
        client.send(first);
        client.send(second);
        client.send(third);
        client.expect(200);
    });
    assert_eq!(counts, Counts::parse("AS RA RA RR RD SD SC"));
}

#[test]
fn an_interim_response_is_not_counted() {
    let counts = counts(|mut client| {
        client.send(
            b"PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\
              Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        );
        client.expect(100);
        client.send(b"hello");
        client.expect(200);
    });
    assert_eq!(counts, Counts::parse("AS RA RR RD SD SC"));
}

#[test]
fn garbage_counts_a_parse_error_and_is_answered() {
    let counts = counts(|mut client| {
        client.send(b"\x16\x03\x01\x00\xa5");
        client.expect(400);
    });
    assert_eq!(counts, Counts::parse("AS EP RD SD SC"));
}

#[test]
fn a_request_with_an_incomplete_body_is_not_counted() {
    let counts = counts(|client| {
        client.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    });
    assert_eq!(counts, Counts::parse("AS RA CD RX"));
}

#[test]
fn an_application_that_raises_counts_an_internal_error() {
    let counts = counts(|mut client| {
        client.send(b"GET /raise HTTP/1.1\r\nHost: a\r\n\r\n");
        client.expect(500);
    });
    assert_eq!(counts, Counts::parse("AS RR EI RD SD SC"));
}

#[test]
fn a_failure_after_the_response_head_counts_an_aborted_response() {
    let counts = counts(|mut client| {
        client.send(b"GET /break HTTP/1.1\r\nHost: a\r\n\r\n");
        let response = client.reader.next_response(false);
        assert!(response.is_err(), "a truncated response looks complete: {response:?}");
    });
    assert_eq!(counts, Counts::parse("AS RR RD SX"));
}
