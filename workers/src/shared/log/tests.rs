use std::io::{Read, Write};
use std::time::{Duration, UNIX_EPOCH};

use super::*;

const NOW: SystemTime = UNIX_EPOCH;

/// A log that writes to a pipe, and the reader of that pipe.
fn log(format: LogFormat) -> (Log, std::io::PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    (Log::new(Level::Info, format, writer.into()), reader)
}

fn written(log: Log, mut reader: std::io::PipeReader) -> String {
    drop(log);
    let mut all = String::new();
    reader.read_to_string(&mut all).unwrap();
    all
}

fn formatted(format: LogFormat, pairs: &[(&str, Value<'_>)], block: Option<&str>) -> String {
    let log = Log { format, ..Log::discard() };
    let moment = NOW + Duration::from_millis(1_763_818_797_123);
    String::from_utf8(log.format_line(moment, Level::Info, "test.event", pairs, block)).unwrap()
}

/// The part of a line after time, level and event.
fn pairs(format: LogFormat, pairs: &[(&str, Value<'_>)]) -> String {
    let line = formatted(format, pairs, None);
    let (_, pairs) = line.split_once("test.event").unwrap();
    pairs.strip_suffix('\n').unwrap().to_owned()
}

#[test]
fn a_line_is_time_level_event_and_pairs() {
    let values = [("slot", Value::Number(0)), ("path", Value::Text("/a"))];
    assert_eq!(
        formatted(LogFormat::Text, &values, None),
        "2025-11-22T13:39:57.123Z INFO test.event slot=0 path=/a\n"
    );
    assert_eq!(
        formatted(LogFormat::Json, &values, None),
        "{\"time\":\"2025-11-22T13:39:57.123Z\",\"level\":\"INFO\",\"event\":\"test.event\",\
         \"slot\":0,\"path\":\"/a\"}\n"
    );
}

#[test]
fn a_value_that_could_be_mistaken_is_quoted() {
    for (value, expected) in [
        ("plain/value", " v=plain/value"),
        ("", " v=\"\""),
        ("two words", " v=\"two words\""),
        ("a=b", " v=\"a=b\""),
        ("say \"hi\"", " v=\"say \\\"hi\\\"\""),
        ("back\\slash", " v=\"back\\\\slash\""),
        ("größe", " v=\"größe\""),
        ("line\nforged 2025 INFO", " v=\"line\\nforged 2025 INFO\""),
    ] {
        assert_eq!(pairs(LogFormat::Text, &[("v", Value::Text(value))]), expected);
    }
}

#[test]
fn each_kind_of_value_is_written() {
    let address = std::net::Ipv4Addr::LOCALHOST;
    let values = [
        ("number", Value::Number(-5)),
        ("text", Value::Text("a b")),
        ("bytes", Value::Bytes(b"a\xff")),
        ("display", Value::Display(&address)),
    ];
    assert_eq!(
        pairs(LogFormat::Text, &values),
        " number=-5 text=\"a b\" bytes=\"a\\xff\" display=127.0.0.1"
    );
    assert_eq!(
        pairs(LogFormat::Json, &values),
        "\",\"number\":-5,\"text\":\"a b\",\"bytes\":\"a\u{fffd}\",\"display\":\"127.0.0.1\"}"
    );
}

#[test]
fn a_long_value_is_cut_with_a_mark() {
    let long = "x".repeat(8190);
    let kept = "x".repeat(VALUE_BYTES);
    let line = pairs(LogFormat::Text, &[("path", Value::Text(&long))]);
    assert_eq!(line, format!(" path=\"{kept}[cut]\""));
    let line = pairs(LogFormat::Json, &[("path", Value::Text(&long))]);
    assert_eq!(line, format!("\",\"path\":\"{kept}[cut]\"}}"));
}

#[test]
fn a_display_that_fails_is_no_panic() {
    struct Fails;
    impl fmt::Display for Fails {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("so far")?;
            Err(fmt::Error)
        }
    }
    assert_eq!(pairs(LogFormat::Text, &[("v", Value::Display(&Fails))]), " v=\"so far\"");
}

#[test]
fn a_block_is_indented_in_text_and_a_string_in_json() {
    let text = "Traceback:\n\tFile \"x.py\"\nError: \x1b[31m\n";
    let block = formatted(LogFormat::Text, &[], Some(text));
    let (_, lines) = block.split_once('\n').unwrap();
    assert_eq!(lines, "    Traceback:\n    \tFile \"x.py\"\n    Error: \\x1b[31m\n");
    let block = formatted(LogFormat::Json, &[], Some(text));
    let (_, json) = block.split_once("\"text\":").unwrap();
    assert_eq!(json, "\"Traceback:\\n\\tFile \\\"x.py\\\"\\nError: \\u001b[31m\\n\"}\n");
}

#[test]
fn a_long_block_keeps_its_start_and_its_end() {
    let text = format!("START{}ERROR", "ä".repeat(20_000));
    for format in [LogFormat::Text, LogFormat::Json] {
        let block = formatted(format, &[], Some(&text));
        let start = block.find("START").unwrap();
        let mark = block.find(CUT_MARK).unwrap();
        let end = block.find("ERROR").unwrap();
        assert!(start < mark && mark < end);
        assert!(block.len() < BLOCK_HEAD_BYTES + BLOCK_TAIL_BYTES + 200);
    }
}

#[test]
fn output_without_a_level_is_written_at_every_level() {
    let (mut log, reader) = log(LogFormat::Text);
    log.level = Level::Critical;
    log.line(Level::Error, "hidden", &[]);
    log.line(Level::Notice, "shown", &[]);
    assert!(written(log, reader).ends_with("Z NOTICE shown\n"));
}

#[test]
fn lines_below_the_level_are_not_written() {
    let (log, reader) = log(LogFormat::Text);
    assert!(!log.is_enabled(Level::Debug));
    log.line(Level::Debug, "hidden", &[]);
    log.block(Level::Debug, "hidden", &[], "text");
    log.line(Level::Info, "shown", &[]);
    log.line(Level::Critical, "shown", &[]);
    let all = written(log, reader);
    assert_eq!(all.matches("shown").count(), 2);
    assert!(!all.contains("hidden"));
}

#[test]
fn a_worker_is_named_on_its_own_lines_only() {
    let (log, reader) = log(LogFormat::Text);
    let worker = log.with_identity(SlotId(3), 71, Generation(2));
    worker.line(Level::Info, "worker.ready", &[("ms", Value::Number(9))]);
    log.line(Level::Info, "supervisor.ready", &[]);
    drop(worker);
    let all = written(log, reader);
    assert!(all.contains(" worker.ready slot=3 pid=71 generation=2 ms=9\n"), "{all}");
    assert!(all.contains(" supervisor.ready\n"), "{all}");
}

#[test]
fn dropped_lines_are_counted_by_all_clones_together() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let log = Log::new(Level::Info, LogFormat::Text, full.into());
    log.line(Level::Info, "lost", &[]);
    log.clone().block(Level::Info, "lost", &[], "text");
    assert_eq!(log.dropped(), 2);
}

#[test]
fn a_worker_counts_dropped_lines_in_its_counters() {
    let entry = crate::shared::scoreboard::WorkerEntry::detached();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let log = Log::new(Level::Info, LogFormat::Text, writer.into()).with_counters(&entry.counters);
    log.line(Level::Info, "lost", &[]);
    assert_eq!(entry.counters.get(Counter::LogDropped), 1);
    assert_eq!(log.dropped(), 1);
}

#[test]
fn a_blocked_reader_loses_lines_and_blocks_nothing() {
    let (log, mut reader) = log(LogFormat::Text);
    let mut lines = 0;
    while log.dropped() == 0 {
        log.block(Level::Info, "fill", &[], "some text\n");
        lines += 1;
    }
    log.line(Level::Info, "lost", &[]);
    assert_eq!(log.dropped(), 2);
    reader.read_exact(&mut vec![0; 60_000]).unwrap();
    log.line(Level::Info, "arrives", &[]);
    let all = written(log, reader);
    assert!(lines > 100);
    assert!(all.lines().any(|line| line.ends_with(" arrives")), "{all}");
}

#[test]
fn a_discarding_log_writes_and_counts_nothing() {
    let log = Log::discard();
    log.line(Level::Critical, "nowhere", &[]);
    assert!(!log.is_enabled(Level::Critical));
    assert_eq!(log.dropped(), 0);
    assert!(log.as_fd().is_none());
}

#[test]
fn a_log_names_the_descriptor_that_it_writes_to() {
    let (log, reader) = log(LogFormat::Text);
    let copy = log.as_fd().unwrap().try_clone_to_owned().unwrap();
    std::fs::File::from(copy).write_all(b"seen\n").unwrap();
    assert_eq!(written(log, reader), "seen\n");
}

#[test]
fn a_requested_block_is_written_at_any_level() {
    let (log, reader) = log(LogFormat::Text);
    let log = Log { level: Level::Critical, ..log };
    log.line(Level::Error, "test.other", &[]);
    log.block_at_any_level("test.event", &[("pid", Value::Number(7))], "first\nsecond");
    let text = written(log, reader);
    assert!(text.ends_with(" INFO test.event pid=7\n    first\n    second\n"), "{text}");
    assert!(!text.contains("test.other"), "{text}");
}

#[test]
fn the_next_written_line_says_how_many_were_lost() {
    let (log, mut reader) = log(LogFormat::Text);
    while log.dropped() < 3 {
        log.line(Level::Info, "test.event", &[]);
    }
    let mut taken = vec![0; 1 << 16];
    let count = reader.read(&mut taken).unwrap();
    assert!(count > 1000);
    log.line(Level::Info, "test.first", &[]);
    log.line(Level::Info, "test.second", &[]);
    let text = written(log, reader);
    let last: Vec<_> =
        text.lines().rev().take(3).map(|line| line.split_once(' ').unwrap().1).collect();
    let expected = ["INFO test.second", "INFO test.first", "WARNING log.lines_lost lines=3"];
    assert_eq!(last, expected, "{text}");
}
