//! Escapes text from any source for a log: one line stays one line, and nothing in it controls the terminal that shows
//! it.

use std::io::Write;

/// What surrounds the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Double quotes: `"`, `\` and everything unprintable is escaped with `\`.
    Quoted,
    /// A separate line: tabs, quotes and backslashes stay, everything unprintable is escaped.
    Line,
    /// A JSON string (RFC 8259 §7): bytes that are not UTF-8 become U+FFFD.
    Json,
}

/// Appends `bytes` as UTF-8, escaped for `style`. The caller adds quotes.
pub(crate) fn escape(out: &mut Vec<u8>, bytes: &[u8], style: Style) {
    if bytes.iter().all(|&byte| is_plain(byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            escape_char(out, c, style);
        }
        match style {
            Style::Json if chunk.invalid().is_empty() => {}
            Style::Json => push(out, char::REPLACEMENT_CHARACTER),
            Style::Quoted | Style::Line => {
                for byte in chunk.invalid() {
                    // Ignored here and below: writing to a vector cannot fail.
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
        }
    }
}

/// Appends text in latin-1 as UTF-8, escaped for [`Style::Quoted`]. The caller adds quotes. Beyond its control characters,
/// latin-1 has nothing that is dangerous; it may be UTF-8 that is shown byte by byte, and is not escaped.
pub(crate) fn escape_latin1(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.iter().all(|&byte| is_plain(byte)) {
        out.extend_from_slice(bytes);
        return;
    }
    for &byte in bytes {
        match char::from(byte) {
            c @ '\u{a0}'.. => push(out, c),
            c => escape_char(out, c, Style::Quoted),
        }
    }
}

/// At most the first `limit` bytes, or a little less so that no character is split, and whether something was cut.
pub(crate) fn cut(bytes: &[u8], limit: usize) -> (&[u8], bool) {
    if bytes.len() <= limit {
        return (bytes, false);
    }
    let is_continuation = |index: usize| bytes[index] & 0xC0 == 0x80;
    // A character has at most 3 continuation bytes. More are not UTF-8, and may be cut anywhere.
    let end = (limit.saturating_sub(3)..=limit).rev().find(|&end| !is_continuation(end));
    (&bytes[..end.unwrap_or(limit)], true)
}

/// Whether a byte needs no escape in any style.
fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

fn escape_char(out: &mut Vec<u8>, c: char, style: Style) {
    match (c, style) {
        ('"' | '\\', Style::Quoted | Style::Json) => {
            out.push(b'\\');
            push(out, c);
        }
        ('\t', Style::Line) => push(out, c),
        _ if is_printable(c) => push(out, c),
        ('\n', _) => out.extend_from_slice(b"\\n"),
        ('\r', _) => out.extend_from_slice(b"\\r"),
        ('\t', _) => out.extend_from_slice(b"\\t"),
        (_, Style::Json) => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        }
        ('\0'..='\x7f', Style::Quoted | Style::Line) => {
            let _ = write!(out, "\\x{:02x}", u32::from(c));
        }
        (_, Style::Quoted | Style::Line) => {
            let _ = write!(out, "{}", c.escape_unicode());
        }
    }
}

/// Whether it shows, and as itself: no control, no line separator, nothing that reverses or hides the
/// text beside it. The tables are those behind `{:?}`, which escapes quotes besides.
fn is_printable(c: char) -> bool {
    matches!(c, ' '..='~') || c.escape_debug().len() == 1
}

fn push(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(bytes: impl AsRef<[u8]>, style: Style) -> String {
        let mut out = Vec::new();
        escape(&mut out, bytes.as_ref(), style);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn printable_text_stays_as_it_is() {
        for style in [Style::Quoted, Style::Line, Style::Json] {
            assert_eq!(escaped("it's plain = größer, 熊", style), "it's plain = größer, 熊");
        }
    }

    #[test]
    fn quotes_and_backslashes_are_escaped_between_quotes() {
        assert_eq!(escaped(r#"a"b\c"#, Style::Quoted), r#"a\"b\\c"#);
        assert_eq!(escaped(r#"a"b\c"#, Style::Json), r#"a\"b\\c"#);
        assert_eq!(escaped(r#"a"b\c"#, Style::Line), r#"a"b\c"#);
    }

    #[test]
    fn controls_are_escaped() {
        assert_eq!(escaped("a\n\r\t\x1b[31m\x7f\0", Style::Quoted), r"a\n\r\t\x1b[31m\x7f\x00");
        assert_eq!(escaped("a\n\r\t\x1b\0", Style::Line), "a\\n\\r\t\\x1b\\x00");
        assert_eq!(escaped("a\n\r\t\x1b\x7f\0", Style::Json), r"a\n\r\t\u001b\u007f\u0000");
    }

    #[test]
    fn unicode_that_commands_a_terminal_or_deceives_a_reader_is_escaped() {
        let text = "\u{9b}31m\u{202e}\u{2028}\u{e0001}";
        assert_eq!(escaped(text, Style::Quoted), r"\u{9b}31m\u{202e}\u{2028}\u{e0001}");
        assert_eq!(escaped(text, Style::Json), r"\u009b31m\u202e\u2028\udb40\udc01");
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_shown_in_text_and_replaced_in_json() {
        assert_eq!(escaped(b"a\xff\xc3\x28", Style::Quoted), r"a\xff\xc3(");
        assert_eq!(escaped(b"a\xff\xc3\x28", Style::Line), r"a\xff\xc3(");
        assert_eq!(escaped(b"a\xff\xc3\x28", Style::Json), "a\u{fffd}\u{fffd}(");
    }

    #[test]
    fn latin_1_becomes_utf_8() {
        let mut out = Vec::new();
        escape_latin1(&mut out, b"caf\xe9 \"a\\b\"\n\x9b\xa0\xad\xff");
        let expected = concat!(r#"café \"a\\b\"\n\u{9b}"#, "\u{a0}\u{ad}\u{ff}");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_cut_leaves_no_half_character() {
        assert_eq!(cut(b"abc", 3), (&b"abc"[..], false));
        assert_eq!(cut(b"abcd", 3), (&b"abc"[..], true));
        assert_eq!(cut("aé".as_bytes(), 2), (&b"a"[..], true));
        assert_eq!(cut("a熊b".as_bytes(), 4), ("a熊".as_bytes(), true));
        assert_eq!(cut(&[0x80; 10], 6), (&[0x80; 6][..], true));
        assert_eq!(cut(b"abc", 0), (&b""[..], true));
    }

    proptest! {
        #[test]
        fn the_result_is_printable_whatever_comes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for style in [Style::Quoted, Style::Line, Style::Json] {
                let escaped = escaped(&bytes, style);
                prop_assert!(escaped.chars().all(|c| is_printable(c) || c == '\t'), "{}", escaped);
                prop_assert!(escaped.len() <= 6 * bytes.len());
            }
        }

        #[test]
        fn a_quote_never_ends_the_quoted_text(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for style in [Style::Quoted, Style::Json] {
                let mut chars = escaped(&bytes, style).chars().collect::<Vec<_>>().into_iter();
                while let Some(c) = chars.next() {
                    prop_assert!(c != '"');
                    if c == '\\' {
                        prop_assert!(chars.next().is_some());
                    }
                }
            }
        }
    }
}
