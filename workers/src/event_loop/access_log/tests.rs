use std::io::Read;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::connection::{ClientName, RefusalReason};
use crate::event_loop::finished_request::{LoggedRequestLine, RequestLabels};
use crate::event_loop::record::Phases;
use crate::http::{BodyError, HeadError, Status, Version};
use crate::shared::socket_name::SocketName;

/// When the request of each test was complete.
fn complete() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(971_186_136)
}

fn peer() -> SocketName {
    SocketName::Inet("192.0.2.7:4711".parse().unwrap())
}

fn entry<'a>(peer: &'a SocketName, path: &'a [u8]) -> FinishedRequest<'a> {
    FinishedRequest {
        client: ClientName::of(peer),
        line: Some(LoggedRequestLine {
            method: b"GET",
            path: Some(path),
            query: Some(b"secret=1"),
            version: Some(Version::Http11),
        }),
        status: Some(Status(200)),
        body_bytes: 2326,
        referer: Some(b"http://example.org/start?token=secret#part"),
        user_agent: Some(b"curl/8.0"),
        record: None,
        phases: Phases { duration: Duration::from_micros(12_034), ..Phases::default() },
        labels: RequestLabels::default(),
        refused: None,
    }
}

fn log(format: LogFormat) -> (AccessLog, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let (settings, identity) = (Settings::default(), (SlotId(3), Generation(2)));
    (AccessLog::new(writer.into(), format, &settings, identity), reader)
}

fn written(log: AccessLog, mut reader: std::io::PipeReader) -> String {
    drop(log);
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    all
}

fn line(format: LogFormat, entry: &FinishedRequest<'_>) -> String {
    let (mut log, reader) = log(format);
    log.record(entry, complete());
    assert_eq!(log.flush(), None);
    written(log, reader)
}

#[test]
fn a_response_is_one_line_in_the_combined_format_with_its_duration() {
    assert_eq!(
        line(LogFormat::Text, &entry(&peer(), b"/apache_pb.gif")),
        "192.0.2.7 - - [10/Oct/2000:13:55:36 +0000] \"GET /apache_pb.gif HTTP/1.1\" 200 2326 \
         \"http://example.org/start\" \"curl/8.0\" 12.034\n"
    );
}

#[test]
fn a_response_is_one_json_object() {
    assert_eq!(
        line(LogFormat::Json, &entry(&peer(), b"/apache_pb.gif")),
        "{\"time\":\"2000-10-10T13:55:36.000Z\",\"remote_addr\":\"192.0.2.7\",\"method\":\"GET\",\
         \"path\":\"/apache_pb.gif\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"body_bytes\":2326,\
         \"referer\":\"http://example.org/start\",\"user_agent\":\"curl/8.0\",\
         \"duration_ms\":12.034}\n"
    );
}

#[test]
fn a_refused_request_ends_its_line_with_the_reason() {
    let peer = peer();
    let refused = Some(RefusalReason::from(BodyError::BadExtension));
    let entry = FinishedRequest { refused, status: Some(Status(400)), ..entry(&peer, b"/p") };
    let text = line(LogFormat::Text, &entry);
    assert!(text.ends_with(" \"curl/8.0\" 12.034 \"a chunk extension is malformed\"\n"), "{text}");
    let json = line(LogFormat::Json, &entry);
    assert!(
        json.ends_with(",\"duration_ms\":12.034,\"reason\":\"a chunk extension is malformed\"}\n"),
        "{json}"
    );
}

#[test]
fn a_request_line_is_written_as_far_as_it_was_read() {
    let peer = peer();
    let whole = entry(&peer, b"/p");
    for (path, text, json) in [
        (Some(&b"/p"[..]), "\"GET /p\" 200", "\"method\":\"GET\",\"path\":\"/p\",\"status\":"),
        (None, "\"GET\" 200", "\"method\":\"GET\",\"status\":"),
    ] {
        let request = Some(LoggedRequestLine { method: b"GET", path, query: None, version: None });
        let entry = FinishedRequest { line: request, ..whole };
        assert!(line(LogFormat::Text, &entry).contains(text));
        assert!(line(LogFormat::Json, &entry).contains(json));
    }
}

