use super::*;
use crate::http::fields::FieldError;
use crate::http::status::Status;

fn parse(input: &str) -> Result<Option<Head>, HeadError> {
    Head::of(input.as_bytes(), &Limits::default(), HeaderMap::Drop)
}

fn head(input: &str) -> Head {
    parse(input).unwrap().unwrap()
}

fn text(span: Span, input: &str) -> &str {
    &input[span.start as usize..span.end as usize]
}

#[track_caller]
fn refuses(input: &str, error: HeadError, status: u16) {
    assert_eq!(parse(input), Err(error), "{input:?}");
    assert_eq!(error.status(), Status(status), "{input:?}");
}

/// Returns a request with these fields after its Host.
fn with_fields(version: &str, fields: &str) -> String {
    format!("GET / {version}\r\nHost: a\r\n{fields}\r\n")
}

fn fields_11(fields: &str) -> Result<Option<Head>, HeadError> {
    parse(&with_fields("HTTP/1.1", fields))
}

#[track_caller]
fn refuses_fields(fields: &str, error: HeadError, status: u16) {
    refuses(&with_fields("HTTP/1.1", fields), error, status);
}

#[test]
fn a_head_is_described_in_offsets() {
    let input = "\r\nPOST /a%20b?c=d?e HTTP/1.1\r\nHost: h:1\r\nX-A: \t b c\t\r\nx-a:\r\n\r\nbody";
    let head = head(input);
    assert_eq!(text(head.method, input), "POST");
    assert_eq!(text(head.target, input), "/a%20b?c=d?e");
    assert_eq!(text(head.path, input), "/a%20b");
    assert_eq!(text(head.query, input), "c=d?e");
    assert_eq!((head.authority, head.version), (None, Version::Http11));
    assert_eq!(head.len, input.len() - "body".len());
    let fields: Vec<_> = head
        .fields
        .iter()
        .map(|field| (text(field.name, input), text(field.value, input)))
        .collect();
    assert_eq!(fields, [("Host", "h:1"), ("X-A", "b c"), ("x-a", "")]);
    assert_eq!(head.find(input.as_bytes(), "x-A"), Some(&b"b c"[..]));
    assert_eq!(head.find(input.as_bytes(), "x-b"), None);
    assert!(!head.is_head(input.as_bytes()));
}

#[test]
fn a_head_without_its_end_is_incomplete() {
    let input = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    for end in 0..input.len() {
        assert_eq!(parse(&input[..end]), Ok(None), "{end}");
    }
}

#[test]
fn a_scan_is_reset_after_a_complete_head() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let (mut head, mut scan) = (Head::new(), HeadScan::default());
    let limits = Limits::default();
    for end in [7, input.len(), input.len()] {
        let parsed = head.parse(&input[..end], &mut scan, &limits, HeaderMap::Drop).unwrap();
        assert_eq!(parsed == Parsed::Complete, end == input.len());
    }
    assert!(scan.is_fresh());
}

