//! Every request of `tests/wire`, fed to the pure codec whole, byte by byte, and cut in two at every
//! place. `wire_worker.rs` sends the same to a running worker.

use arctos_worker::settings::HeaderMap;

use crate::support::codec::{Codec, Outcome};
use crate::support::corpus::{Case, End, load};

fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut codec = Codec::new(HeaderMap::Drop);
    for piece in pieces {
        codec.feed(piece);
    }
    codec.finish()
}

/// Panics with all differences at once: one run shows the whole picture.
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
    assert!(refused >= 75, "{refused} refusals");
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
    check(|case| feed([&case.bytes[..]]).compare(case));
}

#[test]
fn each_file_fed_byte_by_byte_has_the_expected_outcome() {
    check(|case| feed(case.bytes.chunks(1)).compare(case));
}

#[test]
fn each_file_cut_in_two_at_any_place_ends_as_in_one_piece() {
    check(|case| {
        let whole = feed([&case.bytes[..]]);
        for at in 1..case.bytes.len() {
            let (first, second) = case.bytes.split_at(at);
            let cut = feed([first, second]);
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
        let mut codec = Codec::new(HeaderMap::Drop);
        for byte in case.bytes.chunks(1) {
            let count = codec.requests().len();
            codec.feed(byte);
            if let [request] = &codec.requests()[count..]
                && request.ends != codec.fed()
            {
                return Err(format!("ends at {}, whole at {}", request.ends, codec.fed()));
            }
        }
        Ok(())
    });
}

/// Where a byte may stand in a request, and which bytes may (RFC 9110 section 5, RFC 9112
/// sections 3 and 7.1.1).
struct Stand {
    name: &'static str,
    before: &'static [u8],
    /// A run of bytes that are fine here. One after the other gives way to the byte in question.
    run: &'static [u8],
    behind: &'static [u8],
    may: fn(u8) -> bool,
}

fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A colon ends a name, and what follows is a value.
fn is_name_or_colon(byte: u8) -> bool {
    is_tchar(byte) || byte == b':'
}

fn is_target(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~') && byte != b'#'
}

fn is_value(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

/// A semicolon or an equals sign within a name opens a further name or a value.
fn is_extension_name(byte: u8) -> bool {
    is_tchar(byte) || matches!(byte, b';' | b'=')
}

fn is_extension_value(byte: u8) -> bool {
    is_tchar(byte) || byte == b';'
}

/// A backslash escapes what follows, which may be escaped here.
fn is_quoted(byte: u8) -> bool {
    is_value(byte) && byte != b'"'
}

const STANDS: [Stand; 10] = [
    Stand {
        name: "method",
        before: b"",
        run: &[b'M'; 20],
        behind: b" / HTTP/1.1\r\nHost: a\r\n\r\n",
        may: is_tchar,
    },
    Stand {
        name: "target",
        before: b"GET /",
        run: &[b't'; 70],
        behind: b" HTTP/1.1\r\nHost: a\r\n\r\n",
        may: is_target,
    },
    Stand {
        name: "field name",
        before: b"GET / HTTP/1.1\r\nHost: a\r\nX",
        run: &[b'n'; 70],
        behind: b": v\r\n\r\n",
        may: is_name_or_colon,
    },
    Stand {
        name: "field value",
        before: b"GET / HTTP/1.1\r\nHost: a\r\nX: v",
        run: &[b'v'; 70],
        behind: b"v\r\n\r\n",
        may: is_value,
    },
    Stand {
        name: "trailer name",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX",
        run: &[b'n'; 70],
        behind: b": v\r\n\r\n",
        may: is_name_or_colon,
    },
    Stand {
        name: "trailer value",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: v",
        run: &[b'v'; 70],
        behind: b"v\r\n\r\n",
        may: is_value,
    },
    Stand {
        name: "chunk extension name",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;n",
        run: &[b'n'; 3],
        behind: b"n\r\n\r\n",
        may: is_extension_name,
    },
    Stand {
        name: "chunk extension value",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;n=v",
        run: &[b'v'; 3],
        behind: b"v\r\n\r\n",
        may: is_extension_value,
    },
    Stand {
        name: "quoted chunk extension value",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;n=\"",
        run: &[b'v'; 3],
        behind: b"v\"\r\n\r\n",
        may: is_quoted,
    },
    Stand {
        name: "quoted pair of a chunk extension value",
        before: b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0;n=\"v\\",
        run: b"v",
        behind: b"v\"\r\n\r\n",
        may: is_value,
    },
];

/// Runs are long enough for a parser that looks at 16 or 32 bytes at once to have an inside.
#[test]
fn each_byte_is_accepted_or_rejected_by_the_grammar_at_every_place() {
    for stand in STANDS {
        for at in 0..stand.run.len() {
            for byte in 0..=u8::MAX {
                let mut bytes = [stand.before, stand.run, stand.behind].concat();
                let place = stand.before.len() + at;
                bytes[place] = byte;
                let expected = if (stand.may)(byte) { End::Rest(0) } else { End::Refused(400) };
                let (first, second) = bytes.split_at(place);
                let said = (feed([&bytes[..]]).end, feed([first, second]).end);
                assert_eq!(said, (expected, expected), "{byte:#04x} at {at} of a {}", stand.name);
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
        let mut codec = Codec::new(HeaderMap::Refuse);
        codec.feed(&case.bytes);
        let outcome = codec.finish();
        assert_eq!(outcome.end, End::Refused(400), "{}", case.name);
        assert_eq!(outcome.requests.len(), before, "{}", case.name);
        count += 1;
    }
    assert!(count >= 4, "{count} cases");
}
