use std::time::SystemTime;

use super::*;

/// A moment from which tests count.
fn start() -> Instant {
    Instant::now()
}

fn opened() -> Connection {
    Connection::new(Trust::Owner, start())
}

fn date() -> HttpDate {
    HttpDate::at(SystemTime::UNIX_EPOCH)
}

fn hear(bytes: &str) -> Heard {
    opened().receive(bytes.as_bytes())
}

/// The status that a request is refused with.
fn refusal(bytes: &str) -> u16 {
    match hear(bytes) {
        Heard::Refusal(answer) => answer.status,
        other @ (Heard::Nothing | Heard::Question { .. }) => panic!("{bytes:?}: {other:?}"),
    }
}

fn question(method: Method, path: &str, query: &str) -> Heard {
    let (path, query) = (path.to_owned(), query.to_owned());
    Heard::Question { method, path, query }
}

/// Everything that is sent for a request and its answer.
fn sent_for(request: &str, answer: &Answer) -> String {
    let mut connection = opened();
    assert!(matches!(connection.receive(request.as_bytes()), Heard::Question { .. }), "{request}");
    connection.answer(answer, &date(), start());
    String::from_utf8(connection.outgoing().to_vec()).unwrap()
}

#[test]
fn a_request_is_a_question_with_path_and_query() {
    let get = hear("GET /metrics?worker=1&x=? HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(get, question(Method::Get, "/metrics", "worker=1&x=?"));
    assert_eq!(hear("HEAD / HTTP/1.0\r\n\r\n"), question(Method::Head, "/", ""));
    let absolute = hear("GET http://a/metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(absolute, question(Method::Get, "/metrics", ""));
}

#[test]
fn over_tcp_everybody_may_look_and_nobody_command() {
    let over_tcp =
        |request: &str| Connection::new(Trust::Anybody, start()).receive(request.as_bytes());
    let get = over_tcp("GET /metrics HTTP/1.1\r\nHost: metrics.test:9090\r\n\r\n");
    assert_eq!(get, question(Method::Get, "/metrics", ""));
    for fields in ["", "Origin: http://evil.test\r\n", "Content-Length: 3\r\n"] {
        let post = format!("POST /stop HTTP/1.1\r\nHost: localhost\r\n{fields}\r\nabc");
        let Heard::Refusal(answer) = over_tcp(&post) else { panic!("{fields}") };
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains("unix:/path"));
    }
}

#[test]
fn a_request_that_comes_byte_by_byte_is_the_same_question() {
    let request = "POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let mut connection = opened();
    let (last, rest) = request.as_bytes().split_last().unwrap();
    for byte in rest {
        assert_eq!(connection.receive(&[*byte]), Heard::Nothing);
        assert_eq!(connection.awaits(), Awaits::Bytes);
    }
    assert_eq!(connection.receive(&[*last]), question(Method::WorkerInit, "/reload", ""));
    assert_eq!(connection.awaits(), Awaits::Answer);
}

#[test]
fn the_body_of_a_post_is_skipped_up_to_64_kb() {
    let post = |length: usize| {
        let head = format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        head + &"x".repeat(length)
    };
    assert_eq!(hear(&post(64 * 1024)), question(Method::WorkerInit, "/x", ""));
    assert_eq!(refusal(&post(64 * 1024 + 1)), 413);
    let chunked = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(hear(chunked), question(Method::WorkerInit, "/x", ""));
}

#[test]
fn what_cannot_be_served_is_refused_with_its_status() {
    for (request, status) in [
        ("GET /\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("\x16\x03\x01", 400),
        ("GET / HTTP/2.0\r\n\r\n", 505),
        ("DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("get / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n", 413),
        ("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 413),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n", 417),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx", 400),
    ] {
        assert_eq!(refusal(request), status, "{request:?}");
    }
}

#[test]
fn a_head_above_8_kb_is_refused() {
    let with = |length: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(length));
    assert_eq!(hear(&with(8000)), Heard::Nothing);
    assert_eq!(refusal(&with(8192)), 431);
    assert_eq!(refusal(&format!("GET /{}", "x".repeat(8192))), 431);
}

#[test]
fn an_answer_says_that_it_is_the_last_and_is_not_to_be_kept() {
    let answer = Answer { status: 200, content_type: "text/x", body: "abc\n".to_owned() };
    assert_eq!(
        sent_for("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &answer),
        "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nCache-Control: no-store\r\n\
         Content-Length: 4\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: close\r\n\r\nabc\n"
    );
}

#[test]
fn an_answer_to_head_has_the_length_and_not_the_body() {
    let sent = sent_for("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &Answer::plain(200, "abc\n"));
    assert!(sent.contains("Content-Length: 4\r\n") && sent.ends_with("\r\n\r\n"), "{sent}");
}

#[test]
fn a_405_names_the_methods_that_would_have_been_right() {
    let allowed = |request: &str| {
        let sent = sent_for(request, &Answer::plain(405, "no\n"));
        sent.lines().find_map(|line| Some(line.strip_prefix("Allow: ")?.to_owned())).unwrap()
    };
    assert_eq!(allowed("POST /metrics HTTP/1.0\r\n\r\n"), "GET, HEAD");
    assert_eq!(allowed("GET /reload HTTP/1.0\r\n\r\n"), "POST");

    let mut connection = opened();
    let Heard::Refusal(refusal) = connection.receive(b"PUT / HTTP/1.0\r\n\r\n") else { panic!() };
    connection.answer(&refusal, &date(), start());
    let sent = String::from_utf8(connection.outgoing().to_vec()).unwrap();
    assert!(sent.contains("\r\nAllow: GET, HEAD, POST\r\n"), "{sent}");
}

#[test]
fn a_request_that_is_late_loses_its_connection() {
    let now = start();
    let mut connection = Connection::new(Trust::Owner, now);
    assert_eq!(connection.deadline(), Some(now + READ_PATIENCE));
    connection.receive(b"GET / HTTP/1.1\r\n");
    connection.tick(now + READ_PATIENCE - Duration::from_millis(1));
    assert_eq!(connection.awaits(), Awaits::Bytes);
    connection.tick(now + READ_PATIENCE);
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn a_question_waits_for_its_answer_without_a_deadline() {
    let mut connection = opened();
    connection.receive(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(connection.deadline(), None);
    connection.tick(start() + Duration::from_secs(3600));
    assert_eq!(connection.awaits(), Awaits::Answer);
}

#[test]
fn an_answer_that_is_not_taken_is_given_up() {
    let now = start();
    let mut connection = Connection::new(Trust::Owner, now);
    connection.receive(b"GET / HTTP/1.0\r\n\r\n");
    connection.answer(&Answer::plain(200, "abc"), &date(), now);
    assert_eq!(connection.awaits(), Awaits::Room);
    assert!(!connection.sent(1, now + Duration::from_secs(9)));
    connection.tick(now + WRITE_PATIENCE);
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn after_the_answer_the_rest_is_read_for_a_while_and_means_nothing() {
    let now = start();
    let mut connection = Connection::new(Trust::Owner, now);
    connection.receive(b"GET / HTTP/1.0\r\n\r\n");
    connection.answer(&Answer::plain(200, "abc"), &date(), now);
    assert!(connection.sent(connection.outgoing().len(), now));
    assert!(connection.outgoing().is_empty());
    assert_eq!(connection.receive(b"GET /again HTTP/1.0\r\n\r\n"), Heard::Nothing);
    assert_eq!(connection.awaits(), Awaits::Bytes);
    connection.tick(now + LINGER);
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn who_does_not_stop_sending_after_the_answer_is_cut_off() {
    let mut connection = opened();
    connection.receive(b"bad\r\n\r\n");
    connection.answer(&Answer::plain(400, "bad\n"), &date(), start());
    connection.sent(connection.outgoing().len(), start());
    for _ in 0..=EXCESS_BYTES / 1000 {
        connection.receive(&[b'x'; 1000]);
    }
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn a_question_waits_without_end_and_takes_no_more_than_a_megabyte() {
    let mut connection = opened();
    connection.receive(b"POST /reload HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.deadline(), None);
    connection.tick(start() + Duration::from_secs(1_000_000));
    assert_eq!(connection.receive(&[b'x'; EXCESS_BYTES]), Heard::Nothing);
    assert_eq!(connection.awaits(), Awaits::Answer);
    assert_eq!(connection.receive(b"x"), Heard::Nothing);
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn an_answer_to_nobody_does_nothing() {
    let mut connection = opened();
    connection.answer(&Answer::plain(200, "abc"), &date(), start());
    assert_eq!(connection.awaits(), Awaits::Bytes);
    connection.close();
    connection.answer(&Answer::plain(200, "abc"), &date(), start());
    assert_eq!(connection.awaits(), Awaits::Nothing);
}