#[test]
fn a_bare_lf_is_refused() {
    refuses("GET / HTTP/1.1\nHost: a\r\n\r\n", HeadError::BareLf, 400);
    refuses("GET /\nHost: a\r\n\r\n", HeadError::BareLf, 400);
    refuses("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BareLf, 400);
    for fields in ["A: b\n", "A: b\nC: d\r\n", "A\n", "A:\n", "\n"] {
        refuses_fields(fields, FieldError::BareLf.into(), 400);
    }
    refuses("GET / HTTP/1.1\r\nHost: a\r\n\n", FieldError::BareLf.into(), 400);
    refuses("GET / HTTP/1.0\r\n\n", FieldError::BareLf.into(), 400);
}

#[test]
fn a_bare_cr_is_refused() {
    refuses("GET / HTTP/1.1\rHost: a\r\n\r\n", HeadError::BareCr, 400);
    refuses("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BareCr, 400);
    refuses("G\rET / HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::BadMethod, 400);
    refuses("GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", HeadError::NoVersion, 400);
    refuses_fields("A: b\rc\r\n", FieldError::BareCr.into(), 400);
    refuses_fields("A: b\r\r\n", FieldError::BareCr.into(), 400);
    refuses_fields("A\r: b\r\n", FieldError::NoColon.into(), 400);
    refuses_fields("\rA: b\r\n", FieldError::BareCr.into(), 400);
}

#[test]
fn a_control_character_is_refused_at_any_position() {
    for control in (0..0x20u8).chain([0x7f]).filter(|byte| !b"\t\r\n".contains(byte)) {
        let control = char::from(control);
        refuses(&format!("{control}GET / HTTP/1.1\r\n"), HeadError::Control, 400);
        refuses(&format!("GE{control}T / HTTP/1.1\r\n"), HeadError::Control, 400);
        refuses(&format!("GET /{control} HTTP/1.1\r\n"), HeadError::Control, 400);
        refuses(&format!("GET / HTTP/1.1{control}\r\n"), HeadError::Control, 400);
        refuses_fields(&format!("{control}A: b\r\n"), FieldError::Control.into(), 400);
        refuses_fields(&format!("A{control}: b\r\n"), FieldError::Control.into(), 400);
        refuses_fields(&format!("A: b{control}\r\n"), FieldError::Control.into(), 400);
    }
}

#[test]
fn garbage_is_refused_with_its_first_byte() {
    let limits = Limits::default();
    for first in [b"\x16\x03\x01".as_slice(), b"\0", b"\x80", b"{", b" ", b":"] {
        assert!(Head::of(&first[..1], &limits, HeaderMap::Drop).is_err(), "{first:?}");
    }
}

#[test]
fn white_space_in_the_wrong_place_is_refused() {
    refuses_fields("A: b\r\n c\r\n", FieldError::Fold.into(), 400);
    refuses_fields("A: b\r\n\tc\r\n", FieldError::Fold.into(), 400);
    refuses_fields(" \r\n", FieldError::Fold.into(), 400);
    refuses("GET / HTTP/1.1\r\n Host: a\r\n\r\n", FieldError::LeadingSpace.into(), 400);
    refuses_fields("A : b\r\n", FieldError::SpaceBeforeColon.into(), 400);
    refuses_fields("A\t: b\r\n", FieldError::SpaceBeforeColon.into(), 400);
    refuses_fields("A B: b\r\n", FieldError::SpaceBeforeColon.into(), 400);
    refuses("GET  / HTTP/1.1\r\n", HeadError::BadTarget, 400);
    refuses("GET /  HTTP/1.1\r\n", HeadError::BadVersion, 400);
    refuses("GET / HTTP/1.1 \r\n", HeadError::BadVersion, 400);
    refuses("GET\t/ HTTP/1.1\r\n", HeadError::BadMethod, 400);
    refuses(" GET / HTTP/1.1\r\n", HeadError::BadMethod, 400);
}

#[test]
fn a_name_is_a_token() {
    refuses_fields(": b\r\n", FieldError::NoName.into(), 400);
    refuses_fields("A\r\n", FieldError::NoColon.into(), 400);
    for bad in "\"(),/;<=>?@[\\]{}é".chars() {
        refuses_fields(&format!("A{bad}: b\r\n"), FieldError::BadName.into(), 400);
        refuses_fields(&format!("{bad}A: b\r\n"), FieldError::BadName.into(), 400);
    }
    assert!(fields_11("!#$%&'*+-.^`|~09azAZ: b\r\n").is_ok());
}

#[test]
fn obs_text_in_a_value_is_kept() {
    let input = b"GET / HTTP/1.1\r\nHost: a\r\nX: \x80\xff\tb\r\n\r\n";
    let head = Head::of(input, &Limits::default(), HeaderMap::Drop).unwrap().unwrap();
    assert_eq!(head.find(input, "x"), Some(&b"\x80\xff\tb"[..]));
}

#[test]
fn two_empty_lines_are_skipped_and_a_third_is_refused() {
    let request = with_fields("HTTP/1.1", "");
    for count in 0..=2 {
        let input = "\r\n".repeat(count) + &request;
        assert_eq!(head(&input).len, input.len());
    }
    refuses("\r\n\r\n\r", HeadError::EmptyLines, 400);
}

#[test]
fn a_method_is_any_token_of_32_bytes_with_its_case() {
    for method in ["get", "PROPFIND", "M-SEARCH", "!#$%&'*+-.^_`|~9", &"A".repeat(32)] {
        let input = format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(text(head(&input).method, &input), method);
    }
    refuses(&"A".repeat(33), HeadError::MethodTooLong, 501);
    for bad in ["G/T", "G:T", "G\"T", "Gé", "(", "G,T"] {
        refuses(&format!("{bad} / HTTP/1.1\r\n"), HeadError::BadMethod, 400);
    }
}

#[test]
fn connect_is_not_implemented() {
    refuses("CONNECT a:80 HTTP/1.1\r\n", HeadError::Connect, 501);
    refuses("CONNECT / HTTP/1.1\r\n", HeadError::Connect, 501);
    refuses("connect a:80 HTTP/1.1\r\n", HeadError::BadTarget, 400);
}

#[test]
fn origin_form_is_kept_as_it_is() {
    for path in ["/", "//", "//a//b", "/../..", "/%2e%zz", "/\\", "/a:b@c", "/\"<>^`{|}"] {
        let input = format!("GET {path}?x HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = head(&input);
        assert_eq!((text(head.path, &input), text(head.query, &input)), (path, "x"));
    }
}

#[test]
fn an_absolute_form_target_yields_its_authority() {
    for (target, authority, path, query) in [
        ("http://h", "h", "/", ""),
        ("https://h:8443/", "h:8443", "/", ""),
        ("HTTP://[::1]//a?b?c", "[::1]", "//a", "b?c"),
        ("hTTpS://h?q", "h", "/", "q"),
        ("http://h/@b", "h", "/@b", ""),
    ] {
        let input = format!("GET {target} HTTP/1.1\r\nHost: other\r\n\r\n");
        let head = head(&input);
        let got = (head.authority.map(|span| text(span, &input)), text(head.path, &input));
        assert_eq!((got, text(head.query, &input)), ((Some(authority), path), query));
        assert_eq!(text(head.target, &input), target);
    }
}

#[test]
fn an_absolute_form_target_still_needs_host() {
    refuses("GET http://h/ HTTP/1.1\r\n\r\n", HeadError::NoHost, 400);
    refuses("GET http://h/ HTTP/1.1\r\nHost: a b\r\n\r\n", HeadError::BadHost, 400);
}

#[test]
fn an_authority_is_a_host_without_user_information() {
    for target in ["http://u@h/", "http://u:p@h", "https://@h?x"] {
        refuses(&format!("GET {target} HTTP/1.1\r\n"), HeadError::UserInfo, 400);
    }
    for target in
        ["http://", "http:///a", "http://?a", "http://h:x/", "http://:80/", "http://a\\b/"]
    {
        refuses(&format!("GET {target} HTTP/1.1\r\n"), HeadError::BadAuthority, 400);
    }
}

#[test]
fn an_asterisk_is_for_options_only() {
    let input = "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = head(input);
    assert_eq!((text(head.path, input), text(head.query, input)), ("*", ""));
    for line in ["GET *", "options *", "OPTIONS *?a", "OPTIONS **", "OPTIONS */"] {
        refuses(&format!("{line} HTTP/1.1\r\n"), HeadError::BadTarget, 400);
    }
}

#[test]
fn any_other_target_is_refused() {
    for target in
        ["a", "?a", "\\a", "a:80", "ftp://h/", "http:/h", "http:h", "ws://h", "#", "/#a", "/é"]
    {
        refuses(&format!("GET {target} HTTP/1.1\r\n"), HeadError::BadTarget, 400);
    }
}

#[test]
fn a_higher_1_x_is_treated_as_1_1() {
    assert_eq!(head(&with_fields("HTTP/1.2", "")).version, Version::Http11);
    assert_eq!(head(&with_fields("HTTP/1.0", "")).version, Version::Http10);
}

#[test]
fn other_versions_are_refused() {
    refuses("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HeadError::UnsupportedVersion, 505);
    refuses("GET / HTTP/3.0\r\n", HeadError::UnsupportedVersion, 505);
    refuses("GET /\r\n", HeadError::NoVersion, 400);
    for version in ["HTTP/0.9", "http/1.1", "HTTP/1", "HTTP/11", "HTTP/1.1x", "HTTP/1.10", "x", ""]
    {
        refuses(&format!("GET / {version}\r\n"), HeadError::BadVersion, 400);
    }
}

#[test]
fn host_comes_once_in_1_1_and_at_most_once_in_1_0() {
    refuses("GET / HTTP/1.1\r\n\r\n", HeadError::NoHost, 400);
    refuses_fields("Host: a\r\n", HeadError::Repeated, 400);
    assert!(parse("GET / HTTP/1.0\r\n\r\n").is_ok());
    refuses(&with_fields("HTTP/1.0", "hOST: a\r\n"), HeadError::Repeated, 400);
}

#[test]
fn host_is_a_host_with_an_optional_port() {
    for version in ["HTTP/1.0", "HTTP/1.1"] {
        for bad in ["", "a b", "a:b", "u@h", "a,b:c", "[::1", "a/b", "é"] {
            let input = format!("GET / {version}\r\nHost: {bad}\r\n\r\n");
            refuses(&input, HeadError::BadHost, 400);
        }
        assert!(parse(&format!("GET / {version}\r\nHost: [::1]:8080\r\n\r\n")).is_ok());
    }
}

#[test]
fn a_content_length_frames_the_body() {
    for (value, framing) in [
        ("0", Framing::None),
        ("000", Framing::None),
        ("5", Framing::Length(5)),
        ("0005", Framing::Length(5)),
        (" \t5\t ", Framing::Length(5)),
        ("18446744073709551615", Framing::Length(u64::MAX)),
    ] {
        let input = with_fields("HTTP/1.1", &format!("Content-Length:{value}\r\n"));
        assert_eq!(head(&input).framing, framing);
    }
}

#[test]
fn a_content_length_of_anything_but_digits_is_refused() {
    for bad in
        ["", "+5", "-5", "0x5", "5 5", "5, 5", "5,5", "5;", "5.0", "1_0", "18446744073709551616"]
    {
        refuses_fields(&format!("content-length: {bad}\r\n"), HeadError::BadContentLength, 400);
    }
}

#[test]
fn a_second_content_length_is_refused_even_if_equal() {
    refuses_fields("Content-Length: 5\r\nContent-Length: 5\r\n", HeadError::Repeated, 400);
    refuses_fields("Content-Length: 5\r\nContent-Length: 6\r\n", HeadError::Repeated, 400);
}

#[test]
fn chunked_frames_the_body() {
    let input = with_fields("HTTP/1.1", "Transfer-Encoding:\tChunked \r\n");
    assert_eq!(head(&input).framing, Framing::Chunked);
}

#[test]
fn an_ambiguous_transfer_encoding_is_refused() {
    refuses_fields(
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        HeadError::BadTransferEncoding,
        400,
    );
    refuses_fields("Transfer-Encoding: chunked, gzip\r\n", HeadError::BadTransferEncoding, 400);
    refuses_fields("Transfer-Encoding:\r\n", HeadError::BadTransferEncoding, 400);
    refuses_fields("Transfer-Encoding: gzip\r\n", HeadError::UnknownTransferCoding, 501);
    for length in ["0", "5"] {
        let length = format!("Content-Length: {length}\r\n");
        let coding = "Transfer-Encoding: chunked\r\n";
        refuses_fields(&format!("{length}{coding}"), HeadError::TwoFramings, 400);
        refuses_fields(&format!("{coding}{length}"), HeadError::TwoFramings, 400);
    }
    let input = with_fields("HTTP/1.0", "Transfer-Encoding: chunked\r\n");
    refuses(&input, HeadError::TransferEncodingIn10, 400);
}

#[test]
fn options_of_all_connection_fields_count_and_close_wins() {
    for (version, fields, keeps_alive) in [
        ("HTTP/1.1", "", true),
        ("HTTP/1.0", "", false),
        ("HTTP/1.0", "Connection: Keep-Alive\r\n", true),
        ("HTTP/1.0", "Connection: x\r\nConnection: y , keep-alive\r\n", true),
        ("HTTP/1.0", "Keep-Alive: timeout=5\r\n", false),
        ("HTTP/1.0", "Proxy-Connection: keep-alive\r\n", false),
        ("HTTP/1.1", "Connection: CLOSE\r\n", false),
        ("HTTP/1.1", "Connection: close, keep-alive\r\n", false),
        ("HTTP/1.1", "Connection: keep-alive\r\nConnection: ,, te,close\r\n", false),
        ("HTTP/1.1", "Connection: upgrade, closed\r\nUpgrade: websocket\r\n", true),
    ] {
        assert_eq!(
            head(&with_fields(version, fields)).keeps_alive,
            keeps_alive,
            "{version} {fields}"
        );
    }
}

#[test]
fn one_expectation_is_known_and_1_0_ignores_it() {
    let expects = |version, value: &str| {
        head(&with_fields(version, &format!("Expect: {value}\r\n"))).expects_continue
    };
    assert!(expects("HTTP/1.1", "100-continue"));
    assert!(expects("HTTP/1.1", "100-Continue"));
    assert!(!expects("HTTP/1.0", "100-continue"));
    assert!(!expects("HTTP/1.0", "tea"));
    for other in ["tea", "100-continue, tea", "tea, 100-continue", "100-continue;q=1", "\"\""] {
        refuses_fields(&format!("Expect: {other}\r\n"), HeadError::UnknownExpectation, 417);
    }
}

#[test]
fn expect_is_a_list_that_may_be_empty() {
    let expects = |fields: &str| head(&with_fields("HTTP/1.1", fields)).expects_continue;
    assert!(expects("Expect: 100-continue, 100-continue\r\n"));
    assert!(expects("Expect: ,\t100-CONTINUE ,,\r\n"));
    assert!(expects("Expect: 100-continue\r\nExpect: 100-continue\r\n"));
    assert!(expects("Expect:\r\nExpect: 100-continue\r\n"));
    assert!(!expects("Expect:\r\n"));
    assert!(!expects("Expect: , ,\r\n"));
    let two = "Expect: 100-continue\r\nExpect: tea\r\n";
    refuses_fields(two, HeadError::UnknownExpectation, 417);
}

#[test]
fn a_name_with_an_underscore_is_dropped_and_counted() {
    let fields = "X_Auth: a\r\nX-Auth: b\r\n_: c\r\n";
    let input = with_fields("HTTP/1.1", fields);
    let head = head(&input);
    assert_eq!((head.fields.len(), head.dropped_count), (2, 2));
    assert_eq!(head.find(input.as_bytes(), "X_Auth"), None);
}

#[test]
fn a_name_with_an_underscore_is_refused_if_configured() {
    let input = with_fields("HTTP/1.1", "X_Auth: a\r\n");
    let refused = Head::of(input.as_bytes(), &Limits::default(), HeaderMap::Refuse);
    assert_eq!(refused, Err(HeadError::Underscore));
    assert_eq!(HeadError::Underscore.status(), Status(400));
}

#[test]
fn a_name_with_an_underscore_frames_nothing() {
    for fields in [
        "Content_Length: 5\r\n",
        "Transfer_Encoding: chunked\r\n",
        "Content_Length: x\r\nTransfer_Encoding: gzip\r\nContent_Length: 7\r\n",
        "Connection_: close\r\nExpect_: tea\r\n",
    ] {
        let head = head(&with_fields("HTTP/1.1", fields));
        assert_eq!((head.framing, head.keeps_alive, head.fields.len()), (Framing::None, true, 1));
    }
    refuses("GET / HTTP/1.1\r\nHost_: a\r\n\r\n", HeadError::NoHost, 400);
}

#[test]
fn a_field_with_a_meaning_for_the_server_comes_once() {
    for name in [
        "Authorization",
        "Content-Range",
        "Content-Type",
        "If-Unmodified-Since",
        "Origin",
        "Proxy-Authorization",
    ] {
        let once = format!("{name}: 1\r\n");
        assert!(fields_11(&once).is_ok(), "{name}");
        let repeated = format!("{once}{}: 1\r\n", name.to_uppercase());
        refuses_fields(&repeated, HeadError::Repeated, 400);
    }
}

#[test]
fn other_fields_may_be_repeated_whether_they_are_lists_or_not() {
    for name in [
        "Accept",
        "Connection",
        "Content-Location",
        "Cookie",
        "Date",
        "From",
        "If-Match",
        "If-Modified-Since",
        "If-Range",
        "Max-Forwards",
        "Range",
        "Referer",
        "User-Agent",
        "Via",
        "X-Forwarded-For",
    ] {
        let repeated = format!("{name}: 1\r\n{}: 1\r\n", name.to_uppercase());
        assert_eq!(fields_11(&repeated).unwrap().unwrap().fields.len(), 3, "{name}");
    }
}

#[test]
fn a_request_line_may_be_as_long_as_its_limit() {
    let limits = Limits { request_line_bytes: 20, ..Limits::default() };
    let request = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    let parse = |input: &str| Head::of(input.as_bytes(), &limits, HeaderMap::Drop);
    assert!(parse(&request("/234567")).is_ok());
    assert!(parse(&("\r\n".to_owned() + &request("/234567"))).is_ok());
    assert_eq!(parse(&request("/2345678")), Err(HeadError::RequestLineTooLong));
    assert_eq!(HeadError::RequestLineTooLong.status(), Status(414));
    assert_eq!(parse("GET /678901234567890"), Ok(None));
    assert_eq!(parse("GET /6789012345678901"), Err(HeadError::RequestLineTooLong));
}

#[test]
fn a_field_line_may_be_as_long_as_its_limit() {
    let limits = Limits { header_field_bytes: 10, ..Limits::default() };
    let parse = |input: &str| Head::of(input.as_bytes(), &limits, HeaderMap::Drop);
    let too_long = FieldError::LineTooLong;
    for (line, fits) in [
        ("A: 4567890", true),
        ("A: 45678901", false),
        ("A: 4567  \t", true),
        ("A: 4567   \t", false),
        ("A:       89", false),
        ("ABCDEFGHI:", true),
        ("ABCDEFGHIJ:", false),
    ] {
        let outcome = parse(&with_fields("HTTP/1.1", &format!("{line}\r\n"))).map(|_| ());
        assert_eq!(outcome, if fits { Ok(()) } else { Err(too_long.into()) }, "{line:?}");
    }
    assert_eq!(too_long.status(), Status(431));
    assert_eq!(parse("GET / HTTP/1.1\r\nABCDEFGHIJK"), Err(too_long.into()));
}

#[test]
fn there_may_be_as_many_fields_as_the_limit_says() {
    for limit in [1, 3, 100, FAST_FIELDS, FAST_FIELDS + 1, 1000] {
        let limits = Limits { header_count: limit, ..Limits::default() };
        let parse = |count: usize| {
            let input = with_fields("HTTP/1.1", &"A_:\r\n".repeat(count - 1));
            Head::of(input.as_bytes(), &limits, HeaderMap::Drop)
        };
        assert_eq!(parse(limit).unwrap().unwrap().dropped_count as usize, limit - 1);
        assert_eq!(parse(limit + 1), Err(FieldError::TooMany.into()));
    }
    assert_eq!(FieldError::TooMany.status(), Status(431));
}

#[test]
fn a_head_may_be_as_long_as_its_limit() {
    let input = with_fields("HTTP/1.1", "A: b\r\n");
    let parse = |head_bytes, input: &str| {
        let limits = Limits { head_bytes, ..Limits::default() };
        Head::of(input.as_bytes(), &limits, HeaderMap::Drop)
    };
    assert!(parse(input.len(), &input).is_ok());
    let too_long = FieldError::SectionTooLong;
    assert_eq!(parse(input.len() - 1, &input), Err(too_long.into()));
    assert_eq!(parse(3, "GET"), Ok(None));
    assert_eq!(parse(3, "GET "), Err(too_long.into()));
    assert_eq!(too_long.status(), Status(431));
}

#[test]
fn the_first_offence_decides() {
    refuses("GET / HTTP/1.1\r\nA: b\0\r\nC : d\r\n\r\n", FieldError::Control.into(), 400);
    refuses_fields("Content-Length: x\r\nA: \0\r\n", HeadError::BadContentLength, 400);
    refuses("CONNECT * HTTP/2.0\r\n", HeadError::UnsupportedVersion, 505);
    refuses(
        "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        HeadError::NoHost,
        400,
    );
}

#[test]
fn bytes_after_the_head_are_not_read() {
    let input = with_fields("HTTP/1.1", "") + "\0\n\r garbage";
    assert_eq!(head(&input).len, input.len() - 11);
}

#[test]
fn a_reused_head_forgets_the_previous_request() {
    let mut head = Head::new();
    let limits = Limits::default();
    for input in [
        "POST http://h/?q HTTP/1.1\r\nHost: a\r\nA_: b\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        head.parse(input.as_bytes(), &mut HeadScan::default(), &limits, HeaderMap::Drop).unwrap();
        assert_eq!(Ok(Some(head.clone())), parse(input));
    }
}
