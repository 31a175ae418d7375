mod late;
mod lingering;
mod properties;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Instant, SystemTime};

use super::*;
use crate::connection::Timer;
use crate::http::ResponseHead;
use crate::shared::scoreboard::{WorkerEntry, tape};

/// The 15 counters, and the letters that the golden sequences use for them.
const LETTERS: [(&str, Counter); 15] = [
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

/// What a scripted application answers.
enum Answer {
    /// One item, whose length is known.
    Whole(&'static [u8]),
    /// Items of unknown length; `None` is a failure of the iterator.
    Items(Vec<Option<&'static [u8]>>),
    /// Items with this Content-Length.
    Promised(&'static [u8], Vec<&'static [u8]>),
    Raises,
}

/// A shell around the state machine without a socket. It keeps what is sent.
struct Bench {
    conn: Connection<Vec<u8>>,
    head: Head,
    settings: Settings,
    date: HttpDate,
    entry: &'static WorkerEntry,
    persistence: Persistence,
    answers: Vec<Answer>,
    items: Vec<Option<&'static [u8]>>,
    calls: Vec<(String, Vec<u8>)>,
    spool: Vec<u8>,
    pending: Vec<u8>,
    sent: Vec<u8>,
    refused: Vec<Refused>,
    is_closed: Option<CloseManner>,
    room: usize,
}

impl Bench {
    fn new(answers: Vec<Answer>) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let entry = WorkerEntry::detached();
        tape::take();
        entry.counters.inc(Counter::ConnAcceptSuccess);
        let mut answers = answers;
        answers.reverse();
        Self {
            conn: Connection::new(ConnInfo::new(
                SocketName::Inet(address),
                SocketName::Inet(address),
                Instant::now(),
            )),
            head: Head::new(),
            settings: Settings::default(),
            date: HttpDate::at(SystemTime::UNIX_EPOCH),
            entry,
            persistence: Persistence::KeepAlive,
            answers,
            items: Vec::new(),
            calls: Vec::new(),
            spool: Vec::new(),
            pending: Vec::new(),
            sent: Vec::new(),
            refused: Vec::new(),
            is_closed: None,
            room: usize::MAX,
        }
    }

    /// Feeds one packet and goes as far as possible.
    fn packet(&mut self, bytes: &[u8]) -> &mut Self {
        self.pending.extend_from_slice(bytes);
        self.conn.received();
        self.turn();
        self
    }

    fn turn(&mut self) {
        loop {
            let rules = Rules {
                settings: &self.settings,
                date: &self.date,
                counters: &self.entry.counters,
                persistence: self.persistence,
                request_id: None,
            };
            let mut input = Cursor::new(&self.pending);
            let step = self.conn.step(&mut input, &mut self.head, &rules);
            let taken = input.taken();
            match step {
                Step::Read => {
                    self.pending.drain(..taken);
                    return;
                }
                Step::Store(bytes) => self.spool.extend_from_slice(bytes),
                Step::Call { head_bytes, body } => {
                    let line = String::from_utf8_lossy(self.head.target.of(head_bytes));
                    self.calls.push((line.into_owned(), body.to_vec()));
                    reply(&mut self.conn, &mut self.items, self.answers.pop(), &rules);
                }
                Step::CallGathered => {
                    let gathered = self.conn.take_gathered().unwrap();
                    let line =
                        String::from_utf8_lossy(gathered.head.target.of(&gathered.head_bytes));
                    self.calls.push((line.into_owned(), std::mem::take(&mut self.spool)));
                    reply(&mut self.conn, &mut self.items, self.answers.pop(), &rules);
                }
                Step::Refused(refused) => self.refused.push(*refused),
                Step::Pull => match (!self.items.is_empty()).then(|| self.items.remove(0)) {
                    Some(Some(item)) => {
                        self.conn.push_item(item.to_vec());
                    }
                    Some(None) => self.conn.fail(&rules),
                    None => self.conn.end_items(),
                },
                Step::Write { parts, .. } => {
                    let bytes = parts.concat();
                    let count = bytes.len().min(self.room);
                    if count == 0 {
                        self.pending.drain(..taken);
                        return;
                    }
                    self.room -= count;
                    self.sent.extend_from_slice(&bytes[..count]);
                    self.conn.wrote(count, &self.entry.counters);
                }
                Step::SendFile { length, .. } => self.conn.wrote_file(length, &self.entry.counters),
                Step::Finish => self.conn.finish(&self.entry.counters),
                Step::ShutWrite => self.conn.write_shut(),
                Step::Close(manner) => {
                    self.is_closed = Some(manner);
                    self.pending.clear();
                    return;
                }
            }
            self.pending.drain(..taken);
        }
    }

    fn ends(&mut self) -> &mut Self {
        self.conn.ended(&self.entry.counters);
        self.turn();
        self
    }

    fn resets(&mut self) -> &mut Self {
        self.conn.failed(&self.entry.counters);
        self.turn();
        self
    }

    fn expires(&mut self, timer: Timer) -> &mut Self {
        let rules = Rules {
            settings: &self.settings,
            date: &self.date,
            counters: &self.entry.counters,
            persistence: self.persistence,
            request_id: None,
        };
        self.conn.expire(timer, &self.pending, &rules);
        self.turn();
        self
    }

    /// A window over which the rate of the body is measured ends. The loop watched for this part of it.
    fn window_ends(&mut self, watched: Duration) -> &mut Self {
        let rules = Rules {
            settings: &self.settings,
            date: &self.date,
            counters: &self.entry.counters,
            persistence: self.persistence,
            request_id: None,
        };
        self.conn.end_window(watched, &rules);
        self.turn();
        self
    }

    /// What was counted since the last call, in order.
    fn counts(&mut self) -> String {
        let letters = |counted: &Counter| {
            LETTERS.iter().find(|(_, counter)| counter == counted).map(|(letters, _)| *letters)
        };
        tape::take().iter().filter_map(letters).collect::<Vec<_>>().join(" ")
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.sent).into_owned()
    }
}

fn reply(
    conn: &mut Connection<Vec<u8>>,
    items: &mut Vec<Option<&'static [u8]>>,
    answer: Option<Answer>,
    rules: &Rules<'_>,
) {
    let mut head = ResponseHead::default();
    head.start(b"200 OK").unwrap();
    match answer.unwrap_or(Answer::Whole(b"hello")) {
        Answer::Whole(bytes) => {
            conn.begin_reply(&head, Some(bytes.len() as u64), rules);
            conn.push_item(bytes.to_vec());
            conn.end_items();
        }
        Answer::Items(given) => {
            *items = given;
            conn.begin_reply(&head, None, rules);
            if let Some(Some(first)) = (!items.is_empty()).then(|| items.remove(0)) {
                conn.push_item(first.to_vec());
            }
        }
        Answer::Promised(length, given) => {
            head.add(b"Content-Length", length).unwrap();
            *items = given.into_iter().map(Some).collect();
            conn.begin_reply(&head, None, rules);
            if let Some(Some(first)) = (!items.is_empty()).then(|| items.remove(0)) {
                conn.push_item(first.to_vec());
            }
        }
        Answer::Raises => conn.fail(rules),
    }
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const GET_CLOSE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn a_kept_get_then_the_client_leaves() {
    let mut bench = Bench::new(vec![]);
    assert_eq!(bench.packet(GET).ends().counts(), "AS RR RD SD SK CD RX");
    assert_eq!(bench.entry.counters.get(Counter::ConnCloseIdle), 1);
}

#[test]
fn a_get_with_connection_close() {
    let mut bench = Bench::new(vec![]);
    assert_eq!(bench.packet(GET_CLOSE).counts(), "AS RR RD SD SC");
    assert_eq!(bench.is_closed, Some(CloseManner::Graceful));
}

#[test]
fn a_reset_kept_connection_ended_between_two_requests() {
    let mut bench = Bench::new(vec![]);
    assert_eq!(bench.packet(GET).resets().counts(), "AS RR RD SD SK ER RX");
    assert_eq!(bench.entry.counters.get(Counter::ConnCloseIdle), 1);
    let mut fresh = Bench::new(vec![]);
    assert_eq!(fresh.resets().entry.counters.get(Counter::ConnCloseIdle), 0);
}

#[test]
fn an_incomplete_read_is_counted_once_however_long_its_turn_takes() {
    let mut bench = Bench::new(vec![]);
    bench.packet(&GET_CLOSE[..5]);
    bench.turn();
    bench.turn();
    assert_eq!(bench.counts(), "AS RA");
    bench.room = 0;
    bench.packet(&[&GET_CLOSE[5..], b"behind"].concat());
    assert_eq!(bench.counts(), "RR RD");
    bench.room = usize::MAX;
    bench.turn();
    assert_eq!(bench.counts(), "SD SC");
}

#[test]
fn a_pipelined_request_is_active_while_its_rest_is_awaited() {
    let mut bench = Bench::new(vec![]);
    bench.room = 0;
    bench.packet(&[GET, &GET[..9]].concat());
    assert_eq!(bench.counts(), "AS RR RD");
    bench.room = usize::MAX;
    bench.turn();
    assert_eq!(bench.counts(), "SD SK RA");
    assert_eq!(bench.packet(&GET[9..]).counts(), "RR RD SD SK");
}

#[test]
fn connect_and_close_or_reset() {
    assert_eq!(Bench::new(vec![]).ends().counts(), "AS CD RX");
    assert_eq!(Bench::new(vec![]).resets().counts(), "AS ER RX");
}

#[test]
fn a_head_in_three_packets_is_active_twice() {
    let mut bench = Bench::new(vec![]);
    bench.packet(&GET_CLOSE[..5]).packet(&GET_CLOSE[5..20]).packet(&GET_CLOSE[20..]);
    assert_eq!(bench.counts(), "AS RA RA RR RD SD SC");
}

#[test]
fn garbage_is_answered_400_and_lingers_until_the_peer_leaves() {
    let mut bench = Bench::new(vec![]);
    assert_eq!(bench.packet(b"\x16\x03\x01").counts(), "AS EP RD SD SC");
    assert!(bench.text().starts_with("HTTP/1.1 400 "), "{}", bench.text());
    assert_eq!(bench.is_closed, None);
    assert_eq!(bench.packet(GET).ends().counts(), "");
    assert!(bench.is_closed.is_some());
    assert!(bench.calls.is_empty());
}

/// A connection whose complete request arrived in two pieces, but has not reached the application yet.
fn gathered() -> Bench {
    let mut bench = Bench::new(vec![]);
    bench.packet(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
    bench.conn.received();
    let rules = Rules {
        settings: &bench.settings,
        date: &bench.date,
        counters: &bench.entry.counters,
        persistence: bench.persistence,
        request_id: None,
    };
    let mut input = Cursor::new(b"b");
    assert!(matches!(bench.conn.step(&mut input, &mut bench.head, &rules), Step::Store(b"b")));
    assert!(matches!(bench.conn.step(&mut input, &mut bench.head, &rules), Step::CallGathered));
    bench
}

#[test]
fn a_gathered_request_whose_client_has_left_is_abandoned() {
    let leave: [fn(&mut Bench); 3] = [
        |bench| bench.conn.ended(&bench.entry.counters),
        |bench| bench.conn.failed(&bench.entry.counters),
        |bench| bench.conn.give_up(&bench.entry.counters),
    ];
    for leave in leave {
        let mut bench = gathered();
        leave(&mut bench);
        assert_eq!(bench.entry.counters.get(Counter::ReqAbandoned), 1);
        assert_eq!(bench.entry.counters.get(Counter::ReqAborted), 1);
    }
}

#[test]
fn an_application_that_raises_is_a_500_and_a_close() {
    let mut bench = Bench::new(vec![Answer::Raises]);
    assert_eq!(bench.packet(GET).counts(), "AS RR EI RD SD SC");
    assert!(bench.text().starts_with("HTTP/1.1 500 "), "{}", bench.text());
}

#[test]
fn an_iterator_that_fails_at_its_second_item_ends_abruptly() {
    let mut bench = Bench::new(vec![Answer::Items(vec![Some(b"a"), None])]);
    assert_eq!(bench.packet(GET).counts(), "AS RR RD SX");
    assert!(!bench.text().ends_with("0\r\n\r\n"), "{}", bench.text());
    assert_eq!(bench.is_closed, Some(CloseManner::Graceful));
}

#[test]
fn a_failure_is_a_reset_if_only_the_end_ends_the_body() {
    let mut bench = Bench::new(vec![Answer::Items(vec![Some(b"a"), None])]);
    bench.packet(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(bench.is_closed, Some(CloseManner::Reset));
}

#[test]
fn a_late_reader_is_reset_if_only_the_end_ends_the_body() {
    let mut bench = Bench::new(vec![Answer::Items(vec![Some(b"a"), Some(b"b")])]);
    bench.room = 1;
    bench.packet(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(bench.expires(Timer::Write).counts(), "AS RR RD SA SX");
    assert_eq!(bench.is_closed, Some(CloseManner::Reset));
}

#[test]
fn two_pipelined_gets_in_one_packet_are_both_answered() {
    let mut bench = Bench::new(vec![]);
    assert_eq!(bench.packet(&[GET, GET].concat()).counts(), "AS RR RD SD SK RR RD SD SK");
    assert_eq!(bench.text().matches("HTTP/1.1 200 OK\r\n").count(), 2);
}

#[test]
fn nothing_behind_a_closing_request_is_parsed() {
    let mut bench = Bench::new(vec![]);
    assert_eq!(bench.packet(&[GET_CLOSE, GET].concat()).counts(), "AS RR RD SD SC");
    assert_eq!(bench.calls.len(), 1);
    assert_eq!(bench.is_closed, None, "it lingers: the peer may not have read the answer yet");
}

#[test]
fn a_peer_that_resets_during_a_long_response_is_an_aborted_response() {
    let mut bench = Bench::new(vec![Answer::Whole(&[b'x'; 100_000])]);
    bench.room = 40_000;
    assert_eq!(bench.packet(GET).counts(), "AS RR RD SA");
    bench.room = 10_000;
    bench.turn();
    assert_eq!(bench.resets().counts(), "SA SX");
}

#[test]
fn further_chunks_are_progress_and_the_last_is_not() {
    let mut bench = Bench::new(vec![Answer::Items(vec![Some(b"a"), Some(b"b"), Some(b"c")])]);
    assert_eq!(bench.packet(GET).counts(), "AS RR RD SA SA SD SK");
    assert!(bench.text().ends_with("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"), "{}", bench.text());
}

#[test]
fn more_than_the_promised_length_is_not_sent() {
    let mut bench = Bench::new(vec![Answer::Promised(b"3", vec![b"ab", b"cd"])]);
    assert_eq!(bench.packet(GET).counts(), "AS RR RD SD SK");
    assert!(bench.text().ends_with("\r\n\r\nabc"), "{}", bench.text());
}

#[test]
fn less_than_the_promised_length_ends_abruptly() {
    let mut bench = Bench::new(vec![Answer::Promised(b"3", vec![b"ab"])]);
    assert_eq!(bench.packet(GET).counts(), "AS RR RD SX");
    assert!(bench.is_closed.is_some());
}

#[test]
fn a_body_is_gathered_over_packets_and_the_application_sees_it_whole() {
    let mut bench = Bench::new(vec![]);
    bench.packet(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nab").packet(b"cd");
    assert!(bench.calls.is_empty());
    bench.packet(b"ef");
    assert_eq!(bench.calls, [("/up".to_string(), b"abcdef".to_vec())]);
    assert_eq!(bench.counts(), "AS RA RA RR RD SD SK");
}

#[test]
fn a_chunked_body_is_followed_by_the_next_request() {
    let mut bench = Bench::new(vec![]);
    bench.packet(
        b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n\
          GET /b HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    let calls: Vec<_> =
        bench.calls.iter().map(|(target, body)| (target.as_str(), &body[..])).collect();
    assert_eq!(calls, [("/a", &b"hi"[..]), ("/b", b"")]);
}

#[test]
fn continue_is_sent_only_when_the_body_is_not_there_already() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    let mut waits = Bench::new(vec![]);
    waits.packet(head);
    assert_eq!(waits.text(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(waits.entry.counters.get(Counter::RespStatus1xx), 1);
    waits.packet(b"ab");
    assert!(waits.text().contains("200 OK"));
    let mut eager = Bench::new(vec![]);
    eager.packet(&[head.as_slice(), b"ab"].concat());
    assert!(eager.text().starts_with("HTTP/1.1 200 OK"), "{}", eager.text());
    assert_eq!(eager.entry.counters.get(Counter::RespStatus1xx), 0);
}

#[test]
fn a_body_that_ends_early_never_reaches_the_application() {
    let mut bench = Bench::new(vec![]);
    bench.packet(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nab").ends();
    assert_eq!(bench.counts(), "AS RA CD RX");
    assert!(bench.calls.is_empty());
}

#[test]
fn a_draining_worker_sends_close_and_lingers() {
    let mut bench = Bench::new(vec![]);
    bench.persistence = Persistence::Close;
    assert_eq!(bench.packet(GET).counts(), "AS RR RD SD SC");
    assert!(bench.text().contains("Connection: close\r\n"), "{}", bench.text());
    assert_eq!(bench.is_closed, None);
}

#[test]
fn the_last_allowed_response_of_a_connection_says_close() {
    let mut bench = Bench::new(vec![]);
    bench.settings.limits.requests_per_connection = 2;
    assert_eq!(bench.packet(&[GET, GET, GET].concat()).counts(), "AS RR RD SD SK RR RD SD SC");
}

#[test]
fn only_an_idle_connection_can_be_released() {
    let mut bench = Bench::new(vec![]);
    bench.packet(b"GET");
    let Err(conn) = bench.conn.release() else { panic!("a part of a request was lost") };
    bench.conn = conn;
    bench.packet(b" / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(bench.conn.release().map(|info| info.served).ok(), Some(1));
}

#[test]
fn an_aborted_response_says_how_many_of_its_bytes_were_sent() {
    let mut bench = Bench::new(vec![Answer::Promised(b"100000", vec![&[b'x'; 100_000]])]);
    bench.room = 60_000;
    bench.packet(GET).resets();
    let head_bytes = bench.text().find("\r\n\r\n").unwrap() as u64 + 4;
    assert_eq!(bench.conn.reply(), Some((Status(200), 60_000 - head_bytes)));
}

/// The reasons of refused requests, with method and path.
fn refusals(bench: &Bench) -> Vec<(String, String)> {
    let text = |part: &Option<Box<[u8]>>| {
        part.as_deref().map_or("-".into(), |part| String::from_utf8_lossy(part).into_owned())
    };
    let describe = |refused: &Refused| {
        let PartialHead { method, path, .. } = &refused.request;
        (refused.reason.to_string(), format!("{} {}", text(method), text(path)))
    };
    bench.refused.iter().map(describe).collect()
}

#[track_caller]
fn assert_refused(bench: &Bench, reason: &str, request: &str) {
    assert_eq!(refusals(bench), [(reason.to_owned(), request.to_owned())]);
}

#[test]
fn a_refused_request_is_reported_with_its_rule_and_what_was_read() {
    let chunked = b"POST /p?q HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut bench = Bench::new(vec![]);
    bench.packet(chunked).packet(b"5;\r\n");
    assert_refused(&bench, "a chunk extension is malformed", "POST /p");

    let mut bench = Bench::new(vec![]);
    bench.packet(b"GET /x HTTP/1.1\r\n\r\n");
    assert_refused(&bench, "Host is missing", "GET /x");

    let mut bench = Bench::new(vec![]);
    bench.settings.limits.body_bytes = 4;
    bench.packet(b"PUT /big HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    assert_refused(&bench, "the body is too large", "PUT /big");
}

#[test]
fn a_late_request_is_reported_too() {
    let mut bench = Bench::new(vec![]);
    bench.packet(b"GET /x HTTP/1.1\r\nHo").expires(Timer::Head);
    assert_refused(&bench, "the head did not arrive in time", "GET /x");

    let head = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    let mut bench = Bench::new(vec![]);
    bench.packet(head).expires(Timer::Body);
    assert_refused(&bench, "the body did not arrive in time", "POST /p");

    let mut bench = Bench::new(vec![]);
    bench.packet(head).window_ends(Duration::from_secs(30));
    assert_refused(&bench, "the body arrived too slowly", "POST /p");
}

#[test]
fn an_answered_request_is_not_reported_as_refused() {
    let mut bench = Bench::new(vec![Answer::Whole(b"ok"), Answer::Raises]);
    bench.packet(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(bench.calls.len(), 2);
    assert_eq!(refusals(&bench), []);
}
