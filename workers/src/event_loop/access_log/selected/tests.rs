use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::connection::{ClientName, RefusalReason, Refused};
use crate::event_loop::finished_request::RequestLabels;
use crate::event_loop::record::{Phases, Record};
use crate::http::{BodyError, Head, PartialHead, ResponseHead, Status};
use crate::settings::{AccessFormat, HeaderMap, Limits};
use crate::shared::identity::{Generation, SlotId};
use crate::shared::socket_name::SocketName;

/// Writes the line of a request that was read from these bytes.
fn written(format: &str, head: &[u8], route: &[u8]) -> String {
    let format: AccessFormat = format.parse().unwrap();
    let parsed = Head::of(head, &Limits::default(), HeaderMap::Drop).unwrap().unwrap();
    let mut record = Record::of(head, &parsed);
    if let Some(wanted) = format.wanted() {
        let mut response = ResponseHead::default();
        response.start(b"200 OK").unwrap();
        for (name, value) in [("Content-Type", "text/plain"), ("ETag", "\"x\""), ("Age", "1")] {
            response.add(name.as_bytes(), value.as_bytes()).unwrap();
        }
        record.kept.keep_response(&response, wanted);
        for name in &wanted.variables {
            let value = format!("value \"of\" {name}\n");
            record.kept.keep_variable((name != "missing").then_some(value.as_bytes()));
        }
    }
    let peer = SocketName::Inet("192.0.2.7:4711".parse().unwrap());
    let phases = Phases {
        duration: Duration::from_micros(61_012_034),
        queue: Duration::from_micros(1500),
        application: Duration::from_millis(12),
        send: Duration::from_millis(61_000),
    };
    let reply = Some((Status(200), 2326));
    let mut finished =
        FinishedRequest::answered(ClientName::of(&peer), Some(&record), reply, phases);
    finished.labels = RequestLabels {
        request_id: Some(b"7f3a"),
        trace_id: Some(b"4bf92f3577b34da6a3ce929d0e0e4736"),
        route: Some(route),
    };
    finish(&format, &finished)
}

fn finish(format: &AccessFormat, finished: &FinishedRequest<'_>) -> String {
    let origin = Origin {
        slot: SlotId(3),
        generation: Generation(2),
        pid: 77,
        root_path: b"/shop".to_vec(),
    };
    let moment = Moment {
        at: UNIX_EPOCH + Duration::from_millis(971_186_136_007),
        common: b"10/Oct/2000:13:55:36 +0000",
        rfc3339: b"2000-10-10T13:55:36",
    };
    let mut out = Vec::new();
    match format {
        AccessFormat::Line(format) => line(&mut out, format, finished, &moment, &origin),
        AccessFormat::Object(format) => object(&mut out, format, finished, &moment, &origin),
        AccessFormat::Text | AccessFormat::Json => panic!("these are formats of their own"),
    }
    String::from_utf8(out).unwrap()
}

const REQUEST: &[u8] = b"POST /shop/a%20b?x=1&y=%22 HTTP/1.1\r\nHost: shop\r\n\
    Authorization: Basic dXNlcjpwYXNz\r\nReferer: http://a/?q=1\r\nUser-Agent: one\r\n\
    User-Agent: two\r\nX-Odd: a\"b\\c\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n";

/// The route of most tests.
const ROUTE: &[u8] = "/caf\u{e9}/{id}".as_bytes();

