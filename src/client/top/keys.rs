//! Parses the bytes that a terminal sends for keys.

/// A key that the screen uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
    Escape,
    /// Ctrl-C, for which a terminal in raw mode sends no signal.
    Interrupt,
    /// Ctrl-Z.
    Suspend,
    /// Ctrl-L.
    Repaint,
    Letter(char),
}

/// Parses the bytes of one read. Unknown sequences are skipped as a whole, so that none of their bytes is taken for
/// a key.
pub(super) fn read(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        rest = tail;
        let key = match (first, tail) {
            (0x1b, [b'[', tail @ ..]) => {
                // ECMA-48 5.4: parameter and intermediate bytes, then one final byte.
                let length = tail.iter().take_while(|byte| (0x20..0x40).contains(*byte)).count();
                let (parameters, tail) = tail.split_at(length);
                rest = tail.get(1..).unwrap_or_default();
                tail.first().and_then(|last| sequence(parameters, *last))
            }
            (0x1b, [b'O', last, tail @ ..]) => {
                rest = tail;
                sequence(b"", *last)
            }
            (0x1b, []) => Some(Key::Escape),
            // Alt with a key.
            (0x1b, [_, tail @ ..]) => {
                rest = tail;
                None
            }
            (0x03, _) => Some(Key::Interrupt),
            (0x1a, _) => Some(Key::Suspend),
            (0x0c, _) => Some(Key::Repaint),
            (letter, _) if letter.is_ascii_graphic() => Some(Key::Letter(char::from(*letter))),
            _ => None,
        };
        keys.extend(key);
    }
    keys
}

/// Whether the bytes end within a sequence. An Escape alone may be the start of an arrow key that the network split.
pub(super) fn is_cut(bytes: &[u8]) -> bool {
    match bytes.iter().rposition(|byte| *byte == 0x1b).map(|at| &bytes[at + 1..]) {
        None => false,
        Some([] | [b'['] | [b'O']) => true,
        Some([b'[', tail @ ..]) => tail.iter().all(|byte| (0x20..0x40).contains(byte)),
        Some(_) => false,
    }
}

fn sequence(parameters: &[u8], last: u8) -> Option<Key> {
    match (parameters, last) {
        (b"", b'A') => Some(Key::Up),
        (b"", b'B') => Some(Key::Down),
        (b"", b'H') | (b"1" | b"7", b'~') => Some(Key::Home),
        (b"", b'F') | (b"4" | b"8", b'~') => Some(Key::End),
        (b"5", b'~') => Some(Key::PageUp),
        (b"6", b'~') => Some(Key::PageDown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed_from_the_bytes_of_terminals() {
        assert_eq!(read(b"\x1b[A\x1bOB"), [Key::Up, Key::Down]);
        assert_eq!(
            read(b"\x1b[5~\x1b[6~\x1b[H\x1b[4~"),
            [Key::PageUp, Key::PageDown, Key::Home, Key::End]
        );
        assert_eq!(read(b"jR?"), [Key::Letter('j'), Key::Letter('R'), Key::Letter('?')]);
        assert_eq!(read(b"\x03\x1a\x0c"), [Key::Interrupt, Key::Suspend, Key::Repaint]);
        assert_eq!(read(b"\x1b"), [Key::Escape]);
    }

    #[test]
    fn an_unknown_sequence_is_no_key() {
        for bytes in [
            &b"\x1b[1;5A"[..],
            b"\x1b[?1;2c",
            b"\x1b[2~",
            b"\x1bOP",
            b"\x1br",
            b"\x1b[",
            "ä\r\n".as_bytes(),
        ] {
            assert_eq!(read(bytes), [], "{bytes:?}");
        }
        assert_eq!(read(b"\x1b[15~r"), [Key::Letter('r')]);
    }

    #[test]
    fn a_split_sequence_is_recognized() {
        for bytes in [&b"\x1b"[..], b"j\x1b", b"\x1b[", b"\x1bO", b"\x1b[5"] {
            assert!(is_cut(bytes), "{bytes:?}");
        }
        for bytes in [&b""[..], b"q", b"\x1b[A", b"\x1b[5~", b"\x1bOB", b"\x1b[Aq"] {
            assert!(!is_cut(bytes), "{bytes:?}");
        }
    }
}