#[test]
fn a_json_line_has_the_requests_id() {
    let peer = peer();
    let entry = FinishedRequest {
        labels: RequestLabels { request_id: Some(b"7f3a\"-01"), ..RequestLabels::default() },
        ..entry(&peer, b"/p")
    };
    assert!(line(LogFormat::Json, &entry).ends_with(",\"request_id\":\"7f3a\\\"-01\"}\n"));
    assert!(!line(LogFormat::Text, &entry).contains("7f3a"));
}

#[test]
fn missing_values_are_a_dash_or_left_out() {
    let peer = SocketName::Unix(String::new());
    let entry = FinishedRequest {
        line: None,
        status: Some(Status(400)),
        body_bytes: 0,
        referer: None,
        user_agent: None,
        phases: Phases::default(),
        ..entry(&peer, b"")
    };
    assert_eq!(
        line(LogFormat::Text, &entry),
        "- - - [10/Oct/2000:13:55:36 +0000] \"-\" 400 0 \"-\" \"-\" 0.000\n"
    );
    assert_eq!(
        line(LogFormat::Json, &entry),
        "{\"time\":\"2000-10-10T13:55:36.000Z\",\"remote_addr\":\"\",\"status\":400,\
         \"body_bytes\":0,\"duration_ms\":0.000}\n"
    );
}

#[test]
fn the_address_is_written_without_its_port() {
    let peer = SocketName::Inet("[2001:db8::1]:80".parse().unwrap());
    assert!(line(LogFormat::Text, &entry(&peer, b"/")).starts_with("2001:db8::1 - - "));
    let peer = SocketName::Unix("@hidden name".to_owned());
    assert!(line(LogFormat::Text, &entry(&peer, b"/")).starts_with("@hidden name - - "));
}

#[test]
fn a_forged_line_stays_inside_its_quotes() {
    let peer = peer();
    let user_agent = b"x\" 200\n192.0.2.1 - - \x1b[2J\xff";
    let entry = FinishedRequest { user_agent: Some(user_agent), ..entry(&peer, b"/") };
    let line = line(LogFormat::Text, &entry);
    assert_eq!(line.lines().count(), 1);
    assert!(line.ends_with("\"x\\\" 200\\n192.0.2.1 - - \\x1b[2J\\xff\" 12.034\n"), "{line}");
}

#[test]
fn the_date_follows_the_clock() {
    let (peer, (mut log, reader)) = (peer(), log(LogFormat::Text));
    let first = entry(&peer, b"/");
    for seconds in [0, 1, 1, 0] {
        log.record(&first, complete() + Duration::from_secs(seconds));
    }
    log.flush();
    let all = written(log, reader);
    let seconds: Vec<_> = all.lines().map(|line| &line[33..35]).collect();
    assert_eq!(seconds, ["36", "37", "37", "36"]);
}

#[test]
fn the_milliseconds_are_those_of_each_line() {
    let (peer, (mut log, reader)) = (peer(), log(LogFormat::Json));
    let first = entry(&peer, b"/");
    for ms in [0, 7, 89, 1999] {
        log.record(&first, complete() + Duration::from_millis(ms));
    }
    log.flush();
    let all = written(log, reader);
    let times: Vec<_> = all.lines().map(|line| &line[26..33]).collect();
    assert_eq!(times, ["36.000Z", "36.007Z", "36.089Z", "37.999Z"]);
}

#[test]
fn lines_are_written_by_the_flush() {
    let (mut log, reader) = log(LogFormat::Text);
    log.record(&entry(&peer(), b"/"), complete());
    log.record(&entry(&peer(), b"/"), complete());
    assert_eq!(written(log, reader), "", "nothing was flushed");
}

