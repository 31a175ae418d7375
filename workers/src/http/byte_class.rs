//! Classes of bytes, and other byte-level tests: one table lookup per byte.

/// `tchar` (RFC 9110 §5.6.2): the bytes of methods and field names.
pub(super) const TOKEN: u8 = 1;
/// The bytes of a request target: visible ASCII except `#`, which starts a fragment and is never sent
/// (RFC 9110 §4.2.5).
pub(super) const TARGET: u8 = 2;
/// The bytes of a field value, white space and obs-text included (RFC 9110 §5.5).
pub(super) const VALUE: u8 = 4;
/// `unreserved` and `sub-delims` (RFC 3986 §2): the bytes of a registered name, except `%`.
pub(super) const NAME: u8 = 8;

static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let alphanumeric = b.is_ascii_alphanumeric();
        if alphanumeric
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            table[byte] |= TOKEN;
        }
        if b.is_ascii_graphic() && b != b'#' {
            table[byte] |= TARGET;
        }
        if b == b'\t' || (b >= b' ' && b != 0x7f) {
            table[byte] |= VALUE;
        }
        if alphanumeric
            || matches!(
                b,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b','
                    | b';'
                    | b'='
            )
        {
            table[byte] |= NAME;
        }
        byte += 1;
    }
    table
}

/// Whether `byte` belongs to the class.
#[inline]
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// The number of leading bytes that belong to the class.
#[inline]
pub(super) fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&byte| !is(byte, class)).unwrap_or(bytes.len())
}

/// Whether `bytes` is not empty and all of it belongs to the class. Always reads all bytes, which is faster
/// for short input than a branch per byte.
#[inline]
pub(super) fn are(bytes: &[u8], class: u8) -> bool {
    !bytes.is_empty()
        && bytes.iter().fold(class, |common, &byte| common & CLASSES[byte as usize]) != 0
}

/// Whether all bytes belong to the class [`VALUE`]. Tests eight bytes at a time.
#[inline]
pub(super) fn is_value(bytes: &[u8]) -> bool {
    // A high bit stays set where a byte is below 0x20 (HTAB, too) or is DEL. A borrow may set one too many,
    // never one too few.
    let is_suspect = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        let controls = word.wrapping_sub(each(0x20)) & !word;
        let deletes = word ^ each(0x7f);
        (controls | (deletes.wrapping_sub(each(0x01)) & !deletes)) & each(0x80) != 0
    };
    match bytes.last_chunk() {
        Some(tail) if !is_suspect(tail) && !bytes.as_chunks().0.iter().any(is_suspect) => true,
        Some(_) | None => run(bytes, VALUE) == bytes.len(),
    }
}

/// Whether `name` equals `lower` without regard to case. `lower` consists of lower-case letters and `-`.
#[inline]
pub(super) fn is_name(name: &[u8], lower: &[u8]) -> bool {
    // Ignores the case bit where `lower` has a letter. Letters have bit 6 set, `-` does not.
    let is_same = |name: &[u8; 8], lower: &[u8; 8]| {
        let (name, lower) = (u64::from_ne_bytes(*name), u64::from_ne_bytes(*lower));
        (name ^ lower) & !((lower & each(0x40)) >> 1) == 0
    };
    if name.len() != lower.len() {
        return false;
    }
    match (name.last_chunk(), lower.last_chunk()) {
        (Some(name_tail), Some(lower_tail)) => {
            let words = name.as_chunks().0.iter().zip(lower.as_chunks().0);
            is_same(name_tail, lower_tail) && words.into_iter().all(|(a, b)| is_same(a, b))
        }
        (None, _) | (_, None) => name
            .iter()
            .zip(lower)
            .fold(true, |is_same, (a, b)| is_same & ((a ^ b) & !((b & 0x40) >> 1) == 0)),
    }
}

/// A word that repeats this byte.
#[inline]
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Whether `byte` is a control character other than HTAB.
#[inline]
pub(super) fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// `bytes` without SP and HTAB at both ends (`OWS`, RFC 9110 §5.6.3).
#[inline]
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let is_text = |&byte: &u8| byte != b' ' && byte != b'\t';
    let Some(first) = bytes.iter().position(is_text) else { return &bytes[bytes.len()..] };
    let last = bytes.iter().rposition(is_text).unwrap_or(first);
    &bytes[first..=last]
}

/// Parses a decimal number of digits only: no sign, no space, no overflow.
#[inline]
pub(super) fn decimal(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |number, &byte| {
        if !byte.is_ascii_digit() {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_consists_of_digits_only() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"0042"), Some(42));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", " 1", "1 ", "0x1", "1,1", "18446744073709551616", "\u{661}"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn trimming_removes_space_and_tab_at_both_ends() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b"\x0ba\x0b"), b"\x0ba\x0b");
    }

    #[test]
    fn a_value_with_any_byte_anywhere_is_checked_by_its_class() {
        for length in 1..=24 {
            for at in 0..length {
                for byte in 0..=u8::MAX {
                    for filler in [b'x', b' ', 0xff, b'~', b'\t'] {
                        let mut value = vec![filler; length];
                        value[at] = byte;
                        assert_eq!(is_value(&value), is(byte, VALUE), "{value:?}");
                    }
                }
            }
        }
        assert!(is_value(b""));
    }

    #[test]
    fn a_token_with_any_byte_anywhere_is_checked_by_its_class() {
        for at in 0..12 {
            for byte in 0..=u8::MAX {
                let mut name = *b"X-Some-Field";
                name[at] = byte;
                assert_eq!(are(&name, TOKEN), is(byte, TOKEN), "{name:?}");
            }
        }
        assert!(!are(b"", TOKEN));
    }

    #[test]
    fn a_name_equals_itself_in_any_case_and_nothing_else() {
        for lower in ["te", "date", "x-a-b-c", "trailers", "content-length", "proxy-authenticate"] {
            let lower = lower.as_bytes();
            assert!(is_name(lower, lower) && is_name(&lower.to_ascii_uppercase(), lower));
            assert!(!is_name(&lower[1..], lower));
            for at in 0..lower.len() {
                for byte in 0..=u8::MAX {
                    let mut name = lower.to_vec();
                    name[at] = byte;
                    assert_eq!(is_name(&name, lower), name.eq_ignore_ascii_case(lower), "{name:?}");
                }
            }
        }
    }

    #[test]
    fn obs_text_is_a_value_but_neither_token_nor_target() {
        for byte in 0x80..=0xff {
            assert!(is(byte, VALUE) && !is(byte, TOKEN | TARGET | NAME));
        }
    }

    #[test]
    fn del_and_controls_belong_to_no_class() {
        for byte in (0..0x20).chain([0x7f]).filter(|&byte| byte != b'\t') {
            assert!(!is(byte, TOKEN | TARGET | VALUE | NAME));
        }
    }
}
