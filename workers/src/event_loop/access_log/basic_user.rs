//! The user of Basic authentication (RFC 7617), read as gunicorn reads it.

/// The user that an Authorization field names, if it is one of Basic authentication and the name is UTF-8.
pub(super) fn basic_user(field: &[u8]) -> Option<String> {
    let scheme = field.get(..5)?;
    if !scheme.eq_ignore_ascii_case(b"basic") {
        return None;
    }
    let space = memchr::memchr(b' ', field)?;
    let credentials = decoded(&field[space + 1..])?;
    let end = memchr::memchr(b':', &credentials).unwrap_or(credentials.len());
    let user = std::str::from_utf8(&credentials[..end]).ok()?;
    (!user.is_empty()).then(|| user.to_owned())
}

/// Decodes base64 as Python's `b64decode` does: bytes outside of the alphabet are skipped, the padding ends the text,
/// and an incomplete group is an error.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    // The digits of the group, and the bits of the last one that are still to be written.
    let (mut digits, mut rest, mut pads) = (0, 0, 0);
    for &byte in text {
        let digit = match byte {
            b'=' if digits >= 2 => {
                pads += 1;
                if digits + pads >= 4 {
                    return Some(out);
                }
                continue;
            }
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => continue,
        };
        pads = 0;
        match digits {
            0 => {}
            1 => out.push(rest << 2 | digit >> 4),
            2 => out.push(rest << 4 | digit >> 2),
            _ => out.push(rest << 6 | digit),
        }
        rest = digit;
        digits = (digits + 1) % 4;
    }
    (digits == 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_what_stands_before_the_colon() {
        for (field, user) in [
            ("Basic dXNlcjpwYXNz", Some("user")),
            ("basic dXNlcjpwYXNz", Some("user")),
            ("BASIC  dXNlcjpwYXNz ", Some("user")),
            ("Basic dXNlcg==", Some("user")),
            ("Basic dX*Nlcjpw-YXNz", Some("user")),
            ("Basic w7w6eA==", Some("ü")),
            ("Basic w7w6eA==ignored", Some("ü")),
            ("Basic OnBhc3M=", None),
            ("Basic", None),
            ("Basic ", None),
            ("Basic dXNlcg", None),
            ("Basic dXNlcg=", None),
            ("Basic dXNlc", None),
            ("Basic /zpw", None),
            ("Bearer dXNlcjpwYXNz", None),
            ("", None),
        ] {
            assert_eq!(basic_user(field.as_bytes()).as_deref(), user, "{field}");
        }
    }
}
