//! The file that a response of the application names.
//!
//! | field | value | as in |
//! |---|---|---|
//! | `X-Sendfile` | a path as it is: absolute, below `--sendfile-root`, or relative to it | Apache, lighttpd |
//! | `X-Accel-Redirect` | the path of a URL, percent-encoded; `/a/b` is `a/b` in `--sendfile-root` | nginx |
//!
//! Both obey the rules of [`super::request_path`]: an application may take a part of the name from a client.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::request_path::{DecodedPath, below, plain_name};
use super::root::OpenError;
use crate::http::ResponseHead;

/// The name, relative to the directory.
///
/// Errors: [`OpenError::Name`].
pub(super) fn named_file(root: &Path, head: &ResponseHead) -> Result<String, OpenError> {
    let name = match (head.find("x-sendfile"), head.find("x-accel-redirect")) {
        (Some(path), _) => of_path(root, path).map(str::to_owned),
        (None, Some(url)) => of_url(url),
        (None, None) => None,
    };
    name.ok_or(OpenError::Name)
}

/// What the application wrote, for the log.
pub(super) fn named_path(head: &ResponseHead) -> PathBuf {
    let named = head.find("x-sendfile").or_else(|| head.find("x-accel-redirect"));
    PathBuf::from(OsStr::from_bytes(named.unwrap_or_default()))
}

fn of_path<'a>(root: &Path, path: &'a [u8]) -> Option<&'a str> {
    if !path.starts_with(b"/") {
        return plain_name(path);
    }
    let root = root.as_os_str().as_bytes();
    let root = root.strip_suffix(b"/").unwrap_or(root);
    plain_name(below(path, root)?.strip_prefix(b"/")?)
}

fn of_url(url: &[u8]) -> Option<String> {
    let path = url.split(|&byte| byte == b'?').next().unwrap_or_default();
    let decoded = DecodedPath::of(path);
    decoded.file_name(decoded.bytes()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(field: &str, value: &str) -> Option<String> {
        let mut head = ResponseHead::default();
        head.start(b"200 OK").unwrap();
        head.add(field.as_bytes(), value.as_bytes()).unwrap();
        named_file(Path::new("/srv/files"), &head).ok()
    }

    #[test]
    fn x_sendfile_is_a_path_below_the_directory() {
        for (value, expected) in [
            ("/srv/files/a/b.pdf", Some("a/b.pdf")),
            ("a/b.pdf", Some("a/b.pdf")),
            ("a%20b", Some("a%20b")),
            ("caf\u{e9}", Some("caf\u{e9}")),
            ("/srv/filesystem/a", None),
            ("/srv/files", None),
            ("/srv/files/", None),
            ("/srv/files/../secret", None),
            ("../secret", None),
            ("/etc/passwd", None),
            (".env", None),
            ("a//b", None),
            ("", None),
        ] {
            assert_eq!(name("X-Sendfile", value).as_deref(), expected, "{value:?}");
        }
    }

    #[test]
    fn x_accel_redirect_is_the_path_of_a_url() {
        for (value, expected) in [
            ("/a/b.pdf", Some("a/b.pdf")),
            ("/a%20b?x=1", Some("a b")),
            ("/caf%C3%A9", Some("caf\u{e9}")),
            ("a", None),
            ("/%2e%2e/secret", None),
            ("/a%2fb", None),
            ("http://host/a", None),
            ("@named", None),
            ("", None),
        ] {
            assert_eq!(name("X-Accel-Redirect", value).as_deref(), expected, "{value:?}");
        }
    }
}
