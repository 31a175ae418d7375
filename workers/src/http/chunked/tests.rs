use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::http::body::BodyDecoder;
use crate::http::fields::FieldError;
use crate::http::framing::Framing;
use crate::http::status::Status;
use crate::settings::Limits;

/// A complete body: its bytes, and how many bytes of the input it took.
type Ended = (Vec<u8>, usize);

fn limits() -> Limits {
    Limits { body_bytes: 1000, header_field_bytes: 200, ..Limits::default() }
}

/// Decodes input that arrives in these pieces, as the connection does; `None` is an unfinished body.
fn decode_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Result<Option<Ended>, BodyError> {
    let mut decoder = BodyDecoder::new(Framing::Chunked, &limits()).unwrap();
    let (mut data, mut total) = (Vec::new(), 0);
    for mut piece in pieces {
        loop {
            let decoded = decoder.decode(piece)?;
            data.extend_from_slice(decoded.data);
            total += decoded.consumed;
            if decoded.is_end {
                return Ok(Some((data, total)));
            }
            if decoded.consumed == 0 {
                assert!(piece.is_empty(), "bytes were left although more are needed");
                break;
            }
            piece = &piece[decoded.consumed..];
        }
    }
    Ok(None)
}

fn decode(input: &[u8]) -> Result<Option<Ended>, BodyError> {
    decode_pieces([input].into_iter())
}

#[track_caller]
fn ends(input: &str, data: &str) {
    let expected = Some((data.as_bytes().to_vec(), input.len()));
    assert_eq!(decode(input.as_bytes()), Ok(expected), "{input:?}");
}

#[track_caller]
fn refuses(input: &str, error: BodyError, status: u16) {
    assert_eq!(decode(input.as_bytes()), Err(error), "{input:?}");
    assert_eq!(error.status(), Status(status));
}

#[test]
fn chunks_are_joined_up_to_the_last() {
    ends("0\r\n\r\n", "");
    ends("5\r\nhello\r\n0\r\n\r\n", "hello");
    ends("1\r\na\r\nA\r\n0123456789\r\n000\r\n\r\n", "a0123456789");
}

#[test]
fn bytes_after_the_body_are_not_consumed() {
    assert_eq!(decode(b"1\r\na\r\n0\r\n\r\nGET /"), Ok(Some((b"a".to_vec(), 11))));
}

#[test]
fn a_piece_is_as_long_as_possible_without_a_copy() {
    let mut decoder = BodyDecoder::new(Framing::Chunked, &limits()).unwrap();
    let decoded = decoder.decode(b"5\r\nhello\r\n").unwrap();
    assert_eq!(decoded, Decoded { data: b"hello", consumed: 8, is_end: false });
    let decoded = decoder.decode(b"\r\n3\r\nab").unwrap();
    assert_eq!(decoded, Decoded { data: b"ab", consumed: 7, is_end: false });
}

#[test]
fn the_end_is_reported_again() {
    let mut decoder = BodyDecoder::new(Framing::Chunked, &limits()).unwrap();
    assert!(decoder.decode(b"0\r\n\r\n").unwrap().is_end);
    let decoded = decoder.decode(b"GET").unwrap();
    assert_eq!(decoded, Decoded { data: b"", consumed: 0, is_end: true });
}

#[test]
fn a_size_is_hexadecimal_digits_in_any_case() {
    let data = "x".repeat(0xab);
    for size in ["ab", "AB", "aB", "00000000000000Ab"] {
        ends(&format!("{size}\r\n{data}\r\n0\r\n\r\n"), &data);
    }
}

#[test]
fn a_chunk_without_a_size_is_refused() {
    for bad in ["\r\n", ";a\r\n", " 5\r\n", "\n", "-1\r\n", "+1\r\n", "x\r\n", "\0"] {
        refuses(bad, BodyError::NoSize, 400);
    }
}

#[test]
fn a_size_followed_by_anything_else_is_refused() {
    for bad in ["0x5\r\n", "5\n", "5\0", "5,", "5g", "5_0", "5.", "5\u{e9}"] {
        refuses(bad, BodyError::BadSize, 400);
    }
}

