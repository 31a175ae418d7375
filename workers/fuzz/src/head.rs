//! The head of a request, and what follows it.

use arctos_worker::http::{Head, HeadError, HeadScan, Parsed, Version};
use arctos_worker::settings::{HeaderMap, Limits};

use super::framing;
use super::pieces::cuts;

/// Limits that a short input can exceed.
const SMALL: Limits = Limits {
    request_line_bytes: 40,
    header_count: 4,
    header_field_bytes: 24,
    head_bytes: 120,
    ..Limits::DEFAULT
};

/// Parses the bytes as a head, however they are cut, and compares the result with the lines of the head.
pub fn head(bytes: &[u8]) {
    for (limits, header_map) in [(Limits::DEFAULT, HeaderMap::Drop), (SMALL, HeaderMap::Refuse)] {
        let parse = |bytes: &[u8], ends: &[usize]| parse(bytes, ends, &limits, header_map);
        let whole = parse(bytes, &[bytes.len()]);
        for ends in cuts(bytes) {
            assert_eq!(parse(bytes, &ends), whole, "cut at {ends:?}");
        }
        let Ok(Some(head)) = whole else { continue };
        let (head_bytes, _) = bytes.split_at(head.len);
        check(head_bytes, &head, header_map);
        assert_eq!(parse(head_bytes, &[head.len]).as_ref(), Ok(&Some(head.clone())), "alone");
        let ends = [head.len - 1];
        assert_eq!(parse(&bytes[..head.len - 1], &ends), Ok(None), "without its last byte");
    }
}

/// Parses with the input growing to each of the ends.
fn parse(
    bytes: &[u8],
    ends: &[usize],
    limits: &Limits,
    header_map: HeaderMap,
) -> Result<Option<Head>, HeadError> {
    let (mut head, mut scan) = (Head::new(), HeadScan::default());
    for &end in ends {
        let parsed = head.parse(&bytes[..end], &mut scan, limits, header_map);
        match parsed {
            Ok(Parsed::Complete) => return Ok(Some(head)),
            Ok(Parsed::Incomplete) => {}
            Err(error) => {
                // What the log names is a copy of bytes that were read.
                let partial = scan.to_partial(&bytes[..end]);
                for part in [partial.method, partial.path, partial.referer, partial.user_agent] {
                    assert!(part.is_none_or(|part| contains(bytes, &part)));
                }
                return Err(error);
            }
        }
    }
    Ok(None)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    part.is_empty() || bytes.windows(part.len()).any(|window| window == part)
}

/// Reads the lines of an accepted head once more, in the simplest way, and compares.
fn check(bytes: &[u8], head: &Head, header_map: HeaderMap) {
    let text = bytes.strip_suffix(b"\r\n\r\n").expect("an empty line ends the head");
    let start = text.iter().position(|&byte| byte != b'\r' && byte != b'\n').expect("a line");
    assert!([&b""[..], b"\r\n", b"\r\n\r\n"].contains(&&text[..start]), "at most two empty lines");
    let mut lines = split_lines(&text[start..]).into_iter();
    let line = lines.next().expect("a request line");

    let parts: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let [method, target, version] = parts[..] else { panic!("not three parts") };
    assert_eq!((head.method.of(bytes), head.target.of(bytes)), (method, target));
    assert!(is_token(method) && method.len() <= 32 && method != b"CONNECT");
    assert!(target.iter().all(|byte| matches!(byte, b'!'..=b'~') && *byte != b'#'));
    let [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor @ b'0'..=b'9'] = version else {
        panic!("the version is {}", version.escape_ascii());
    };
    assert_eq!(head.version == Version::Http10, *minor == b'0');
    check_target(bytes, head, method, target);

    let mut fields = head.fields.iter();
    let mut dropped_count = 0;
    for line in lines {
        let colon = line.iter().position(|&byte| byte == b':').expect("a colon");
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        assert!(is_token(name), "{}", name.escape_ascii());
        let is_control = |byte: &u8| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f;
        assert!(!value.iter().any(is_control), "{}", value.escape_ascii());
        if name.contains(&b'_') {
            dropped_count += 1;
            continue;
        }
        let field = fields.next().expect("a field for each line");
        assert_eq!((field.name.of(bytes), field.value.of(bytes)), (name, value));
    }
    assert!(fields.next().is_none(), "a line for each field");
    assert_eq!(head.dropped_count, dropped_count);
    assert!(dropped_count == 0 || header_map == HeaderMap::Drop);
    framing::check(bytes, head);
}

/// Compares the parts of the target: path, query and authority.
fn check_target(bytes: &[u8], head: &Head, method: &[u8], target: &[u8]) {
    let (path, query) = (head.path.of(bytes), head.query.of(bytes));
    let joined = |path: &[u8]| match target.contains(&b'?') {
        true => [path, b"?", query].concat(),
        false => path.to_vec(),
    };
    assert!(!path.contains(&b'?') && (target.contains(&b'?') || query.is_empty()));
    match head.authority {
        None => {
            assert!(path.starts_with(b"/") || (path == b"*" && method == b"OPTIONS"));
            assert_eq!(joined(path), target);
        }
        Some(authority) => {
            let authority = authority.of(bytes);
            let scheme = target.iter().position(|&byte| byte == b':').expect("a scheme");
            assert!([&b"http"[..], b"https"].contains(&&target[..scheme].to_ascii_lowercase()[..]));
            let prefix = [&target[..scheme], b"://", authority].concat();
            let rest = target.strip_prefix(&prefix[..]).expect("the authority");
            assert!(joined(path) == rest || (path == b"/" && joined(b"") == rest));
            assert!(!authority.is_empty() && !authority.contains(&b'@'));
        }
    }
}

/// Splits at each CRLF; a CR or LF elsewhere stays in its line.
fn split_lines(mut text: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while let Some(end) = text.windows(2).position(|pair| pair == b"\r\n") {
        lines.push(&text[..end]);
        text = &text[end + 2..];
    }
    lines.push(text);
    lines
}

/// Whether the bytes are a token (RFC 9110 section 5.6.2).
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// Removes spaces and tabs from both ends.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = bytes.iter().position(|byte| !is_space(byte)) else { return &[] };
    let end = bytes.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &bytes[start..end]
}
