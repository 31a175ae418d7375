//! What the header fields say about the message itself: framing, persistence, expectation, and which fields
//! that may come only once have come.
//!
//! Both parsers of a head, for one piece and for many, feed it field by field in the same order, so they
//! cannot reach different results.

use crate::http::byte_class;
use crate::http::framing::{self, Framing, TransferCoding};
use crate::http::head_error::HeadError;
use crate::http::host;
use crate::http::version::Version;
use crate::settings::HeaderMap;

/// What the fields read so far have said.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// One bit for each [`RequestField`] that has come.
    seen: u32,
    content_length: Option<u64>,
    coding: TransferCoding,
    connection: ConnectionOption,
    expects_continue: bool,
    /// The number of fields dropped because of `_` in their name.
    pub(super) dropped_count: u32,
}

/// The persistence that `Connection` asks for (RFC 9112 §9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ConnectionOption {
    #[default]
    Absent,
    KeepAlive,
    /// Takes precedence over `keep-alive`, in any order.
    Close,
}

/// Whether the application sees a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldFate {
    Kept,
    Dropped,
}

/// A field that has a meaning for the server.
///
/// Connection, Expect and Transfer-Encoding are lists. The others may come only once: they decide where a
/// body ends and what it is, where the request goes, who sends it, and whether it may overwrite somebody
/// else's change. Two of them, joined with a comma as in the environ, would be neither value, and a proxy's
/// check and the application could each pick a different one.
///
/// Other fields that are not lists (RFC 9110 §5.3), such as User-Agent, Referer and Date, decide none of
/// this. Other servers accept them more than once, so they are joined as if they were lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestField {
    Authorization,
    Connection,
    ContentLength,
    ContentRange,
    ContentType,
    Expect,
    Host,
    IfUnmodifiedSince,
    Origin,
    ProxyAuthorization,
    TransferEncoding,
}

impl RequestField {
    /// Returns the field of this name. Length and first letter leave one candidate, so there is at most one
    /// comparison.
    #[inline]
    fn of(name: &[u8]) -> Option<Self> {
        let (candidate, text): (Self, &[u8]) = match (name.len(), name.first()? | 0x20) {
            (4, b'h') => (Self::Host, b"host"),
            (6, b'e') => (Self::Expect, b"expect"),
            (6, b'o') => (Self::Origin, b"origin"),
            (10, b'c') => (Self::Connection, b"connection"),
            (12, b'c') => (Self::ContentType, b"content-type"),
            (13, b'a') => (Self::Authorization, b"authorization"),
            (13, b'c') => (Self::ContentRange, b"content-range"),
            (14, b'c') => (Self::ContentLength, b"content-length"),
            (17, b't') => (Self::TransferEncoding, b"transfer-encoding"),
            (19, b'p') => (Self::ProxyAuthorization, b"proxy-authorization"),
            (19, b'i') => (Self::IfUnmodifiedSince, b"if-unmodified-since"),
            _ => return None,
        };
        byte_class::is_name(name, text).then_some(candidate)
    }
}

/// Whether the name has an underscore: in the environ, it would look like the name with `-` instead.
///
/// Every field passes this test, so it reads eight bytes at a time. With a browser's 17 fields,
/// [`Facts::note`] then takes a fifth fewer instructions than with `contains` (callgrind).
#[inline]
pub(super) fn is_ambiguous(name: &[u8]) -> bool {
    const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    // The borrow of the subtraction reaches the high bit of the lowest zero byte and of no byte below it, so
    // the answer for the whole word is exact.
    let has_underscore = |word: &[u8; 8]| {
        let difference = u64::from_ne_bytes(*word) ^ u64::from_ne_bytes([b'_'; 8]);
        difference.wrapping_sub(LOW_BITS) & !difference & HIGH_BITS != 0
    };
    match name.last_chunk() {
        None => name.contains(&b'_'),
        Some(tail) => has_underscore(tail) || name.as_chunks().0.iter().any(has_underscore),
    }
}

impl Facts {
    /// Takes note of one field. The name is a token, and the value is trimmed.
    #[inline]
    pub(super) fn note(
        &mut self,
        name: &[u8],
        value: &[u8],
        version: Version,
        header_map: HeaderMap,
    ) -> Result<FieldFate, HeadError> {
        if is_ambiguous(name) {
            return match header_map {
                HeaderMap::Refuse => Err(HeadError::Underscore),
                HeaderMap::Drop => {
                    self.dropped_count += 1;
                    Ok(FieldFate::Dropped)
                }
            };
        }
        if let Some(known) = RequestField::of(name) {
            self.note_request_field(known, value, version)?;
        }
        Ok(FieldFate::Kept)
    }

