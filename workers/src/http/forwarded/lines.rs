//! The forwarded headers of a head, line by line, and the values of those that are not written by hop.

use super::scheme::Scheme;
use crate::http::byte_class;
use crate::http::forwarded_error::ForwardedError;
use crate::http::head::Head;
use crate::http::host;
use crate::settings::{ForwardedHeader, ForwardedHeaders};

/// The forwarded headers of a head.
#[derive(Clone, Copy)]
pub(super) struct Lines<'a> {
    pub(super) head: &'a Head,
    pub(super) head_bytes: &'a [u8],
}

impl<'a> Lines<'a> {
    /// Those of `headers` that the head has.
    pub(super) fn sent(self, headers: ForwardedHeaders) -> ForwardedHeaders {
        let names = self.head.fields.iter().map(|field| field.name.of(self.head_bytes));
        names.filter_map(header_of).filter(|header| headers.has(*header)).collect()
    }

    /// The values of a header, the last one first.
    pub(super) fn of(self, header: ForwardedHeader) -> impl Iterator<Item = &'a [u8]> {
        let fields = self.head.fields.iter().rev();
        fields
            .filter(move |field| header_of(field.name.of(self.head_bytes)) == Some(header))
            .map(move |field| field.value.of(self.head_bytes))
    }

    /// The elements of a header that is a list without quoted strings, the last one first, without empty ones.
    pub(super) fn elements(self, header: ForwardedHeader) -> impl Iterator<Item = &'a [u8]> {
        let elements = self.of(header).flat_map(|line| line.rsplit(|&byte| byte == b','));
        elements.map(byte_class::trim).filter(|element| !element.is_empty())
    }

    /// The one value of a header. If it is repeated, all values have to be equal, after `read`.
    fn one<T: PartialEq>(
        self,
        header: ForwardedHeader,
        read: impl Fn(&'a [u8]) -> Option<T>,
        (malformed, several): (ForwardedError, ForwardedError),
    ) -> Result<Option<T>, ForwardedError> {
        let mut found = None;
        for element in self.elements(header) {
            let value = read(element).ok_or(malformed)?;
            match &found {
                Some(before) if *before != value => return Err(several),
                Some(_) => {}
                None => found = Some(value),
            }
        }
        Ok(found)
    }

    pub(super) fn scheme(self) -> Result<Option<Scheme>, ForwardedError> {
        let errors = (ForwardedError::BadProto, ForwardedError::SeveralProtos);
        self.one(ForwardedHeader::XForwardedProto, Scheme::of, errors)
    }

    pub(super) fn host(self) -> Result<Option<Box<[u8]>>, ForwardedError> {
        let read = |text: &'a [u8]| host::is_host_port(text).then_some(text);
        let errors = (ForwardedError::BadHost, ForwardedError::SeveralHosts);
        Ok(self.one(ForwardedHeader::XForwardedHost, read, errors)?.map(Into::into))
    }

    pub(super) fn port(self) -> Result<Option<u16>, ForwardedError> {
        let errors = (ForwardedError::BadPort, ForwardedError::SeveralPorts);
        self.one(ForwardedHeader::XForwardedPort, port, errors)
    }

    pub(super) fn prefix(self) -> Result<Option<Box<[u8]>>, ForwardedError> {
        let errors = (ForwardedError::BadPrefix, ForwardedError::SeveralPrefixes);
        Ok(self.one(ForwardedHeader::XForwardedPrefix, prefix, errors)?.map(Into::into))
    }

    /// The host that the request itself names.
    pub(super) fn own_host(self) -> Option<&'a [u8]> {
        match self.head.authority {
            Some(authority) => Some(authority.of(self.head_bytes)),
            None => self.head.find(self.head_bytes, "host"),
        }
    }
}

/// Returns the forwarded header of this name. Length and first letter leave one candidate.
pub(super) fn header_of(name: &[u8]) -> Option<ForwardedHeader> {
    let candidate = match (name.len(), name.first()? | 0x20) {
        (9, b'f') => ForwardedHeader::Forwarded,
        (15, b'x') => ForwardedHeader::XForwardedFor,
        (16, b'x') => match name.last()? | 0x20 {
            b't' => match name[12] | 0x20 {
                b'h' => ForwardedHeader::XForwardedHost,
                _ => ForwardedHeader::XForwardedPort,
            },
            _ => return None,
        },
        (17, b'x') => ForwardedHeader::XForwardedProto,
        (18, b'x') => ForwardedHeader::XForwardedPrefix,
        _ => return None,
    };
    byte_class::is_name(name, candidate.lower().as_bytes()).then_some(candidate)
}

fn port(text: &[u8]) -> Option<u16> {
    let number = Some(text).filter(|text| text.len() <= 5).and_then(byte_class::decimal)?;
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// Reads a path as `--root-path` has it, with a slash at its end or without one. `/` is the empty prefix.
fn prefix(text: &[u8]) -> Option<&[u8]> {
    let is_plain = text.iter().all(|&byte| byte.is_ascii_graphic() && !b"?#\"%\\".contains(&byte));
    let has_empty_segment = text.windows(2).any(|pair| pair == b"//");
    let has_dots = text.split(|&byte| byte == b'/').any(|segment| matches!(segment, b"." | b".."));
    if !text.starts_with(b"/") || !is_plain || has_empty_segment || has_dots {
        return None;
    }
    Some(text.strip_suffix(b"/").unwrap_or(text))
}
