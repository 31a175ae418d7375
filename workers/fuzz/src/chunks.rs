//! A chunked body, and what follows it.

use arctos_worker::http::{BodyDecoder, BodyError, Framing};
use arctos_worker::settings::Limits;

use super::head::is_token;
use super::pieces::{cuts, pieces};

/// Decodes the bytes as a chunked body, however they are cut, and compares the result with a second decoder,
/// which looks at whole lines.
pub fn chunks(bytes: &[u8]) {
    let whole = decode(bytes, &[bytes.len()]);
    for ends in cuts(bytes) {
        assert_eq!(decode(bytes, &ends), whole, "cut at {ends:?}");
    }
    match (&whole.end, plain(bytes)) {
        (End::Complete(end), Plain::Complete(body, plain_end)) => {
            assert_eq!((&whole.body, *end), (&body, plain_end));
            let short = &bytes[..end - 1];
            assert_eq!(decode(short, &[short.len()]).end, End::Unfinished, "without its last byte");
        }
        // The second decoder refuses or waits only at the end of a line.
        (End::Unfinished | End::Refused(_), Plain::Unfinished) => {}
        (End::Refused(_), Plain::Refused) => {}
        (end, plain) => panic!("{end:?}, but {plain:?}"),
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    body: Vec<u8>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The body ends with this byte.
    Complete(usize),
    Unfinished,
    Refused(BodyError),
}

/// Decodes one piece after the other, as a connection does.
fn decode(bytes: &[u8], ends: &[usize]) -> Outcome {
    let decoder = BodyDecoder::new(Framing::Chunked, &Limits::DEFAULT);
    let mut decoder = decoder.expect("the length is not known yet");
    let (mut body, mut buffer, mut used) = (Vec::new(), Vec::new(), 0);
    for piece in pieces(bytes, ends) {
        buffer.extend_from_slice(piece);
        loop {
            let decoded = match decoder.decode(&buffer) {
                Ok(decoded) => decoded,
                Err(error) => return Outcome { body, end: End::Refused(error) },
            };
            body.extend_from_slice(decoded.data);
            let (consumed, is_end) = (decoded.consumed, decoded.is_end);
            used += consumed;
            buffer.drain(..consumed);
            if is_end {
                return Outcome { body, end: End::Complete(used) };
            }
            if consumed == 0 {
                break;
            }
        }
    }
    Outcome { body, end: End::Unfinished }
}

#[derive(Debug)]
enum Plain {
    Complete(Vec<u8>, usize),
    Unfinished,
    Refused,
}

/// The second decoder. It knows the limits of the first one: 16 digits, 256 bytes of extensions for a chunk and
/// 16 KB for a body, and 100 trailer lines in 16 KB.
fn plain(bytes: &[u8]) -> Plain {
    let (mut body, mut at, mut extension_bytes) = (Vec::new(), 0, 0);
    loop {
        let Some(line) = line(&bytes[at..]) else { return Plain::Unfinished };
        at += line.len() + 2;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (size, extensions) = line.split_at(digits);
        extension_bytes += extensions.len();
        if !(1..=16).contains(&digits)
            || extensions.len() > 256
            || extension_bytes > 16 * 1024
            || !are_extensions(extensions)
        {
            return Plain::Refused;
        }
        let size = str::from_utf8(size).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
        let size = size.expect("16 hexadecimal digits are 64 bits");
        if size == 0 {
            return trailers(bytes, at, body);
        }
        let Some(end) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else {
            return Plain::Unfinished;
        };
        let Some(data) = bytes.get(at..end) else { return Plain::Unfinished };
        body.extend_from_slice(data);
        match &bytes[end..] {
            [b'\r', b'\n', ..] => at = end + 2,
            [] | [b'\r'] => return Plain::Unfinished,
            [..] => return Plain::Refused,
        }
    }
}

fn trailers(bytes: &[u8], start: usize, body: Vec<u8>) -> Plain {
    let mut at = start;
    for _ in 0..=100 {
        let Some(line) = line(&bytes[at..]) else { return Plain::Unfinished };
        at += line.len() + 2;
        if at - start > 16 * 1024 {
            return Plain::Refused;
        }
        if line.is_empty() {
            return Plain::Complete(body, at);
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return Plain::Refused };
        let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
        if !is_token(&line[..colon]) || !line.iter().all(is_text) || line.len() > 8190 {
            return Plain::Refused;
        }
    }
    Plain::Refused
}

/// The first line, if it is complete. A CR or LF that is not part of the CRLF stays in it, and belongs nowhere.
fn line(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    Some(&bytes[..end])
}

/// Whether the text is `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`.
fn are_extensions(mut text: &[u8]) -> bool {
    while !text.is_empty() {
        let Some(rest) = skip_space(text).strip_prefix(b";") else { return false };
        let Some(rest) = skip_token(skip_space(rest)) else { return false };
        text = rest;
        if let Some(value) = skip_space(rest).strip_prefix(b"=") {
            let value = skip_space(value);
            let rest = skip_token(value).or_else(|| skip_quoted(value));
            let Some(rest) = rest else { return false };
            text = rest;
        }
    }
    true
}

fn skip_space(text: &[u8]) -> &[u8] {
    &text[text.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()..]
}

fn skip_token(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().take_while(|&&byte| is_token(&[byte])).count();
    (length > 0).then(|| &text[length..])
}

fn skip_quoted(text: &[u8]) -> Option<&[u8]> {
    let mut rest = text.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
            [b'\\', ..] => return None,
            [b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
            [] | [_, ..] => return None,
        };
    }
}
