//! A format of the access log, and a request that it writes a line for.

use std::io::Read;
use std::time::{Duration, SystemTime};

use arctos_worker::connection::ClientName;
use arctos_worker::event_loop::access_log::AccessLog;
use arctos_worker::event_loop::finished_request::{FinishedRequest, RequestLabels};
use arctos_worker::event_loop::record::{Phases, Record};
use arctos_worker::http::{Head, Status};
use arctos_worker::settings::{AccessLogSettings, HeaderMap, Limits, Settings};
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::Log;
use arctos_worker::shared::socket_name::SocketName;

/// Reads a format and the head of a request, which NUL separates, and writes the line. It is one line without control
/// characters, and a JSON object has whole strings only. A request that is refused by the parser has a format only.
pub fn access_log(bytes: &[u8]) {
    let nul = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (format, head_bytes) = (&bytes[..nul], bytes.get(nul + 1..).unwrap_or_default());
    let Ok(format) = std::str::from_utf8(format) else { return };
    let parsed = match format.parse() {
        Ok(parsed) => parsed,
        Err(error) => {
            let error = format!("{error}");
            assert!(!error.is_empty() && !error.contains('\n'), "{error}");
            return;
        }
    };
    let access_log = AccessLogSettings { format: Some(parsed), ..AccessLogSettings::default() };
    let settings = Settings { access_log, ..Settings::default() };
    let Ok(Some(head)) = Head::of(head_bytes, &Limits::default(), HeaderMap::Drop) else { return };
    let record = Record::of(head_bytes, &head);
    let peer = SocketName::Unix(String::from_utf8_lossy(record.path()).into_owned());
    let phases = Phases { duration: Duration::from_micros(head.len as u64), ..Phases::default() };
    let reply = Some((Status(200), head.len as u64));
    let labels = RequestLabels {
        request_id: Some(record.method()),
        trace_id: None,
        route: Some(record.query()),
    };
    let client = ClientName::of(&peer);
    let answered = FinishedRequest::answered(client, Some(&record), reply, phases);
    let line = written(&settings, &FinishedRequest { labels, ..answered });
    check(&line, format);
}

fn written(settings: &Settings, finished: &FinishedRequest<'_>) -> String {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let identity = (SlotId(0), Generation(1));
    let log = AccessLog::of(Some(writer.into()), &Log::discard(), settings, identity);
    let mut log = log.expect("there is a descriptor");
    log.record(finished, SystemTime::UNIX_EPOCH);
    while log.flush().is_some() {}
    drop(log);
    let mut line = Vec::new();
    reader.take(60_000).read_to_end(&mut line).expect("a pipe is read");
    String::from_utf8(line).expect("a line is UTF-8")
}

fn check(line: &str, format: &str) {
    let Some(line) = line.strip_suffix('\n') else {
        assert!(line.is_empty() || line.len() > 4096, "{line:?}"); // It is longer than the pipe takes.
        return;
    };
    let is_given = |c: &char| *c == '\t' && format.contains('\t');
    assert!(line.chars().all(|c| !c.is_control() || is_given(&c)), "{line:?}");
    if format == "json" || format.starts_with("json:") {
        check_object(line);
    }
}

/// Checks that an object consists of names and values, with whole strings.
fn check_object(line: &str) {
    let mut rest = line.strip_prefix('{').expect("an object");
    while let Some(after) = rest.strip_prefix('"') {
        rest = string_end(after).strip_prefix(':').expect("a value follows a name");
        rest = match rest.strip_prefix('"') {
            Some(text) => string_end(text),
            None => rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.'),
        };
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    assert_eq!(rest, "}", "{line}");
}

/// What follows the quote that ends a string.
fn string_end(mut text: &str) -> &str {
    loop {
        let at = text.find(['"', '\\']).expect("a string ends");
        let is_escape = text[at..].starts_with('\\');
        text = &text[at + 1..];
        if !is_escape {
            return text;
        }
        text = &text[text.chars().next().expect("an escaped character").len_utf8()..];
    }
}
