//! `Host` and the authority of a request target: `uri-host [ ":" port ]` (RFC 9110 §7.2).

use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::http::byte_class::{self, NAME};

/// Whether `value` is a host with an optional port.
///
/// Shape:  `( reg-name / IPv4address / "[" IPv6address "]" ) [ ":" *DIGIT ]` of RFC 3986 §3.2.2, with a port of
///         at most 65535. No user information, no zone, no IPvFuture.
/// Empty:  refused. RFC 9112 §3.2 allows an empty Host only for a target without authority, and an http or
///         https URI always has one (RFC 9110 §4.2.1: a URI without MUST be rejected). RFC 9112 §3.3 leaves the
///         refusal to the server, and nginx refuses, too.
#[inline]
pub(super) fn is_host_port(value: &[u8]) -> bool {
    if let Some(literal) = value.strip_prefix(b"[") {
        return is_bracketed(literal);
    }
    let length = byte_class::run(value, NAME);
    match value.get(length) {
        None => length > 0,
        Some(b':') => length > 0 && is_port(&value[length + 1..]),
        Some(b'%') => is_escaped(value),
        Some(_) => false,
    }
}

/// The port of a valid `host[:port]`; `None` if there is none, or if it is empty or 0.
pub(super) fn port(value: &[u8]) -> Option<u16> {
    let name_end = memchr::memrchr(b']', value).map_or(0, |at| at + 1);
    let colon = memchr::memchr(b':', &value[name_end..])?;
    let number = byte_class::decimal(&value[name_end + colon + 1..])?;
    u16::try_from(number).ok().filter(|port| *port != 0)
}

/// Whether `rest` is an IPv6 literal after its `[`, with an optional port.
fn is_bracketed(rest: &[u8]) -> bool {
    let Some(close) = memchr::memchr(b']', rest) else { return false };
    let is_address =
        std::str::from_utf8(&rest[..close]).is_ok_and(|text| Ipv6Addr::from_str(text).is_ok());
    match &rest[close + 1..] {
        [] => is_address,
        [b':', port @ ..] => is_address && is_port(port),
        [_, ..] => false,
    }
}

/// Whether `value` is a registered name with percent-encoded bytes, with an optional port.
fn is_escaped(value: &[u8]) -> bool {
    let colon = memchr::memchr(b':', value);
    let mut name = &value[..colon.unwrap_or(value.len())];
    loop {
        name = &name[byte_class::run(name, NAME)..];
        name = match name {
            [] => break,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [_, ..] => return false,
        };
    }
    colon.is_none_or(|colon| is_port(&value[colon + 1..]))
}

/// Whether `port` is `*DIGIT`. An empty port is the default of the scheme (RFC 3986 §3.2.3).
fn is_port(port: &[u8]) -> bool {
    port.is_empty()
        || (port.len() <= 5
            && byte_class::decimal(port).is_some_and(|number| number <= u64::from(u16::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_addresses_and_ports_are_hosts() {
        for good in [
            "a",
            "example.org",
            "example.org:8080",
            "example.org:",
            "EXAMPLE.org.",
            "my_host-1",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:443",
            "[2001:db8::192.0.2.1]",
            "[::1]:",
            "xn--bcher-kva.example",
            "a%20b",
            "%c3%a4:1",
            "a:00080",
            "a:65535",
            "a!$&'()*+,;=~",
        ] {
            assert!(is_host_port(good.as_bytes()), "{good:?}");
        }
    }

    #[test]
    fn anything_else_is_no_host() {
        for bad in [
            "",
            ":",
            ":80",
            "a b",
            "a:b",
            "a:80:80",
            "a:-1",
            "a:+1",
            "a:65536",
            "a:000080",
            "a/b",
            "a?b",
            "a@b",
            "u:p@h",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "[::1]:x",
            "[127.0.0.1]",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "a%2",
            "a%",
            "a%zz",
            "%41:x",
            "a\\b",
            "a\u{e4}",
            "a\t",
            "<a>",
            "a\"b",
            "a#b",
            "[::1]]",
            "[::1]:65536",
            "a%20 b",
        ] {
            assert!(!is_host_port(bad.as_bytes()), "{bad:?}");
        }
    }
}