#[test]
fn a_full_buffer_does_not_wait_for_the_flush() {
    let (mut log, mut reader) = log(LogFormat::Text);
    while log.buffer.len() < FULL_BYTES {
        log.record(&entry(&peer(), b"/"), complete());
    }
    log.record(&entry(&peer(), b"/last"), complete());
    assert!(log.buffer.len() < FULL_BYTES);
    let mut all = vec![0; FULL_BYTES];
    reader.read_exact(&mut all).unwrap();
    assert_eq!(log.flush(), None);
}

#[test]
fn lines_for_a_slow_reader_stay_until_they_are_dropped_and_counted() {
    let (mut log, mut reader) = log(LogFormat::Text);
    let mut recorded = 0;
    let lost = loop {
        log.record(&entry(&peer(), b"/"), complete());
        recorded += 1;
        if let Some(lost) = log.buffer.take_lost() {
            break lost;
        }
    };
    assert_eq!(lost, Lost { lines: 1, cause: LossCause::SlowReader });
    assert_eq!(log.flush(), None, "dropped lines are reported once");
    // A pipe may be full with a little less than its 64 KB.
    let mut all = vec![0; 60_000];
    reader.read_exact(&mut all).unwrap();
    assert_eq!(log.flush(), None);
    let mut rest = written(log, reader).into_bytes();
    all.append(&mut rest);
    let all = String::from_utf8(all).unwrap();
    assert_eq!(all.lines().count(), recorded - 1);
    assert!(all.lines().all(|line| line.ends_with(" 12.034")), "no line is torn");
}

#[test]
fn lines_for_a_reader_that_is_gone_are_counted() {
    let (mut log, reader) = log(LogFormat::Json);
    drop(reader);
    log.record(&entry(&peer(), b"/"), complete());
    log.record(&entry(&peer(), b"/"), complete());
    assert_eq!(log.flush(), Some(Lost { lines: 2, cause: LossCause::Failed(Errno::EPIPE) }));
}

proptest! {
    #[test]
    fn the_longest_line_fits_with_a_full_buffer_into_64_kb(byte in any::<u8>()) {
        let long = vec![byte; 8190];
        let peer = SocketName::Unix("\u{1b}".repeat(108));
        let entry = FinishedRequest {
            line: Some(LoggedRequestLine {
                method: &long[..32],
                path: Some(&long),
                query: Some(&long),
                version: Some(Version::Http10),
            }),
            referer: Some(&long),
            user_agent: Some(&long),
            body_bytes: u64::MAX,
            phases: Phases { duration: Duration::MAX, ..Phases::default() },
            labels: RequestLabels { request_id: Some(&long[..128]), ..RequestLabels::default() },
            refused: Some(HeadError::TransferEncodingIn10.into()),
            ..entry(&peer, b"")
        };
        for format in [LogFormat::Text, LogFormat::Json] {
            let mut log = log(format).0;
            log.record(&entry, complete());
            prop_assert!(log.buffer.len() + FULL_BYTES <= 64 * 1024);
            prop_assert_eq!(memchr::memchr_iter(b'\n', log.buffer.piece(usize::MAX)).count(), 1);
        }
    }
}

#[test]
fn a_new_file_is_written_after_the_old_one_has_its_lines() {
    let (mut log, mut old) = log(LogFormat::Text);
    log.record(&entry(&peer(), b"/before"), complete());
    let (mut new, writer) = std::io::pipe().unwrap();
    log.replace(writer.into());
    log.record(&entry(&peer(), b"/after"), complete());
    assert_eq!(log.flush(), None);
    drop(log);
    let (mut first, mut second) = (String::new(), String::new());
    old.read_to_string(&mut first).unwrap();
    new.read_to_string(&mut second).unwrap();
    assert!(first.contains("/before") && !first.contains("/after"), "{first}");
    assert!(second.contains("/after") && !second.contains("/before"), "{second}");
}