fn shown(format: &str) -> String {
    let line = written(format, REQUEST, ROUTE);
    line.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn every_atom_of_gunicorn_has_gunicorns_value() {
    for (atom, value) in [
        ("h", "192.0.2.7"),
        ("l", "-"),
        ("u", "user"),
        ("t", "[10/Oct/2000:13:55:36 +0000]"),
        ("r", "POST /shop/a%20b?x=1&y=%22 HTTP/1.1"),
        ("m", "POST"),
        ("U", "/a b"),
        ("q", "x=1&y=%22"),
        ("H", "HTTP/1.1"),
        ("s", "200"),
        ("B", "2326"),
        ("b", "2326"),
        ("f", "http://a/?q=1"),
        ("a", "one,two"),
        ("T", "61"),
        ("M", "61012"),
        ("D", "61012034"),
        ("L", "61.012034"),
        ("p", "<77>"),
        ("{user-agent}i", "two"),
        ("{X-ODD}i", r#"a\"b\\c"#),
        ("{x-empty}i", ""),
        ("{x-missing}i", "-"),
        ("{content-type}o", "text/plain"),
        ("{ETag}o", r#"\"x\""#),
        ("{date}o", "-"),
        ("{wsgi.version}e", r#"value \"of\" wsgi.version\n"#),
        ("{missing}e", "-"),
    ] {
        assert_eq!(shown(&format!("%({atom})s")), value, "{atom}");
    }
}

#[test]
fn every_field_of_arctos_is_an_atom_as_well() {
    for (field, value) in [
        ("time", "2000-10-10T13:55:36.007Z"),
        ("remote_addr", "192.0.2.7"),
        ("method", "POST"),
        ("path", "/shop/a%20b"),
        ("protocol", "HTTP/1.1"),
        ("status", "200"),
        ("body_bytes", "2326"),
        ("referer", "http://a/"),
        ("user_agent", "one,two"),
        ("duration_ms", "61012.034"),
        ("request_id", "7f3a"),
        ("reason", "-"),
        ("target", "/shop/a%20b?x=1&y=%22"),
        ("query", "x=1&y=%22"),
        ("user", "user"),
        ("route", "/café/{id}"),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("queue_ms", "1.500"),
        ("application_ms", "12.000"),
        ("send_ms", "61000.000"),
        ("worker", "3"),
        ("generation", "2"),
        ("pid", "77"),
    ] {
        assert_eq!(shown(&format!("%(arctos.{field})s")), value, "{field}");
    }
}

#[test]
fn an_object_has_numbers_and_text_but_not_what_is_missing() {
    assert_eq!(
        shown(
            "json:time,status,duration_ms,worker,reason,user_agent,{x-odd}i,{age}o,{x-missing}i,\
             route,path,remote={x-empty}i,{missing}e,v={wsgi.version}e"
        ),
        "{\"time\":\"2000-10-10T13:55:36.007Z\",\"status\":200,\"duration_ms\":61012.034,\
         \"worker\":3,\"user_agent\":\"one,two\",\"x_odd\":\"a\\\"b\\\\c\",\"age\":\"1\",\
         \"route\":\"/café/{id}\",\"path\":\"/shop/a%20b\",\"remote\":\"\",\
         \"v\":\"value \\\"of\\\" wsgi.version\\n\"}"
    );
    assert_eq!(shown("json:reason"), "{}");
    assert_eq!(shown("json:reason,status"), "{\"status\":200}");
}

#[test]
fn text_of_clients_is_latin_1_in_a_line_and_utf_8_in_json() {
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Name: caf\u{e9} \u{9b}\r\n\r\n".as_bytes();
    let line = written("%({x-name}i)s", request, ROUTE);
    assert_eq!(line, "cafÃ© Â\\u{9b}\n");
    let object = written("json:{x-name}i", request, ROUTE);
    assert_eq!(object, "{\"x_name\":\"café \\u009b\"}\n");
    let request = b"GET / HTTP/1.1\r\nHost: a\r\nX-Name: caf\xe9\r\n\r\n";
    assert_eq!(written("%({x-name}i)s", request, ROUTE), "café\n");
    assert_eq!(written("json:{x-name}i", request, ROUTE), "{\"x_name\":\"caf\u{fffd}\"}\n");
}

#[test]
fn a_decoded_path_cannot_end_the_line() {
    let request = b"GET /a%0A%0D%00%22%1b HTTP/1.1\r\nHost: a\r\n\r\n";
    let line = written("%(U)s", request, ROUTE);
    assert_eq!(line, "/a\\n\\r\\x00\\\"\\x1b\n");
}

#[test]
fn a_refused_request_has_what_was_read_of_it() {
    let format: AccessFormat =
        "%(h)s %(r)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(a)s|%(u)s|%(D)s|%(arctos.queue_ms)s|\
         %({host}i)s|%(arctos.reason)s"
            .parse()
            .unwrap();
    let peer = SocketName::Unix(String::new());
    let reason = RefusalReason::from(BodyError::BadExtension);
    let mut part = PartialHead { method: Some(b"GET"[..].into()), ..PartialHead::default() };
    let line = |part: &PartialHead| {
        let refused = Refused { reason, request: part.clone(), request_id: None };
        finish(&format, &FinishedRequest::refused(ClientName::of(&peer), &refused))
    };
    let ends = "|400|-|-|0|-|-|a chunk extension is malformed\n";
    assert_eq!(line(&part), format!("- GET|GET|-|-|-{ends}"));
    part.path = Some(b"/shop/x"[..].into());
    assert_eq!(line(&part), format!("- GET /shop/x|GET|/x|-|-{ends}"));
    part.method = None;
    assert_eq!(line(&part), format!("- -|-|-|-|-{ends}"));
}

#[test]
fn a_request_without_a_path_of_its_own_has_none() {
    let request = b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n";
    let line = written("%(r)s|%(U)s|%(q)s", request, ROUTE);
    assert_eq!(line, "OPTIONS * HTTP/1.1||\n");
}

#[test]
fn values_fill_their_places() {
    assert_eq!(shown("%(m)-6s|%(s)5s|%(D)012d|%({x-odd}i).2s|"), "POST  |  200|000061012034|a|");
}

#[test]
fn a_long_value_is_cut() {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Long: {}\r\n\r\n", "x".repeat(5000));
    for format in ["%({x-long}i)s", "json:{x-long}i"] {
        let line = written(format, head.as_bytes(), ROUTE);
        assert!(line.contains("xxx[cut]") && line.len() < 4200, "{format}");
    }
}

/// Everything of a request that a client chooses, in quotes.
const QUOTED: &str = "\"%(r)s\" \"%(U)s\" \"%(q)s\" \"%(u)s\" \"%(f)s\" \"%(a)s\" \"%({x-odd}i)s\" \
    \"%({x-odd}i).7s\" \"%(arctos.path)s\" \"%(arctos.route)s\" \"%(arctos.request_id)s\"";
const OBJECT: &str = "json:method,path,query,target,user,referer,user_agent,{x-odd}i,route";

proptest! {
    #[test]
    fn no_request_can_forge_a_line_or_a_field(
        path in "[!-~&&[^ ?#]]{0,12}",
        query in "[!-~]{0,12}",
        odd in prop::collection::vec(prop_oneof![Just(b'\t'), 0x20_u8..0x7f, 0x80..=0xff_u8], 0..24),
        user in prop::collection::vec(any::<u8>(), 0..9),
        route in prop::collection::vec(any::<u8>(), 0..12),
    ) {
        let mut head = format!("GET /{path}?{query} HTTP/1.1\r\nHost: a\r\n").into_bytes();
        for name in ["X-Odd", "User-Agent", "Referer"] {
            head.extend_from_slice(format!("{name}: ").as_bytes());
            head.extend_from_slice(&odd);
            head.extend_from_slice(b"\r\n");
        }
        let encoded = base64(&user);
        head.extend_from_slice(format!("Authorization: Basic {encoded}\r\n\r\n").as_bytes());
        prop_assume!(Head::of(&head, &Limits::default(), HeaderMap::Drop).is_ok());
        let line = written(QUOTED, &head, &route);
        prop_assert_eq!(line.matches('\n').count(), 1);
        prop_assert!(line.trim_end().chars().all(|c| !c.is_control()), "{}", line);
        prop_assert_eq!(quoted_fields(line.trim_end(), &[' ']), Some(11), "{}", line);
        let object = written(OBJECT, &head, &route);
        let object = object.strip_suffix('\n').unwrap();
        prop_assert!(object.chars().all(|c| !c.is_control()), "{}", object);
        let fields = object.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap();
        let count = quoted_fields(fields, &[':', ',']);
        prop_assert!(count.is_some_and(|count| count % 2 == 0), "{}", object);
    }
}

/// Encodes in base64, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let padded = [group[0], *group.get(1).unwrap_or(&0), *group.get(2).unwrap_or(&0)];
        let bits = u32::from_be_bytes([0, padded[0], padded[1], padded[2]]);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit) & 0x3f) as usize;
            out.push(if digit <= group.len() { DIGITS[index].into() } else { '=' });
        }
    }
    out
}

/// The number of fields in quotes of a text that consists of such fields, with a separator in between; `None` if it does
/// not.
fn quoted_fields(text: &str, separators: &[char]) -> Option<usize> {
    let (mut rest, mut count) = (text, 0);
    loop {
        rest = rest.strip_prefix('"')?;
        loop {
            let at = rest.find(['"', '\\'])?;
            let is_end = rest[at..].starts_with('"');
            rest = &rest[at + 1..];
            if is_end {
                break;
            }
            let escaped = rest.chars().next()?;
            rest = &rest[escaped.len_utf8()..];
        }
        count += 1;
        match rest.strip_prefix(separators) {
            Some(next) => rest = next,
            None => return rest.is_empty().then_some(count),
        }
    }
}
