use std::time::SystemTime;

use super::*;

fn start() -> Instant {
    Instant::now()
}

fn opened() -> Connection {
    Connection::new(Trust::Owner, start())
}

fn date() -> HttpDate {
    HttpDate::at(SystemTime::UNIX_EPOCH)
}

fn receive(bytes: &str) -> Received {
    opened().receive(bytes.as_bytes())
}

/// The status of the response that refuses a request.
fn refusal(bytes: &str) -> u16 {
    match receive(bytes) {
        Received::Refusal(answer) => answer.status,
        other @ (Received::Nothing | Received::Request(_)) => panic!("{bytes:?}: {other:?}"),
    }
}

fn complete(method: Method, path: &str, query: &str) -> Received {
    let (path, query) = (path.to_owned(), query.to_owned());
    Received::Request(Incoming { method, path, query, accept: String::new() })
}

/// All bytes that are sent in response to a request.
fn sent_for(request: &str, response: &AdminResponse) -> String {
    let mut connection = opened();
    assert!(matches!(connection.receive(request.as_bytes()), Received::Request(_)), "{request}");
    connection.respond(response, &date(), start());
    String::from_utf8(connection.outgoing().to_vec()).unwrap()
}

#[test]
fn a_request_has_a_method_a_path_and_a_query() {
    let get = receive("GET /metrics?worker=1&x=? HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(get, complete(Method::Get, "/metrics", "worker=1&x=?"));
    assert_eq!(receive("HEAD / HTTP/1.0\r\n\r\n"), complete(Method::Head, "/", ""));
    let absolute = receive("GET http://a/metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(absolute, complete(Method::Get, "/metrics", ""));
}

#[test]
fn over_tcp_a_client_may_look_but_change_nothing() {
    let over_tcp =
        |request: &str| Connection::new(Trust::Anyone, start()).receive(request.as_bytes());
    let get = over_tcp("GET /metrics HTTP/1.1\r\nHost: metrics.test:9090\r\n\r\n");
    assert_eq!(get, complete(Method::Get, "/metrics", ""));
    for fields in ["", "Origin: http://evil.test\r\n", "Content-Length: 3\r\n"] {
        let post = format!("POST /stop HTTP/1.1\r\nHost: localhost\r\n{fields}\r\nabc");
        let Received::Refusal(answer) = over_tcp(&post) else { panic!("{fields}") };
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains("unix:/path"));
    }
}

#[test]
fn a_request_that_arrives_byte_by_byte_is_the_same() {
    let request = "POST /reload HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let mut connection = opened();
    let (last, rest) = request.as_bytes().split_last().unwrap();
    for byte in rest {
        assert_eq!(connection.receive(&[*byte]), Received::Nothing);
        assert_eq!(connection.awaits(), Awaits::Bytes);
    }
    assert_eq!(connection.receive(&[*last]), complete(Method::Post, "/reload", ""));
    assert_eq!(connection.awaits(), Awaits::Response);
}

#[test]
fn the_body_of_a_post_is_skipped_up_to_64_kb() {
    let post = |length: usize| {
        let head = format!("POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        head + &"x".repeat(length)
    };
    assert_eq!(receive(&post(64 * 1024)), complete(Method::Post, "/x", ""));
    assert_eq!(refusal(&post(64 * 1024 + 1)), 413);
    let chunked = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(receive(chunked), complete(Method::Post, "/x", ""));
}

#[test]
fn an_invalid_request_is_refused_with_its_status() {
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
    assert_eq!(receive(&with(8000)), Received::Nothing);
    assert_eq!(refusal(&with(8192)), 431);
    assert_eq!(refusal(&format!("GET /{}", "x".repeat(8192))), 431);
}

#[test]
fn a_response_closes_the_connection_and_must_not_be_cached() {
    let answer = AdminResponse { status: 200, content_type: "text/x", body: "abc\n".to_owned() };
    assert_eq!(
        sent_for("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &answer),
        "HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nCache-Control: no-store\r\n\
         Content-Length: 4\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nConnection: close\r\n\r\nabc\n"
    );
}

#[test]
fn a_response_to_head_has_the_length_but_no_body() {
    let sent = sent_for("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", &AdminResponse::plain(200, "abc\n"));
    assert!(sent.contains("Content-Length: 4\r\n") && sent.ends_with("\r\n\r\n"), "{sent}");
}

#[test]
fn a_405_names_the_allowed_methods() {
    let allowed = |request: &str| {
        let sent = sent_for(request, &AdminResponse::plain(405, "no\n"));
        sent.lines().find_map(|line| Some(line.strip_prefix("Allow: ")?.to_owned())).unwrap()
    };
    assert_eq!(allowed("POST /metrics HTTP/1.0\r\n\r\n"), "GET, HEAD");
    assert_eq!(allowed("GET /reload HTTP/1.0\r\n\r\n"), "POST");

    let mut connection = opened();
    let Received::Refusal(refusal) = connection.receive(b"PUT / HTTP/1.0\r\n\r\n") else {
        panic!()
    };
    connection.respond(&refusal, &date(), start());
    let sent = String::from_utf8(connection.outgoing().to_vec()).unwrap();
    assert!(sent.contains("\r\nAllow: GET, HEAD, POST\r\n"), "{sent}");
}

#[test]
fn a_late_request_closes_its_connection() {
    let now = start();
    let mut connection = Connection::new(Trust::Owner, now);
    assert_eq!(connection.deadline(), Some(now + READ_TIMEOUT));
    connection.receive(b"GET / HTTP/1.1\r\n");
    connection.tick(now + READ_TIMEOUT - Duration::from_millis(1));
    assert_eq!(connection.awaits(), Awaits::Bytes);
    connection.tick(now + READ_TIMEOUT);
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn a_request_waits_for_its_response_without_a_deadline() {
    let mut connection = opened();
    connection.receive(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(connection.deadline(), None);
    connection.tick(start() + Duration::from_secs(3600));
    assert_eq!(connection.awaits(), Awaits::Response);
}

#[test]
fn a_response_that_is_not_read_is_abandoned() {
    let now = start();
    let mut connection = Connection::new(Trust::Owner, now);
    connection.receive(b"GET / HTTP/1.0\r\n\r\n");
    connection.respond(&AdminResponse::plain(200, "abc"), &date(), now);
    assert_eq!(connection.awaits(), Awaits::Room);
    assert!(!connection.sent(1, now + Duration::from_secs(9)));
    connection.tick(now + WRITE_TIMEOUT);
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn bytes_after_the_response_are_read_for_a_while_and_ignored() {
    let now = start();
    let mut connection = Connection::new(Trust::Owner, now);
    connection.receive(b"GET / HTTP/1.0\r\n\r\n");
    connection.respond(&AdminResponse::plain(200, "abc"), &date(), now);
    assert!(connection.sent(connection.outgoing().len(), now));
    assert!(connection.outgoing().is_empty());
    assert_eq!(connection.receive(b"GET /again HTTP/1.0\r\n\r\n"), Received::Nothing);
    assert_eq!(connection.awaits(), Awaits::Bytes);
    connection.tick(now + LINGER);
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn a_peer_that_keeps_sending_after_the_response_is_cut_off() {
    let mut connection = opened();
    connection.receive(b"bad\r\n\r\n");
    connection.respond(&AdminResponse::plain(400, "bad\n"), &date(), start());
    connection.sent(connection.outgoing().len(), start());
    for _ in 0..=EXCESS_BYTES / 1000 {
        connection.receive(&[b'x'; 1000]);
    }
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn a_waiting_request_takes_at_most_a_megabyte_of_further_bytes() {
    let mut connection = opened();
    connection.receive(b"POST /reload HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.deadline(), None);
    connection.tick(start() + Duration::from_secs(1_000_000));
    assert_eq!(connection.receive(&[b'x'; EXCESS_BYTES]), Received::Nothing);
    assert_eq!(connection.awaits(), Awaits::Response);
    assert_eq!(connection.receive(b"x"), Received::Nothing);
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn a_response_without_a_request_does_nothing() {
    let mut connection = opened();
    connection.respond(&AdminResponse::plain(200, "abc"), &date(), start());
    assert_eq!(connection.awaits(), Awaits::Bytes);
    connection.close();
    connection.respond(&AdminResponse::plain(200, "abc"), &date(), start());
    assert_eq!(connection.awaits(), Awaits::Nothing);
}

#[test]
fn several_fields_of_accept_are_one() {
    let fields = "Accept: a/b;q=0.5\r\nX: y\r\naccept: c/d, */*\r\n";
    let Received::Request(request) =
        receive(&format!("GET /metrics HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
    else {
        panic!("not complete");
    };
    assert_eq!(request.accept, "a/b;q=0.5,c/d, */*");
}
