use std::time::{Duration, UNIX_EPOCH};

use super::*;

const OWN: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nServer: arctos\r\n";

fn date() -> HttpDate {
    HttpDate::at(UNIX_EPOCH + Duration::from_secs(784_111_777))
}

fn head(status: &str, fields: &[(&str, &str)]) -> ResponseHead {
    let mut head = ResponseHead::default();
    head.start(status.as_bytes()).unwrap();
    for (name, value) in fields {
        head.add(name.as_bytes(), value.as_bytes()).unwrap();
    }
    head
}

/// The properties of a request that shape its response.
#[derive(Clone, Copy)]
struct RequestKind {
    is_head: bool,
    version: Version,
    length: Option<u64>,
    persistence: Persistence,
}

const GET: RequestKind = RequestKind {
    is_head: false,
    version: Version::Http11,
    length: None,
    persistence: Persistence::KeepAlive,
};

fn send(head: &ResponseHead, kind: RequestKind) -> (String, ReplyFraming, Persistence) {
    let mut out = Vec::new();
    let RequestKind { is_head, version, length, persistence } = kind;
    let (framing, persistence) =
        head.send(&mut out, is_head, version, length, persistence, &date(), true);
    (String::from_utf8(out).unwrap(), framing, persistence)
}

fn error_of_status(status: &[u8]) -> ResponseError {
    let mut head = ResponseHead::default();
    let error = head.start(status).unwrap_err();
    assert_eq!(head.status(), Status(0));
    error
}

#[track_caller]
fn refuses(name: &str, value: &str, error: ResponseError) {
    let mut head = head("200 OK", &[]);
    assert_eq!(head.add(name.as_bytes(), value.as_bytes()), Err(error), "{name:?}: {value:?}");
    assert_eq!(
        send(&head, GET).0,
        send(&self::head("200 OK", &[]), GET).0,
        "no part of it is sent"
    );
}

#[test]
fn the_applications_order_and_spelling_are_kept() {
    let fields = [("x-B", "2"), ("X-a", " 1\t2 "), ("Content-Length", "3"), ("x-B", "")];
    let head = head("299 Ça va", &fields);
    let (sent, framing, persistence) = send(&head, GET);
    let own = "HTTP/1.1 299 Ça va\r\nx-B: 2\r\nX-a:  1\t2 \r\nContent-Length: 3\r\nx-B: \r\n";
    assert_eq!(sent, format!("{own}{OWN}\r\n"));
    assert_eq!((framing, persistence), (ReplyFraming::Length(3), Persistence::KeepAlive));
    assert_eq!((head.status(), head.content_length()), (Status(299), Some(3)));
}