    #[inline]
    fn note_request_field(
        &mut self,
        known: RequestField,
        value: &[u8],
        version: Version,
    ) -> Result<(), HeadError> {
        match known {
            // Lists may come any number of times.
            RequestField::Connection => return self.note_connection(value),
            RequestField::Expect => return self.note_expectation(value, version),
            RequestField::TransferEncoding => {
                self.coding = self.coding.with(value)?;
                return Ok(());
            }
            RequestField::ContentLength => {
                self.content_length = Some(framing::content_length(value)?);
            }
            RequestField::Host => {
                if !host::is_host_port(value) {
                    return Err(HeadError::BadHost);
                }
            }
            RequestField::Authorization
            | RequestField::ContentRange
            | RequestField::ContentType
            | RequestField::IfUnmodifiedSince
            | RequestField::Origin
            | RequestField::ProxyAuthorization => {}
        }
        let bit = bit(known);
        if self.seen & bit != 0 {
            return Err(HeadError::Repeated);
        }
        self.seen |= bit;
        Ok(())
    }

    fn note_connection(&mut self, value: &[u8]) -> Result<(), HeadError> {
        for option in value.split(|&byte| byte == b',') {
            let option = byte_class::trim(option);
            if option.eq_ignore_ascii_case(b"close") {
                self.connection = ConnectionOption::Close;
            } else if self.connection == ConnectionOption::Absent
                && option.eq_ignore_ascii_case(b"keep-alive")
            {
                self.connection = ConnectionOption::KeepAlive;
            }
        }
        Ok(())
    }

    /// Reads Expect, which HTTP/1.0 ignores; an expectation other than `100-continue` may get 417 (RFC 9110
    /// §10.1.1). It is a list, so empty elements and an empty field mean nothing (§5.6.1.2). Quoted strings
    /// need no parsing, because no known expectation has one.
    fn note_expectation(&mut self, value: &[u8], version: Version) -> Result<(), HeadError> {
        if version == Version::Http10 {
            return Ok(());
        }
        for expectation in value.split(|&byte| byte == b',').map(byte_class::trim) {
            if expectation.eq_ignore_ascii_case(b"100-continue") {
                self.expects_continue = true;
            } else if !expectation.is_empty() {
                return Err(HeadError::UnknownExpectation);
            }
        }
        Ok(())
    }

    /// Checks the head as a whole: first Host, then the framing.
    #[inline]
    pub(super) fn framing(&self, version: Version) -> Result<Framing, HeadError> {
        if version == Version::Http11 && self.seen & bit(RequestField::Host) == 0 {
            return Err(HeadError::NoHost);
        }
        Framing::of_request(self.coding, self.content_length, version)
    }

    /// Whether the client wants the connection to persist: the default in HTTP/1.1, on request in 1.0.
    #[inline]
    pub(super) fn keeps_alive(&self, version: Version) -> bool {
        match self.connection {
            ConnectionOption::Close => false,
            ConnectionOption::KeepAlive => true,
            ConnectionOption::Absent => version == Version::Http11,
        }
    }

    /// Whether the client waits for `100 Continue`.
    #[inline]
    pub(super) fn expects_continue(&self) -> bool {
        self.expects_continue
    }
}

#[inline]
fn bit(known: RequestField) -> u32 {
    1 << known as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_underscore_is_found_at_any_position() {
        for length in 1..40 {
            // Bytes that differ from `_` in one bit, or by one.
            for filler in [b'-', b'a', b'^', b'`', b'O', b'~', b'W', b'!'] {
                let mut name = vec![filler; length];
                assert!(!is_ambiguous(&name));
                for at in 0..length {
                    name[at] = b'_';
                    assert!(is_ambiguous(&name), "{length} {at}");
                    name[at] = filler;
                }
            }
        }
    }

    #[test]
    fn a_field_is_recognized_by_its_full_name_in_any_case() {
        assert_eq!(RequestField::of(b"hOST"), Some(RequestField::Host));
        assert_eq!(RequestField::of(b"TRANSFER-encoding"), Some(RequestField::TransferEncoding));
        for other in
            ["", "h", "hosT2", "host-", "Content_Length", "Content\rLength", "\u{8}ost", "Hast"]
        {
            assert_eq!(RequestField::of(other.as_bytes()), None, "{other:?}");
        }
    }
}
