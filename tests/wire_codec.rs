//! Feeds every file of `tests/wire` to the pure codec: whole, byte by byte, and cut in two at every place.
//!
//! `wire_worker.rs` sends the same files to a running worker. The last tests try every byte at every place
//! of a request where the grammar restricts it.

use arctos_worker::settings::{HeaderMap, Settings};

use crate::support::codec::{Codec, Outcome};
use crate::support::corpus::{Case, End, Peer, load};

fn feed<'a>(peer: Peer, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut codec = Codec::new(peer.settings());
    for piece in pieces {
        codec.feed(piece);
    }
    codec.finish()
}

/// Compares every case, and panics with all differences at once so that one run shows all failures.
fn check(compare: impl Fn(&Case) -> Result<(), String>) {
    let differences: Vec<String> = load()
        .iter()
        .filter_map(|case| {
            compare(case).err().map(|difference| format!("{}: {difference}", case.name))
        })
        .collect();
    assert!(differences.is_empty(), "{} cases:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn the_corpus_is_complete() {
    let cases = load();
    assert!(cases.len() >= 150, "{} cases", cases.len());
    let refused = cases.iter().filter(|case| matches!(case.end, End::Refused(_))).count();
    assert!(refused >= 75, "{refused} rejected requests");
}

#[test]
fn no_two_files_of_the_corpus_are_equal() {
    let mut cases = load();
    cases.sort_by(|a, b| a.bytes.cmp(&b.bytes));
    for pair in cases.windows(2) {
        assert_ne!(pair[0].bytes, pair[1].bytes, "{} and {}", pair[0].name, pair[1].name);
    }
}

#[test]
fn each_file_fed_whole_has_the_expected_outcome() {
    check(|case| feed(case.peer, [&case.bytes[..]]).compare(case));
}

#[test]
fn each_file_fed_byte_by_byte_has_the_expected_outcome() {
    check(|case| feed(case.peer, case.bytes.chunks(1)).compare(case));
}

#[test]
fn each_file_cut_in_two_at_any_place_ends_as_in_one_piece() {
    check(|case| {
        let whole = feed(case.peer, [&case.bytes[..]]);
        for at in 1..case.bytes.len() {
            let (first, second) = case.bytes.split_at(at);
            let cut = feed(case.peer, [first, second]);
            if cut != whole {
                return Err(format!("cut at {at}: {:?}, whole: {:?}", cut.end, whole.end));
            }
        }
        Ok(())
    });
}

#[test]
fn a_request_is_complete_exactly_at_its_last_byte() {
    check(|case| {
        let mut codec = Codec::new(case.peer.settings());
        for byte in case.bytes.chunks(1) {
            let count = codec.requests().len();
            codec.feed(byte);
            if let [request] = &codec.requests()[count..]
                && request.ends != codec.fed()
            {
                return Err(format!("ends at {}, complete at {}", request.ends, codec.fed()));
            }
        }
        Ok(())
    });
}

/// An element of a request, and the bytes that its grammar allows (RFC 9110 section 5, RFC 9112 sections 3
/// and 7.1.1).
struct Element {
    name: &'static str,
    before: &'static [u8],
    /// A run of allowed bytes, of which the test replaces one at a time. The longer runs are long enough for
    /// a parser that looks at 16 or 32 bytes at once to be inside of one.
    run: &'static [u8],
    after: &'static [u8],
    is_allowed: fn(u8) -> bool,
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A colon ends the name and starts the value.
fn is_name_or_colon(byte: u8) -> bool {
    is_tchar(byte) || byte == b':'
}

fn is_target(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && byte != b'#'
}

fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// A semicolon within a name starts another name, and an equals sign starts a value.
fn is_extension_name(byte: u8) -> bool {
    is_tchar(byte) || matches!(byte, b';' | b'=')
}

fn is_extension_value(byte: u8) -> bool {
    is_tchar(byte) || byte == b';'
}

/// A backslash escapes the byte after it, and the test has only bytes there that may be escaped.
fn is_quoted(byte: u8) -> bool {
    is_value(byte) && byte != b'"'
}

const ELEMENTS: [Element; 10] = [
    Element {
        name: "method",
        before: b"",
        run: &[b'M'; 20],
        after: b" / HTTP/1.1\r\nHost: a\r\n\r\n",
        is_allowed: is_tchar,
    },
    Element {
        name: "target",
        before: b"GET /",
        run: &[b't'; 70],
        after: b" HTTP/1.1\r\nHost: a\r\n\r\n",
        is_allowed: is_target,
    },
    Element {
        name: "field name",
        before: b"GET / HTTP/1.1\r\nHost: a\r\nX",
        run: &[b'n'; 70],
        after: b": v\r\n\r\n",
        is_allowed: is_name_or_colon,
    },
    Element {
        name: "field value",
        before: b"GET / HTTP/1.1\r\nHost: a\r\nX: v",
        run: &[b'v'; 70],
        after: b"v\r\n\r\n",
        is_allowed: is_value,
    },
    Element {
        name: "trailer name",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX",
        run: &[b'n'; 70],
        after: b": v\r\n\r\n",
        is_allowed: is_name_or_colon,
    },
    Element {
        name: "trailer value",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: v",
        run: &[b'v'; 70],
        after: b"v\r\n\r\n",
        is_allowed: is_value,
    },
    Element {
        name: "chunk extension name",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;n",
        run: &[b'n'; 3],
        after: b"n\r\n\r\n",
        is_allowed: is_extension_name,
    },
    Element {
        name: "chunk extension value",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;n=v",
        run: &[b'v'; 3],
        after: b"v\r\n\r\n",
        is_allowed: is_extension_value,
    },
    Element {
        name: "quoted chunk extension value",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;n=\"",
        run: &[b'v'; 3],
        after: b"v\"\r\n\r\n",
        is_allowed: is_quoted,
    },
    Element {
        name: "quoted pair of a chunk extension value",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;n=\"v\\",
        run: b"v",
        after: b"v\"\r\n\r\n",
        is_allowed: is_value,
    },
];

#[test]
fn each_byte_is_accepted_or_rejected_by_the_grammar_at_every_place() {
    for element in ELEMENTS {
        for at in 0..element.run.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = [element.before, element.run, element.after].concat();
                let place = element.before.len() + at;
                bytes[place] = byte;
                let expected =
                    if (element.is_allowed)(byte) { End::Rest(0) } else { End::Refused(400) };
                let (first, second) = bytes.split_at(place);
                let ends =
                    (feed(Peer::Client, [&bytes[..]]).end, feed(Peer::Client, [first, second]).end);
                assert_eq!(ends, (expected, expected), "{byte:#04x} at {at} of a {}", element.name);
            }
        }
    }
}

#[test]
fn a_field_name_with_an_underscore_is_rejected_if_configured() {
    let mut count = 0;
    for case in load() {
        let Some(before) = case.requests.iter().position(|request| request.dropped_count > 0)
        else {
            continue;
        };
        let mut codec =
            Codec::new(Settings { header_map: HeaderMap::Refuse, ..case.peer.settings() });
        codec.feed(&case.bytes);
        let outcome = codec.finish();
        assert_eq!(outcome.end, End::Refused(400), "{}", case.name);
        assert_eq!(outcome.requests.len(), before, "{}", case.name);
        count += 1;
    }
    assert!(count >= 4, "{count} cases");
}