#[test]
fn a_size_has_at_most_16_digits() {
    refuses("00000000000000005", BodyError::SizeTooLong, 400);
    refuses("10000000000000000", BodyError::SizeTooLong, 400);
    refuses("ffffffffffffffff\r\n", BodyError::TooLarge, 413);
}

#[test]
fn a_bare_cr_is_refused() {
    for bad in ["5\rh", "5\r\r\n", "5;a\rb", "1\r\na\rb", "0\r\n\rb"] {
        let error = decode(bad.as_bytes()).unwrap_err();
        let is_bare = matches!(error, BodyError::BareCr | BodyError::Trailer(FieldError::BareCr));
        assert!(is_bare && error.status() == Status(400), "{bad:?}: {error:?}");
    }
}

#[test]
fn chunk_data_is_as_long_as_its_size() {
    for bad in ["1\r\nab\r\n", "1\r\na\n", "1\r\na0\r\n"] {
        refuses(bad, BodyError::DataNotClosed, 400);
    }
    refuses("2\r\na\r\n0\r\n\r\n", BodyError::DataNotClosed, 400);
}

#[test]
fn extensions_are_skipped() {
    for extension in [
        ";a",
        ";a=b",
        ";a;b=c;d",
        " ;a",
        "\t ; a",
        "; a = b ; c",
        ";a=\"\"",
        "; a=\"b; c\";d=e",
        ";a=\"\\\"\\\\\\;\" ;b",
        ";a=\"\u{e9}\\\u{e9}\t\"",
    ] {
        ends(&format!("1{extension}\r\na\r\n0{extension}\r\n\r\n"), "a");
    }
}

#[test]
fn an_extension_that_does_not_follow_the_grammar_is_refused() {
    for bad in [
        "1 \r\n",
        "1 2",
        "1 a",
        "0 \r\n",
        "1;\r\n",
        "1; \r\n",
        "1;;",
        "1;a;\r\n",
        "1;=",
        "1;a=\r\n",
        "1;a=;",
        "1;a==",
        "1;a=b=",
        "1;a \r\n",
        "1;a=b \r\n",
        "1;a=\"b\" \r\n",
        "1;a b",
        "1;a=b c",
        "1;a,",
        "1;\"",
        "1;a=b\"",
        "1;a=\"b\"c",
        "1;a=\"b\"\"",
        "1;\u{e9}",
        "1;a=\u{e9}",
    ] {
        refuses(bad, BodyError::BadExtension, 400);
    }
}

#[test]
fn an_extension_with_control_characters_is_refused() {
    for bad in ["1;a\n", "1;\0", "1;a\u{7f}", "1 \n", "1;a=b\n", "1;a=\"\0", "1;a=\"\\\u{7f}"] {
        refuses(bad, BodyError::BadExtension, 400);
    }
}

#[test]
fn a_quoted_string_ends_on_its_line() {
    for bad in ["1;a=\"\r", "1;a=\"\n", "1;a=\"b\\\r", "1;a=\"b\\\"\r", "1;a=\"\\\n"] {
        refuses(bad, BodyError::OpenQuote, 400);
    }
}

#[test]
fn an_extension_has_at_most_256_bytes() {
    let chunk = |bytes: usize| format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(bytes - 1));
    ends(&chunk(256), "a");
    refuses(&chunk(257), BodyError::ExtensionTooLong, 400);
}

#[test]
fn the_extensions_of_a_body_have_at_most_16_kb() {
    let chunks = |count: usize| format!("1;{}\r\na\r\n", "x".repeat(255)).repeat(count);
    ends(&(chunks(64) + "0\r\n\r\n"), &"a".repeat(64));
    refuses(&(chunks(64) + "0;"), BodyError::ExtensionTooLong, 400);
}

#[test]
fn a_body_over_the_limit_is_refused_at_the_chunk_size() {
    let half = format!("1f4\r\n{}\r\n", "x".repeat(500));
    ends(&format!("{half}{half}0\r\n\r\n"), &"x".repeat(1000));
    refuses(&format!("{half}{half}1\r\n"), BodyError::TooLarge, 413);
    refuses("3e9\r\n", BodyError::TooLarge, 413);
}

