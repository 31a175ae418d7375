//! What the fields of a head say about the message itself, gathered field by field: framing,
//! persistence, expectation, and which fields came that may come only once.
//!
//! Both ways through a head, in one piece and in many, feed it in the order of the fields, so they
//! cannot come to different answers.

use crate::http::byte_class;
use crate::http::framing::{self, Framing, TransferCoding};
use crate::http::head_error::HeadError;
use crate::http::host;
use crate::http::version::Version;
use crate::settings::HeaderMap;

/// What has been said so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// One bit for each [`Known`] that came.
    seen: u32,
    content_length: Option<u64>,
    coding: TransferCoding,
    wish: Wish,
    expects_continue: bool,
    /// Fields left out because of `_` in their name.
    pub(super) dropped_count: u32,
}

/// What `Connection` asks for (RFC 9112 §9.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    Unsaid,
    KeepAlive,
    /// Wins over the other, wherever it stands.
    Close,
}

/// What becomes of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    Dropped,
}

/// A field that means something here.
///
/// Connection, Expect and Transfer-Encoding are lists. The others may come once: they steer where a
/// body ends and what it is, where the request goes, who sends it, and whether it may overwrite what
/// somebody else has changed. Joined with a comma, as environ would have them, two of them are neither
/// the one nor the other, and which of the two a reader takes is how a proxy's check and the
/// application's differ.
///
/// The remaining fields that are no lists (RFC 9110 §5.3), such as User-Agent, Referer and Date, steer
/// nothing of the kind. Other servers accept two of them, so they are joined as if they were lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
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

impl Known {
    /// The field of this name. The length and the first letter leave one candidate, so at most one
    /// comparison is made.
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

/// Whether environ could not tell the name from the one with `-` in the same places.
///
/// Asked of every field, so eight bytes at a time: a fifth less in [`Facts::note`] than
/// `contains`, counted with callgrind on a browser's 17 fields.
#[inline]
pub(super) fn is_ambiguous(name: &[u8]) -> bool {
    const LOW_BITS: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH_BITS: u64 = u64::from_ne_bytes([0x80; 8]);
    // The borrow of a subtraction reaches the high bit of the lowest byte that is zero, and of no
    // byte below it: the answer for the word is exact.
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
    /// Takes in one field, its name a token and its value trimmed.
    #[inline]
    pub(super) fn note(
        &mut self,
        name: &[u8],
        value: &[u8],
        version: Version,
        header_map: HeaderMap,
    ) -> Result<Fate, HeadError> {
        if is_ambiguous(name) {
            return match header_map {
                HeaderMap::Refuse => Err(HeadError::Underscore),
                HeaderMap::Drop => {
                    self.dropped_count += 1;
                    Ok(Fate::Dropped)
                }
            };
        }
        if let Some(known) = Known::of(name) {
            self.note_known(known, value, version)?;
        }
        Ok(Fate::Kept)
    }

    #[inline]
    fn note_known(
        &mut self,
        known: Known,
        value: &[u8],
        version: Version,
    ) -> Result<(), HeadError> {
        match known {
            // Lists: any number of them.
            Known::Connection => return self.note_connection(value),
            Known::Expect => return self.note_expectation(value, version),
            Known::TransferEncoding => {
                self.coding = self.coding.with(value)?;
                return Ok(());
            }
            Known::ContentLength => {
                self.content_length = Some(framing::content_length(value)?);
            }
            Known::Host => {
                if !host::is_host_port(value) {
                    return Err(HeadError::BadHost);
                }
            }
            Known::Authorization
            | Known::ContentRange
            | Known::ContentType
            | Known::IfUnmodifiedSince
            | Known::Origin
            | Known::ProxyAuthorization => {}
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
                self.wish = Wish::Close;
            } else if self.wish == Wish::Unsaid && option.eq_ignore_ascii_case(b"keep-alive") {
                self.wish = Wish::KeepAlive;
            }
        }
        Ok(())
    }

    /// RFC 9110 §10.1.1: Expect is ignored in HTTP/1.0, and an expectation other than `100-continue`
    /// may get 417. It is a list: empty elements, and so an empty field, say nothing (§5.6.1.2). No
    /// quoted string needs to be looked into, because no expectation with one is known.
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

    /// Judges the head as a whole, in this order: Host, then framing.
    #[inline]
    pub(super) fn framing(&self, version: Version) -> Result<Framing, HeadError> {
        if version == Version::Http11 && self.seen & bit(Known::Host) == 0 {
            return Err(HeadError::NoHost);
        }
        Framing::of_request(self.coding, self.content_length, version)
    }

    /// Whether the client lets the connection live on: asked for in HTTP/1.0, the rule in 1.1.
    #[inline]
    pub(super) fn keeps_alive(&self, version: Version) -> bool {
        match self.wish {
            Wish::Close => false,
            Wish::KeepAlive => true,
            Wish::Unsaid => version == Version::Http11,
        }
    }

    /// Whether `100 Continue` was asked for.
    #[inline]
    pub(super) fn expects_continue(&self) -> bool {
        self.expects_continue
    }
}

#[inline]
fn bit(known: Known) -> u32 {
    1 << known as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_underscore_is_found_wherever_it_stands() {
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
    fn a_field_is_known_by_its_whole_name_in_any_case() {
        assert_eq!(Known::of(b"hOST"), Some(Known::Host));
        assert_eq!(Known::of(b"TRANSFER-encoding"), Some(Known::TransferEncoding));
        for other in
            ["", "h", "hosT2", "host-", "Content_Length", "Content\rLength", "\u{8}ost", "Hast"]
        {
            assert_eq!(Known::of(other.as_bytes()), None, "{other:?}");
        }
    }
}