#[test]
fn the_applications_date_and_server_replace_ours() {
    let head = head("200 OK", &[("date", "today"), ("SERVER", "mine")]);
    let sent = send(&head, GET).0;
    assert_eq!(
        sent,
        "HTTP/1.1 200 OK\r\ndate: today\r\nSERVER: mine\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
}

#[test]
fn server_is_omitted_if_the_configuration_says_so() {
    let mut out = Vec::new();
    let head = head("200 OK", &[]);
    head.send(&mut out, false, Version::Http11, Some(0), Persistence::KeepAlive, &date(), false);
    assert!(!String::from_utf8(out).unwrap().contains("Server"));
}

#[test]
fn a_status_is_three_digits_a_space_and_a_reason() {
    assert_eq!(head("200 ", &[]).status(), Status(200));
    assert_eq!(head("404  Not  Found ", &[]).status(), Status(404));
    for bad in [
        "", "20", "200", "2000 OK", "20 OK", " 200 OK", "200\tOK", "2O0 OK", "+20 OK", "abc d",
        "200OK",
    ] {
        assert_eq!(error_of_status(bad.as_bytes()), ResponseError::StatusForm, "{bad:?}");
    }
}

#[test]
fn a_status_is_from_200_to_599() {
    assert_eq!(head("599 x", &[]).status(), Status(599));
    for bad in ["000 x", "100 Continue", "101 x", "103 x", "199 x", "600 x", "999 x"] {
        assert_eq!(error_of_status(bad.as_bytes()), ResponseError::StatusRange, "{bad:?}");
    }
}

#[test]
fn a_reason_has_no_control_characters() {
    for control in (0..0x20).chain([0x7f]) {
        let status = [b"200 O", &[control][..], b"K"].concat();
        assert_eq!(error_of_status(&status), ResponseError::StatusControl);
    }
}

#[test]
fn a_name_is_a_token() {
    for bad in ["", " ", "a b", "a:", "a\r\nb", "a\0", "é", "a(b", "a\u{7f}"] {
        refuses(bad, "v", ResponseError::Name);
    }
}

#[test]
fn a_value_has_no_control_characters_except_tab() {
    for control in (0..0x20u8).chain([0x7f]).filter(|&byte| byte != b'\t') {
        refuses("A", &format!("b{}c", char::from(control)), ResponseError::Value);
    }
    refuses("A", "b\r\nSet-Cookie: c", ResponseError::Value);
    assert!(head("200 OK", &[("A", "b\tc")]).encoded.ends_with(b"A: b\tc\r\n"));
}

#[test]
fn a_value_in_latin_1_is_sent_as_it_is() {
    let mut head = head("200 OK", &[]);
    head.add(b"A", b"\x80\xff").unwrap();
    assert!(head.encoded.ends_with(b"A: \x80\xff\r\n"));
}

#[test]
fn a_content_length_is_digits_and_comes_once() {
    for bad in ["", " 5", "5 ", "+5", "-1", "5, 5", "0x5", "5.0", "18446744073709551616"] {
        refuses("content-length", bad, ResponseError::ContentLength);
    }
    let mut head = head("200 OK", &[("Content-Length", "5")]);
    for again in [b"5", b"6", b"x"] {
        let error = head.add(b"CONTENT-LENGTH", again);
        assert_eq!(error, Err(ResponseError::ContentLengthRepeated));
    }
}

#[test]
fn hop_by_hop_fields_are_refused() {
    for name in [
        "Connection",
        "Keep-Alive",
        "Proxy-Authenticate",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Trailer",
        "Trailers",
        "transfer-encoding",
        "UPGRADE",
    ] {
        refuses(name, "x", ResponseError::HopByHop);
    }
    refuses("Transfer-Encoding", "chunked", ResponseError::HopByHop);
    for value in ["keep-alive", "close, x", "close,", "", "upgrade"] {
        refuses("connection", value, ResponseError::HopByHop);
    }
}

#[test]
fn connection_close_of_the_application_is_honored_and_sent_once() {
    for persistence in [Persistence::KeepAlive, Persistence::Close] {
        let head = head("200 OK", &[("connection", "Close"), ("Connection", "close")]);
        let (sent, _, persistence) =
            send(&head, RequestKind { persistence, length: Some(0), ..GET });
        assert_eq!(persistence, Persistence::Close);
        let own = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n";
        assert_eq!(sent, format!("{own}{OWN}Connection: close\r\n\r\n"));
    }
}

#[test]
fn a_known_length_is_sent() {
    for length in [0, 7, u64::MAX] {
        let (sent, framing, _) =
            send(&head("200 OK", &[]), RequestKind { length: Some(length), ..GET });
        assert_eq!(framing, ReplyFraming::Length(length));
        assert_eq!(sent, format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{OWN}\r\n"));
    }
}

#[test]
fn the_applications_content_length_takes_precedence() {
    let head = head("200 OK", &[("Content-Length", "5")]);
    let (sent, framing, _) = send(&head, RequestKind { length: Some(7), ..GET });
    assert_eq!(framing, ReplyFraming::Length(5));
    assert_eq!(sent.matches("Content-Length").count(), 1);
}

#[test]
fn a_body_of_unknown_length_is_chunked_for_1_1() {
    let (sent, framing, persistence) = send(&head("200 OK", &[]), GET);
    assert_eq!((framing, persistence), (ReplyFraming::Chunked, Persistence::KeepAlive));
    assert_eq!(sent, format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{OWN}\r\n"));
}

#[test]
fn a_body_of_unknown_length_ends_with_the_connection_for_1_0() {
    let kind = RequestKind { version: Version::Http10, ..GET };
    let (sent, framing, persistence) = send(&head("200 OK", &[]), kind);
    assert_eq!((framing, persistence), (ReplyFraming::UntilClose, Persistence::Close));
    assert_eq!(sent, format!("HTTP/1.1 200 OK\r\n{OWN}Connection: close\r\n\r\n"));
}

#[test]
fn a_response_that_keeps_a_1_0_connection_says_so() {
    let kind = RequestKind { version: Version::Http10, length: Some(1), ..GET };
    let (sent, framing, persistence) = send(&head("200 OK", &[]), kind);
    assert_eq!((framing, persistence), (ReplyFraming::Length(1), Persistence::KeepAlive));
    assert!(sent.ends_with("Connection: keep-alive\r\n\r\n"));
}

#[test]
fn a_response_that_closes_the_connection_says_so() {
    let kind = RequestKind { persistence: Persistence::Close, ..GET };
    let (sent, framing, persistence) = send(&head("200 OK", &[]), kind);
    assert_eq!((framing, persistence), (ReplyFraming::Chunked, Persistence::Close));
    assert!(sent.ends_with("Connection: close\r\n\r\n"));
}

#[test]
fn a_response_to_head_keeps_its_length_and_has_no_body() {
    let with_length = head("200 OK", &[("Content-Length", "5")]);
    for length in [None, Some(0), Some(5)] {
        let (sent, framing, _) = send(&with_length, RequestKind { is_head: true, length, ..GET });
        assert_eq!(framing, ReplyFraming::NoBody);
        assert_eq!(sent, format!("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n{OWN}\r\n"));
    }
}

#[test]
fn a_response_to_head_has_no_framing_of_the_servers() {
    for version in [Version::Http10, Version::Http11] {
        for (length, line) in [(None, ""), (Some(0), ""), (Some(5), "Content-Length: 5\r\n")] {
            let kind = RequestKind { is_head: true, length, version, ..GET };
            let (sent, framing, persistence) = send(&head("200 OK", &[]), kind);
            assert_eq!((framing, persistence), (ReplyFraming::NoBody, Persistence::KeepAlive));
            assert!(sent.starts_with(&format!("HTTP/1.1 200 OK\r\n{line}{OWN}")), "{sent}");
        }
    }
}

#[test]
fn a_204_has_neither_body_nor_length() {
    let head = head("204 No Content", &[("A", "1"), ("Content-Length", "0"), ("B", "2")]);
    for (is_head, length) in [(false, None), (false, Some(5)), (true, Some(5))] {
        let (sent, framing, _) = send(&head, RequestKind { is_head, length, ..GET });
        assert_eq!(framing, ReplyFraming::NoBody);
        assert_eq!(sent, format!("HTTP/1.1 204 No Content\r\nA: 1\r\nB: 2\r\n{OWN}\r\n"));
    }
}

#[test]
fn a_205_has_no_body_and_a_length_that_says_so() {
    for fields in [&[][..], &[("Content-Length", "5")], &[("Content-Length", "0")]] {
        let head = head("205 Reset Content", fields);
        for (is_head, length) in [(false, None), (false, Some(5)), (true, None), (true, Some(5))] {
            for version in [Version::Http10, Version::Http11] {
                let kind = RequestKind { is_head, length, version, ..GET };
                let (sent, framing, persistence) = send(&head, kind);
                assert_eq!(framing, ReplyFraming::NoBody);
                assert_eq!(persistence, Persistence::KeepAlive);
                let start = "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\nDate: ";
                assert!(sent.starts_with(start), "{sent}");
            }
        }
    }
}

#[test]
fn a_304_has_no_body_and_only_the_length_of_the_application() {
    let (sent, framing, _) = send(&head("304 x", &[]), RequestKind { length: Some(5), ..GET });
    assert_eq!((sent, framing), (format!("HTTP/1.1 304 x\r\n{OWN}\r\n"), ReplyFraming::NoBody));
    let (sent, framing, _) = send(&head("304 x", &[("Content-Length", "9")]), GET);
    assert_eq!(framing, ReplyFraming::NoBody);
    assert_eq!(sent, format!("HTTP/1.1 304 x\r\nContent-Length: 9\r\n{OWN}\r\n"));
}

#[test]
fn a_bodyless_response_keeps_a_1_0_connection() {
    let kind = RequestKind { version: Version::Http10, ..GET };
    let (_, framing, persistence) = send(&head("304 x", &[]), kind);
    assert_eq!((framing, persistence), (ReplyFraming::NoBody, Persistence::KeepAlive));
}

#[test]
fn starting_again_forgets_the_first_head() {
    let fields = [("Content-Length", "5"), ("Date", "d"), ("Server", "s"), ("Connection", "close")];
    let mut used = head("200 OK", &fields);
    used.start(b"500 Oops").unwrap();
    assert_eq!(send(&used, GET), send(&head("500 Oops", &[]), GET));
    assert_eq!(used.content_length(), None);
}

#[test]
fn a_head_is_appended_to_the_buffer() {
    let mut out = b"before".to_vec();
    head("200 OK", &[]).send(
        &mut out,
        false,
        Version::Http11,
        None,
        Persistence::KeepAlive,
        &date(),
        true,
    );
    assert!(out.starts_with(b"beforeHTTP/1.1 200 OK\r\n"));
}

#[test]
fn what_the_server_adds_fits_the_reserved_bytes() {
    let kind = RequestKind { length: Some(u64::MAX), persistence: Persistence::Close, ..GET };
    let head = head("200 OK", &[]);
    assert!(send(&head, kind).0.len() - head.encoded.len() <= OWN_BYTES);
}

#[test]
fn a_refusal_is_a_complete_response_that_closes() {
    let mut out = Vec::new();
    Refusal::closing(Status(431), false).put(&mut out, &date(), true);
    let body = "431 Request Header Fields Too Large\n";
    let expected = format!(
        "HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: text/plain\r\n\
         Content-Length: {}\r\n{OWN}Connection: close\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn a_refusal_of_head_has_no_body_and_may_omit_server() {
    let mut out = Vec::new();
    Refusal::closing(Status(400), true).put(&mut out, &date(), false);
    let sent = String::from_utf8(out).unwrap();
    assert!(sent.ends_with("Connection: close\r\n\r\n") && !sent.contains("Server"));
    assert!(sent.contains("Content-Length: 16\r\n"));
}

#[test]
fn a_503_says_when_to_retry_and_may_keep_the_connection() {
    let keeping = |version| {
        let persistence = Persistence::KeepAlive;
        Refusal { version, persistence, ..Refusal::closing(Status(503), false) }
    };
    let put = |refusal: Refusal<'_>| {
        let mut out = Vec::new();
        refusal.put(&mut out, &date(), false);
        String::from_utf8(out).unwrap()
    };
    let sent = |version| put(keeping(version));
    let body = "503 Service Unavailable\n";
    assert!(sent(Version::Http11).ends_with(&format!("Retry-After: 1\r\n\r\n{body}")));
    let kept = format!("Retry-After: 1\r\nConnection: keep-alive\r\n\r\n{body}");
    assert!(sent(Version::Http10).ends_with(&kept));
    let later = put(Refusal { retry_after_s: 3600, ..Refusal::closing(Status(503), false) });
    assert!(later.contains("\r\nRetry-After: 3600\r\n"), "{later}");
}

#[test]
fn a_chunk_starts_with_its_size_in_hexadecimal() {
    for (length, expected) in
        [(1, "1\r\n"), (10, "a\r\n"), (0x1f40, "1f40\r\n"), (usize::MAX, "ffffffffffffffff\r\n")]
    {
        let mut out = Vec::new();
        put_chunk_size(&mut out, length);
        assert_eq!(out, expected.as_bytes());
    }
}