#[test]
fn sizes_whose_sum_overflows_are_too_large_even_without_a_limit() {
    let limits = Limits { body_bytes: 0, ..Limits::default() };
    let mut decoder = BodyDecoder::new(Framing::Chunked, &limits).unwrap();
    decoder.decode(b"1\r\na").unwrap();
    assert_eq!(decoder.decode(b"\r\nffffffffffffffff\r\n"), Err(BodyError::TooLarge));
}

#[test]
fn trailers_are_checked_and_discarded() {
    ends("1\r\na\r\n0\r\nA: b\r\nContent-Length: 7\r\nX_Y:\r\n\r\n", "a");
    for (trailer, error) in [
        ("A : b\r\n", FieldError::SpaceBeforeColon),
        ("A: b\n", FieldError::BareLf),
        ("A: \0", FieldError::Control),
        ("A: b\r\n c\r\n", FieldError::Fold),
        (" A: b\r\n", FieldError::LeadingSpace),
        ("GET / HTTP/1.1\r\n", FieldError::SpaceBeforeColon),
        (": b\r\n", FieldError::NoName),
        ("A\r\n", FieldError::NoColon),
    ] {
        refuses(&format!("0\r\n{trailer}\r\n"), BodyError::Trailer(error), 400);
    }
}

#[test]
fn trailers_are_limited_in_bytes_lines_and_line_length() {
    let trailers = |count: usize| format!("0\r\n{}\r\n", "A: b\r\n".repeat(count));
    ends(&trailers(100), "");
    refuses(&trailers(101), BodyError::Trailer(FieldError::TooMany), 431);

    let line = format!("A: {}\r\n", "x".repeat(197));
    ends(&format!("0\r\n{line}\r\n"), "");
    let too_long = BodyError::Trailer(FieldError::LineTooLong);
    refuses(&format!("0\r\nA: {}\r\n", "x".repeat(198)), too_long, 431);

    // 81 lines of 202 bytes are 16,362 bytes. 22 are left, 2 of them for the empty line.
    let block = line.repeat(81);
    ends(&format!("0\r\n{block}{}\r\n\r\n", "A: 456789012345678"), "");
    let too_long = BodyError::Trailer(FieldError::SectionTooLong);
    refuses(&format!("0\r\n{block}{}\r\n\r\n", "A: 4567890123456789"), too_long, 431);
}

/// Returns what follows the quoted string at the start of `text`.
fn after_quoted(text: &str) -> Option<&str> {
    let mut chars = text.strip_prefix('"')?.chars();
    loop {
        match chars.next()? {
            '"' => return Some(chars.as_str()),
            '\\' => {
                chars.next()?;
            }
            _ => {}
        }
    }
}

/// Whether a text without control characters is `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`.
fn is_extension(text: &str) -> bool {
    let blank = |text: &str| text.trim_start_matches([' ', '\t']).to_owned();
    let token = |text: &str| {
        let is_mark = |c: char| "!#$%&'*+-.^_`|~".contains(c);
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !is_mark(c));
        Some(text[end.unwrap_or(text.len())..].to_owned()).filter(|rest| rest != text)
    };
    let mut text = text.to_owned();
    while !text.is_empty() {
        let name = blank(&text).strip_prefix(';').map(blank);
        let Some(rest) = name.and_then(|name| token(&name)) else { return false };
        text = rest;
        if let Some(value) = blank(&text).strip_prefix('=').map(blank) {
            let quoted = || after_quoted(&value).map(ToOwned::to_owned);
            let Some(rest) = token(&value).or_else(quoted) else { return false };
            text = rest;
        }
    }
    true
}