#[test]
fn the_rest_for_a_full_pipe_goes_to_the_new_file_in_whole_lines() {
    let (mut log, _old) = log(LogFormat::Text);
    // Longer than what a pipe takes completely or not at all, so one of them is torn.
    let (peer, long) = (peer(), [b'\x01'; 2000]);
    let long = FinishedRequest {
        referer: Some(&long),
        user_agent: Some(&long),
        ..entry(&peer, b"/waits")
    };
    let mut lost = 0;
    while lost == 0 {
        log.record(&long, complete());
        lost = log.buffer.take_lost().map_or(0, |lost| lost.lines);
    }
    let kept = memchr::memchr_iter(b'\n', log.buffer.piece(usize::MAX)).count();
    let (mut new, writer) = std::io::pipe().unwrap();
    log.replace(writer.into());
    let torn = Lost { lines: 1, cause: LossCause::SlowReader };
    assert_eq!(log.flush(), Some(torn), "a pipe holds no whole number of these lines");
    drop(log);
    let mut text = String::new();
    new.read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), kept - 1);
    assert!(text.lines().all(|line| line.starts_with("192.0.2.7 - - [")), "{text}");
}

#[test]
fn a_pipe_that_others_write_to_gets_whole_lines() {
    let (mut log, mut reader) = log(LogFormat::Text);
    while log.flush().is_none() && log.buffer.len() == 0 {
        log.record(&entry(&peer(), b"/"), complete());
        log.record(&entry(&peer(), b"/odd"), complete());
    }
    let mut taken = vec![0; 1 << 16];
    let count = reader.read(&mut taken).unwrap();
    assert_eq!(taken[count - 1], b'\n', "what is left is written when others have written");
    assert!(log.buffer.piece(usize::MAX).starts_with(b"192.0.2.7 - - ["));
}

#[test]
fn syslog_gets_a_message_for_each_line_and_lost_ones_are_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    daemon.set_nonblocking(true).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(&path).unwrap();
    let identity = (SlotId(0), Generation(1));
    let mut log = AccessLog::new(socket.into(), LogFormat::Text, &Settings::default(), identity);
    let (peer, mut buffer) = (peer(), [0; 1024]);
    let mut received = |daemon: &UnixDatagram| {
        let count = daemon.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..count]).into_owned())
    };
    for path in [&b"/first"[..], b"/second"] {
        log.record(&entry(&peer, path), complete());
    }
    assert_eq!(log.flush(), None);
    for path in ["/first", "/second"] {
        let message = received(&daemon).unwrap();
        let head = format!("<14>arctos[{}]: 192.0.2.7 - - [", std::process::id());
        assert!(message.starts_with(&head) && message.contains(path), "{message}");
        assert!(message.ends_with(" 12.034"), "{message:?}");
    }
    assert_eq!(received(&daemon), None);
    drop(daemon);
    std::fs::remove_file(&path).unwrap();
    log.record(&entry(&peer, b"/lost"), complete());
    log.record(&entry(&peer, b"/lost"), complete());
    let cause = LossCause::Failed(Errno::ECONNREFUSED);
    assert_eq!(log.flush(), Some(Lost { lines: 2, cause }));
}

#[test]
fn messages_for_a_daemon_that_does_not_read_wait_and_are_then_dropped() {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let identity = (SlotId(0), Generation(1));
    let mut log = AccessLog::new(ours.into(), LogFormat::Text, &Settings::default(), identity);
    let mut recorded = 0;
    let lost = loop {
        log.record(&entry(&peer(), b"/"), complete());
        recorded += 1;
        if let Some(lost) = log.flush() {
            break lost;
        }
    };
    assert_eq!(lost, Lost { lines: 1, cause: LossCause::SlowReader });
    theirs.set_nonblocking(true).unwrap();
    let mut arrived = 0;
    while log.buffer.len() > 0 || theirs.recv(&mut [0; 512]).map(|_| arrived += 1).is_ok() {
        while theirs.recv(&mut [0; 512]).is_ok() {
            arrived += 1;
        }
        assert_eq!(log.flush(), None);
    }
    assert_eq!(arrived, recorded - 1);
}
