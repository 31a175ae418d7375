//! Which mount a request belongs to, and which file below it: pure, from the path of a request to a relative name.
//!
//! A path is decoded once. It names a file only if every part of it is a plain name, so that nothing depends on how
//! the file system or a proxy would understand anything else: no empty part, no part that begins with a dot (which
//! `.`, `..` and hidden files have in common), no encoded slash, no backslash, no control character, and only UTF-8.
//! The kernel checks in addition that the file lies below the directory
//! ([`open_beneath`](crate::shared::fd::file::open_beneath)).

use std::borrow::Cow;

/// A path with its percent-encoding decoded.
pub(super) struct DecodedPath<'a> {
    bytes: Cow<'a, [u8]>,
    /// Whether each `%` began an encoded byte, and none of these was a slash.
    is_plain: bool,
}

impl<'a> DecodedPath<'a> {
    /// Decodes the path of a request. What is no encoding stays as it is, as it does for the application.
    pub(super) fn of(path: &'a [u8]) -> Self {
        let Some(first) = memchr::memchr(b'%', path) else {
            return Self { bytes: path.into(), is_plain: true };
        };
        let mut bytes = Vec::with_capacity(path.len());
        bytes.extend_from_slice(&path[..first]);
        let (mut rest, mut is_plain) = (&path[first..], true);
        while let Some((&byte, tail)) = rest.split_first() {
            let encoded = match (byte, tail) {
                (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
                (_, _) => None,
            };
            match encoded {
                Some((high, low)) => {
                    let decoded = high << 4 | low;
                    is_plain &= decoded != b'/';
                    bytes.push(decoded);
                    rest = &tail[2..];
                }
                None => {
                    is_plain &= byte != b'%';
                    bytes.push(byte);
                    rest = tail;
                }
            }
        }
        Self { bytes: bytes.into(), is_plain }
    }

    /// The decoded bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The name of the file below a mount, relative to its directory; `None` if the path can name no file. `rest` is
    /// the part of the decoded path behind the prefix of the mount.
    pub(super) fn file_name<'p>(&self, rest: &'p [u8]) -> Option<&'p str> {
        if self.is_plain { plain_name(rest.strip_prefix(b"/")?) } else { None }
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Checks a relative name of which every part is plain.
pub(super) fn plain_name(name: &[u8]) -> Option<&str> {
    let is_odd = |byte: &u8| byte.is_ascii_control() || *byte == b'\\';
    if name.iter().any(is_odd) || !name.split(|&byte| byte == b'/').all(is_plain_part) {
        return None;
    }
    std::str::from_utf8(name).ok()
}

fn is_plain_part(part: &[u8]) -> bool {
    !part.is_empty() && !part.starts_with(b".")
}

/// The part of a path behind a prefix, which is empty or starts with a slash; `None` if the path is not below it.
pub(super) fn below<'a>(path: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Option<String> {
        let decoded = DecodedPath::of(path.as_bytes());
        let rest = below(decoded.bytes(), b"/s").expect("the path is below the prefix");
        decoded.file_name(rest).map(str::to_owned)
    }

    #[test]
    fn a_plain_path_names_a_file() {
        for (path, expected) in [
            ("/s/a.css", "a.css"),
            ("/s/a/b/c.js", "a/b/c.js"),
            ("/%73/a%20b.css", "a b.css"),
            ("/s/caf%C3%A9.txt", "café.txt"),
            ("/s/100%25.txt", "100%.txt"),
            ("/s/%252e%252e/x", "%2e%2e/x"),
            ("/s/a..b", "a..b"),
            ("/s/a.", "a."),
        ] {
            assert_eq!(name(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn a_hostile_path_names_none() {
        for path in [
            "/s",
            "/s/",
            "/s//a",
            "/s/a/",
            "/s/a//b",
            "/s/.",
            "/s/..",
            "/s/../a",
            "/s/a/../b",
            "/s/a/..",
            "/s/%2e%2e/a",
            "/s/%2E./a",
            "/s/.%2e/a",
            "/s/.env",
            "/s/a/.git/config",
            "/s/%2eenv",
            "/s/a%2fb",
            "/s/..%2fa",
            "/s%2fa",
            "/s/a%5cb",
            "/s/..%5c..%5ca",
            "/s/a%00.css",
            "/s/a%0a",
            "/s/a%7f",
            "/s/%c0%ae%c0%ae/a",
            "/s/%e0%80%ae/a",
            "/s/%ff",
            "/s/a%",
            "/s/a%4",
            "/s/a%zz",
            "/s/%u002e/a",
        ] {
            assert_eq!(name(path), None, "{path}");
        }
    }

    #[test]
    fn a_prefix_ends_where_a_part_of_the_path_ends() {
        assert_eq!(below(b"/static", b"/static"), Some(&b""[..]));
        assert_eq!(below(b"/static/a", b"/static"), Some(&b"/a"[..]));
        assert_eq!(below(b"/staticx", b"/static"), None);
        assert_eq!(below(b"/stat", b"/static"), None);
    }
}
