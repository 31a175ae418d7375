//! How single values are written, whatever the format of the line.

use std::io::Write;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::connection::ClientName;
use crate::http::Version;
use crate::shared::log::escape::{Style, cut, escape};

/// The maximum length of a value before escaping, which makes at most six bytes of one.
const VALUE_BYTES: usize = 1024;

pub(super) fn json_text(out: &mut Vec<u8>, key: &str, text: &[u8]) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(key.as_bytes());
    out.extend_from_slice(b"\":\"");
    value(out, text, Style::Json);
    out.push(b'"');
}

/// The address of the client without its port; nothing for an unnamed Unix peer.
pub(super) fn address(out: &mut Vec<u8>, client: ClientName<'_>, style: Style) {
    match client {
        ClientName::Inet(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            number(out, a.into());
            for octet in [b, c, d] {
                out.push(b'.');
                number(out, octet.into());
            }
        }
        ClientName::Inet(IpAddr::V6(address)) => {
            let _ = write!(out, "{address}");
        }
        ClientName::Unix(path) => value(out, path.as_bytes(), style),
    }
}

pub(super) fn value(out: &mut Vec<u8>, bytes: &[u8], style: Style) {
    value_up_to(out, bytes, VALUE_BYTES, style);
}

pub(super) fn value_up_to(out: &mut Vec<u8>, bytes: &[u8], limit: usize, style: Style) {
    let (kept, is_cut) = cut(bytes, limit);
    escape(out, kept, style);
    if is_cut {
        out.extend_from_slice(b"[cut]");
    }
}

pub(super) fn without_query(referer: &[u8]) -> &[u8] {
    let end = memchr::memchr2(b'?', b'#', referer).unwrap_or(referer.len());
    &referer[..end]
}

pub(super) fn version_name(version: Version) -> &'static [u8] {
    match version {
        Version::Http10 => b"HTTP/1.0",
        Version::Http11 => b"HTTP/1.1",
    }
}

pub(super) fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Writes milliseconds with three decimals. A duration that does not fit is written as the maximum.
pub(super) fn milliseconds(out: &mut Vec<u8>, duration: Duration) {
    let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(out, us / 1000);
    thousandths(out, (us % 1000) as u32);
}

/// Writes a decimal point and three digits; `count` is below 1000.
pub(super) fn thousandths(out: &mut Vec<u8>, count: u32) {
    let digit = |tens: u32| b'0' + (count / tens % 10) as u8;
    out.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}

pub(super) fn since_epoch(at: SystemTime) -> Duration {
    at.duration_since(UNIX_EPOCH).unwrap_or_default()
}
