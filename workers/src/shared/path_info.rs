//! The path of a request as the application sees it: percent-decoded once, without SCRIPT_NAME.

use std::borrow::Cow;

/// Decodes `%XX` once. A `%` without two hex digits after it stays as it is.
pub fn percent_decoded(path: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', path).is_none() {
        return Cow::Borrowed(path);
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = memchr::memchr(b'%', rest) {
        decoded.extend_from_slice(&rest[..at]);
        let digits = rest.get(at + 1..at + 3).and_then(|pair| Some((hex(pair[0])?, hex(pair[1])?)));
        match digits {
            Some((high, low)) => {
                decoded.push(high << 4 | low);
                rest = &rest[at + 3..];
            }
            None => {
                decoded.push(b'%');
                rest = &rest[at + 1..];
            }
        }
    }
    decoded.extend_from_slice(rest);
    Cow::Owned(decoded)
}

/// Returns the value of a hex digit.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Returns the path below SCRIPT_NAME, or the whole path if it is not below: this supports proxies that strip the
/// prefix and proxies that do not.
pub fn below_root<'a>(path: &'a [u8], root_path: &[u8]) -> &'a [u8] {
    match path.strip_prefix(root_path) {
        Some(rest) if rest.is_empty() || rest.starts_with(b"/") => rest,
        Some(_) | None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_decoded_once() {
        for (path, decoded) in [
            ("/a", "/a"),
            ("/%61b%2fc", "/ab/c"),
            ("/%2561", "/%61"),
            ("/100%", "/100%"),
            ("/%zz%4/%", "/%zz%4/%"),
            ("%%41%4a%4A", "%AJJ"),
            ("/%+1", "/%+1"),
            ("", ""),
        ] {
            assert_eq!(percent_decoded(path.as_bytes()), decoded.as_bytes(), "{path}");
        }
        assert_eq!(percent_decoded(b"/%ff"), &b"/\xff"[..]);
    }

    #[test]
    fn a_root_path_ends_at_a_segment() {
        for (path, below) in
            [("/shop/a", "/a"), ("/shop", ""), ("/shops", "/shops"), ("/a", "/a"), ("*", "*")]
        {
            assert_eq!(below_root(path.as_bytes(), b"/shop"), below.as_bytes(), "{path}");
        }
        assert_eq!(below_root(b"/a", b""), b"/a");
    }
}
