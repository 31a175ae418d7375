//! The place that a value fills in a line: its minimum and maximum number of characters.

use crate::settings::Layout;

/// Fits what was written from `start` on into its place. Nothing of an escape is left if a part of it does not fit: a
/// backslash alone would escape what follows the value.
pub(super) fn fit(out: &mut Vec<u8>, start: usize, layout: &Layout) {
    let Layout { width, is_left, has_zeros, precision } = *layout;
    if let Some(precision) = precision {
        let kept = prefix_bytes(&out[start..], precision);
        out.truncate(start + kept);
    }
    let missing = width.saturating_sub(character_count(&out[start..]));
    if missing == 0 {
        return;
    }
    let filler = if has_zeros { b'0' } else { b' ' };
    let end = out.len();
    out.resize(end + missing, filler);
    if !is_left {
        out[start..].rotate_right(missing);
    }
}

fn character_count(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte & 0xC0 != 0x80).count()
}

/// The length in bytes of at most `limit` characters, without a part of an escape.
fn prefix_bytes(text: &[u8], limit: usize) -> usize {
    let (mut at, mut count) = (0, 0);
    while at < text.len() {
        let len = unit_bytes(&text[at..]);
        count += character_count(&text[at..at + len]);
        if count > limit {
            break;
        }
        at += len;
    }
    at
}

/// The length of the character or escape at the start of a text that was escaped: `\"`, `\n`, `\x1b`, `\u{9b}`.
fn unit_bytes(text: &[u8]) -> usize {
    let len = match text {
        [b'\\', b'x', ..] => 4,
        [b'\\', b'u', ..] => memchr::memchr(b'}', text).map_or(2, |end| end + 1),
        [b'\\', ..] => 2,
        [_, rest @ ..] => 1 + rest.iter().take_while(|byte| **byte & 0xC0 == 0x80).count(),
        [] => 0,
    };
    len.min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(text: &str, layout: Layout) -> String {
        let mut out = format!("before {text}").into_bytes();
        fit(&mut out, 7, &layout);
        String::from_utf8(out).unwrap().split_off(7)
    }

    #[test]
    fn a_value_is_filled_up_to_its_width() {
        let width = |width| Layout { width, ..Layout::default() };
        assert_eq!(fitted("GET", width(5)), "  GET");
        assert_eq!(fitted("GET", Layout { is_left: true, ..width(5) }), "GET  ");
        assert_eq!(fitted("17", Layout { has_zeros: true, ..width(5) }), "00017");
        assert_eq!(fitted("größer", width(8)), "  größer");
        assert_eq!(fitted("GET", width(3)), "GET");
        assert_eq!(fitted("GET", width(0)), "GET");
    }

    #[test]
    fn a_value_is_cut_without_a_part_of_a_character_or_an_escape() {
        let cut = |text, precision| {
            fitted(text, Layout { precision: Some(precision), ..Layout::default() })
        };
        assert_eq!(cut("abc", 2), "ab");
        assert_eq!(cut("größer", 3), "grö");
        for precision in 0..2 {
            assert_eq!(cut(r#"\"a"#, precision), "");
        }
        assert_eq!(cut(r#"a\"b"#, 3), r#"a\""#);
        assert_eq!(cut(r"\\\\", 3), r"\\");
        assert_eq!(cut(r"a\x1bb", 4), "a");
        assert_eq!(cut(r"a\x1bb", 5), r"a\x1b");
        assert_eq!(cut(r"a\u{9b}b", 6), "a");
        assert_eq!(cut(r"a\u{9b}b", 7), r"a\u{9b}");
    }
}