/// A simple decoder of a complete body, without limits: it finds lines by their CRLF.
fn reference(input: &[u8]) -> Option<Ended> {
    let line = |at: usize| {
        let length = input[at..].windows(2).position(|pair| pair == b"\r\n")?;
        let line = std::str::from_utf8(&input[at..at + length]).ok()?;
        (!line.contains(['\r', '\n', '\0'])).then_some((line, at + length + 2))
    };
    let (mut data, mut at) = (Vec::new(), 0);
    loop {
        let (text, end) = line(at)?;
        let digits = text.find([';', ' ', '\t']).unwrap_or(text.len());
        let (digits, extension) = text.split_at(digits);
        if digits.starts_with('+') || digits.len() > 16 || !is_extension(extension) {
            return None;
        }
        let size = usize::from_str_radix(digits, 16).ok()?;
        at = end;
        if size == 0 {
            break;
        }
        data.extend_from_slice(input.get(at..at.checked_add(size)?)?);
        at += size;
        if input.get(at..at + 2)? != b"\r\n" || data.len() > 1000 {
            return None;
        }
        at += 2;
    }
    loop {
        let (text, end) = line(at)?;
        at = end;
        if text.is_empty() {
            return Some((data, at));
        }
        let (name, _) = text.split_once(':')?;
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'+')
        {
            return None;
        }
    }
}

const BODIES: &[&[u8]] = &[
    b"0\r\n\r\n",
    b"5\r\nhello\r\n0\r\n\r\nGET /",
    b"1;a=b\r\n\r\r\n00a ; c\r\n0123456789\r\n0;d\r\nA: b\r\nC:\r\n\r\n",
    b"2 ;\ta = \"b;\\\"c\\\\\" ; d\r\nxy\r\n0;e=\"\"\r\n\r\n",
];

const PIECES: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b";",
    b"=",
    b"\"",
    b"\\",
    b"\t",
    b":",
    b"0",
    b"1",
    b"5",
    b"a",
    b"F",
    b"x",
    b"+",
    b"0\r\n",
    b"1\r\na\r\n",
    b"2;e\r\n",
    b";a=\"",
    b";a=b",
    b"A: b\r\n",
    b"\r\n\r\n",
    b"ffffffffffffffff",
];

fn changed_body() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0usize..3, select(PIECES));
    (select(BODIES), vec(change, 0..3)).prop_map(|(body, changes)| {
        let mut body = body.to_vec();
        for (index, count, piece) in changes {
            let at = index.index(body.len() + 1);
            let end = body.len().min(at + count);
            body.splice(at..end, piece.iter().copied());
        }
        body
    })
}

fn assert_one_answer(input: &[u8], cut: usize) {
    let whole = decode(input);
    assert_eq!(whole.clone().ok().flatten(), reference(input), "a plain reader");
    assert_eq!(decode_pieces(input.chunks(1)), whole, "byte by byte");
    let (first, second) = input.split_at(cut);
    assert_eq!(decode_pieces([first, second].into_iter()), whole, "cut at {cut}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_body_is_what_a_plain_reader_sees_at_any_cut(
        input in changed_body(), cut in any::<Index>(),
    ) {
        assert_one_answer(&input, cut.index(input.len() + 1));
    }

    #[test]
    fn shuffled_body_pieces_are_what_a_plain_reader_sees_at_any_cut(
        pieces in vec(select(PIECES), 0..12), cut in any::<Index>(),
    ) {
        let input = pieces.concat();
        assert_one_answer(&input, cut.index(input.len() + 1));
    }

    #[test]
    fn any_extension_is_what_a_plain_reader_sees_at_any_cut(
        marks in vec(select(&b"aZ0;;=\"\"\\\\ \t,\r\n"[..]), 0..12), cut in any::<Index>(),
    ) {
        let input = [b"1;a=", &marks[..], b"\r\nx\r\n0\r\n\r\n"].concat();
        assert_one_answer(&input, cut.index(input.len() + 1));
    }

    #[test]
    fn what_is_encoded_in_chunks_decodes_to_the_same_bytes(
        chunks in vec(vec(any::<u8>(), 1..40), 0..8), cut in any::<Index>(),
    ) {
        let mut input = Vec::new();
        for chunk in &chunks {
            crate::http::response::put_chunk_size(&mut input, chunk.len());
            input.extend_from_slice(chunk);
            input.extend_from_slice(crate::http::response::CHUNK_CLOSING);
        }
        input.extend_from_slice(crate::http::response::LAST_CHUNK);
        let (first, second) = input.split_at(cut.index(input.len() + 1));
        let outcome = decode_pieces([first, second].into_iter());
        prop_assert_eq!(outcome, Ok(Some((chunks.concat(), input.len()))));
    }
}
