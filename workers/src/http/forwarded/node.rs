//! One hop: who sent a request to a proxy (RFC 7239 §6, and the notations of X-Forwarded-For).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::http::byte_class;

/// The address of a client behind proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedClient {
    /// Its address.
    pub ip: IpAddr,
    /// Its port, which most proxies do not state.
    pub port: Option<u16>,
}

/// Who sent a request to a proxy, as that proxy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    Address(ForwardedClient),
    /// The peer of a unix socket: nginx writes `unix:`.
    Unix,
    /// `unknown`, or an identifier that only the proxy understands.
    Hidden,
}

impl Node {
    /// Reads an entry of X-Forwarded-For. No standard describes it; proxies write addresses with and without
    /// ports, IPv6 with and without brackets, and what RFC 7239 has instead of an address.
    pub(super) fn of_list(text: &[u8]) -> Option<Self> {
        if text == b"unix:" {
            return Some(Self::Unix);
        }
        if let Some(address) = parse::<Ipv6Addr>(text) {
            return Some(Self::Address(ForwardedClient { ip: address.into(), port: None }));
        }
        Self::of_forwarded(text)
    }

    /// Reads `node = nodename [ ":" node-port ]`, after its quoting was removed.
    pub(super) fn of_forwarded(text: &[u8]) -> Option<Self> {
        let (name, port) = match text.first()? {
            b'[' => {
                let close = memchr::memchr(b']', text)?;
                (&text[..=close], &text[close + 1..])
            }
            _ => text.split_at(memchr::memchr(b':', text).unwrap_or(text.len())),
        };
        let port = match port {
            [] => None,
            [b':', port @ ..] => node_port(port)?,
            [_, ..] => return None,
        };
        if name.eq_ignore_ascii_case(b"unknown") || is_obfuscated(name) {
            return Some(Self::Hidden);
        }
        let ip: IpAddr = match name {
            [b'[', address @ .., b']'] => parse::<Ipv6Addr>(address)?.into(),
            address => parse::<Ipv4Addr>(address)?.into(),
        };
        Some(Self::Address(ForwardedClient { ip, port }))
    }
}

/// Reads `node-port = port / obfport`. An obfuscated port is well-formed, but says nothing; so does the port 0,
/// which Azure and others write when they do not know it.
#[expect(clippy::option_option, reason = "malformed, or well-formed with or without a number")]
fn node_port(text: &[u8]) -> Option<Option<u16>> {
    if is_obfuscated(text) {
        return Some(None);
    }
    let number = Some(text).filter(|text| text.len() <= 5).and_then(byte_class::decimal)?;
    u16::try_from(number).ok().map(|port| Some(port).filter(|port| *port != 0))
}

/// Whether this is `"_" 1*( ALPHA / DIGIT / "." / "_" / "-" )`.
fn is_obfuscated(text: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    matches!(text, [b'_', rest @ ..] if !rest.is_empty() && rest.iter().all(is_allowed))
}

fn parse<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}
