//! Which bytes may stand where: one table look-up a byte.

/// `tchar` (RFC 9110 §5.6.2): methods and field names.
pub(super) const TOKEN: u8 = 1;
/// What a request target may consist of: visible ASCII without `#`, which starts a fragment and is
/// never sent (RFC 9110 §4.2.5).
pub(super) const TARGET: u8 = 2;
/// What a field value may consist of, white space and obs-text included (RFC 9110 §5.5).
pub(super) const VALUE: u8 = 4;
/// `unreserved` and `sub-delims` (RFC 3986 §2): a registered name, `%` aside.
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

/// Whether `byte` is of the class.
#[inline]
pub(super) fn is(byte: u8, class: u8) -> bool {
    CLASSES[byte as usize] & class != 0
}

/// How many bytes at the start of `bytes` are of the class.
#[inline]
pub(super) fn run(bytes: &[u8], class: u8) -> usize {
    bytes.iter().position(|&byte| !is(byte, class)).unwrap_or(bytes.len())
}

/// Whether there is a byte, and all are of the class.
#[inline]
pub(super) fn are(bytes: &[u8], class: u8) -> bool {
    !bytes.is_empty() && run(bytes, class) == bytes.len()
}

/// Whether `byte` is a control character; white space is not.
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

/// A decimal number: digits only, no sign, no space, no overflow.
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
    fn a_decimal_is_digits_alone() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"0042"), Some(42));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "+1", "-1", " 1", "1 ", "0x1", "1,1", "18446744073709551616", "\u{661}"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn trimming_takes_space_and_tab_at_both_ends() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b" \t "), b"");
        assert_eq!(trim(b"\x0ba\x0b"), b"\x0ba\x0b");
    }

    #[test]
    fn obs_text_is_a_value_but_neither_token_nor_target() {
        for byte in 0x80..=0xff {
            assert!(is(byte, VALUE) && !is(byte, TOKEN | TARGET | NAME));
        }
    }

    #[test]
    fn del_and_controls_are_nothing() {
        for byte in (0..0x20).chain([0x7f]).filter(|&byte| byte != b'\t') {
            assert!(!is(byte, TOKEN | TARGET | VALUE | NAME));
        }
    }
}
