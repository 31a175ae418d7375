//! What was read of a refused request, for the log: a copy, because the request itself is discarded.

use crate::http::TraceId;
use crate::http::byte_class;
use crate::http::version::Version;

/// The parts of a head that a log names, as far as they were read. Never larger than the limit of a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialHead {
    /// The method, if it was read completely.
    pub method: Option<Box<[u8]>>,
    /// The path of the target without the query; it may be cut off at the offense.
    pub path: Option<Box<[u8]>>,
    /// The version, if the request line is valid.
    pub version: Option<Version>,
    /// The value of `Referer`.
    pub referer: Option<Box<[u8]>>,
    /// The value of `User-Agent`.
    pub user_agent: Option<Box<[u8]>>,
    /// The trace that `traceparent` names, if the whole head was read.
    pub trace: Option<TraceId>,
}

impl PartialHead {
    /// Takes note of one line, which is known to be `name ":" value`. Of two fields with the same name, the
    /// first one counts.
    pub(super) fn note_field(&mut self, line: &[u8]) {
        let Some(colon) = memchr::memchr(b':', line) else { return };
        let (name, value) = (&line[..colon], byte_class::trim(&line[colon + 1..]));
        if byte_class::is_name(name, b"user-agent") {
            self.user_agent.get_or_insert_with(|| value.into());
        } else if byte_class::is_name(name, b"referer") {
            self.referer.get_or_insert_with(|| value.into());
        }
    }
}

/// Whether a target was read completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    CutOff,
}

/// Returns the path of a target that was not found valid. A target with an authority may have a password
/// before its `@`, which may not have been read yet, so it is shown only if it is complete and has no `@`.
pub(super) fn path_of(target: &[u8], extent: Extent) -> Option<&[u8]> {
    let end = memchr::memchr2(b'?', b'#', target).unwrap_or(target.len());
    let path = &target[..end];
    let is_harmless = match (path.first()?, extent) {
        (b'/', _) => true,
        (_, Extent::Whole) => memchr::memchr(b'@', path).is_none(),
        (_, Extent::CutOff) => false,
    };
    is_harmless.then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Head, HeadError, HeadScan};
    use crate::settings::{HeaderMap, Limits};

    fn refuse(input: &[u8], limits: &Limits) -> (Result<(), HeadError>, PartialHead) {
        let mut scan = HeadScan::default();
        let outcome = Head::new().parse(input, &mut scan, limits, HeaderMap::Drop).map(drop);
        (outcome, scan.to_partial(input))
    }

    /// Returns method, path, version, Referer and User-Agent.
    #[track_caller]
    fn read(input: &str) -> [Option<String>; 5] {
        let (outcome, part) = refuse(input.as_bytes(), &Limits::default());
        assert!(outcome.is_err(), "{input:?}");
        let text = |bytes: Option<Box<[u8]>>| {
            bytes.map(|bytes| String::from_utf8(bytes.into_vec()).unwrap())
        };
        let version = part.version.map(|version| format!("{version:?}"));
        [text(part.method), text(part.path), version, text(part.referer), text(part.user_agent)]
    }

    fn known<const N: usize>(parts: [&str; N]) -> [Option<String>; 5] {
        std::array::from_fn(|index| {
            parts.get(index).filter(|part| !part.is_empty()).map(ToString::to_string)
        })
    }

    #[test]
    fn a_request_line_is_read_up_to_its_offense() {
        assert_eq!(read("\u{16}\u{3}\u{1}"), known([]));
        assert_eq!(read("GE\0T / HTTP/1.1\r\n"), known([]));
        assert_eq!(read("GET /a\0b HTTP/1.1\r\n"), known(["GET", "/a"]));
        assert_eq!(read("GET /a?b\0 HTTP/1.1\r\n"), known(["GET", "/a"]));
        assert_eq!(read("GET /a\r\n"), known(["GET", "/a"]));
        assert_eq!(read("GET /a HTTP/x\r\n"), known(["GET", "/a"]));
        assert_eq!(read("GET /a HTTP/2.0\r\n"), known(["GET", "/a"]));
    }

    #[test]
    fn fields_are_read_up_to_the_line_with_the_offense() {
        let line = "GET http://h/a?b HTTP/1.1\r\n";
        let named = "User-Agent: me\r\nrefereR:  /x \r\nuser-agent: you\r\n";
        let all = known(["GET", "/a", "Http11", "/x", "me"]);
        assert_eq!(read(&format!("{line}{named}\r\n")), all, "Host is missing");
        assert_eq!(read(&format!("{line}{named}X : y\r\n")), all);
        assert_eq!(
            read(&format!("{line}Host: a\r\nhost: a\r\n{named}\r\n")),
            known(["GET", "/a", "Http11"]),
            "the offense precedes them"
        );
        assert_eq!(read(&format!("{line}User-Agent: m\0\r\n")), known(["GET", "/a", "Http11"]));
    }

    #[test]
    fn an_invalid_target_shows_no_password() {
        assert_eq!(read("GET http://me:secret@h/ HTTP/1.1\r\n"), known(["GET"]));
        assert_eq!(read("GET http://me:sec\0ret@h/ HTTP/1.1\r\n"), known(["GET"]));
        assert_eq!(read("CONNECT me:secret@h:443 HTTP/1.1\r\n"), known(["CONNECT"]));
        assert_eq!(read("CONNECT h:443 HTTP/1.1\r\n"), known(["CONNECT", "h:443"]));
        assert_eq!(read("GET /@a HTTP/9.9\r\n"), known(["GET", "/@a"]));
        assert_eq!(read("GET ?secret HTTP/1.1\r\n"), known(["GET"]));
    }

    #[test]
    fn a_head_at_a_limit_is_read_up_to_it() {
        let limits = Limits { request_line_bytes: 8, ..Limits::default() };
        let (outcome, part) = refuse(b"GET /234567 HTTP/1.1\r\n", &limits);
        assert_eq!(outcome, Err(HeadError::RequestLineTooLong));
        assert_eq!(part.path.as_deref(), Some(&b"/234"[..]));
    }
}
