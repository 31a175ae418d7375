//! What proxies say about a request: `Forwarded` and the `X-Forwarded-*` headers.

use std::net::IpAddr;

use arctos_worker::http::forwarded::{self, Forwarded};
use arctos_worker::http::{ForwardedError, Head};
use arctos_worker::settings::{ForwardedHeader, Forwarding, HeaderMap, Limits, TrustedPeers};

use super::head::trim;

/// Lists of proxies: somewhere between nobody and everybody, the walk ends at each place of a list.
const PROXIES: [&str; 3] = ["10.0.0.0/8,unix", "10.0.0.0/8,fd00::/8,127.0.0.1", "*"];

/// Reads the bytes as header lines of a request that a trusted proxy has passed on.
///
/// Nothing that stands to the left of what trusted proxies wrote changes what they say; a simple reader of
/// X-Forwarded-For finds the same client; and every result is well-formed.
pub fn forwarded(bytes: &[u8]) {
    for proxies in PROXIES {
        let proxies: TrustedPeers =
            proxies.split(',').map(|peer| peer.parse().expect("a proxy")).collect();
        let forwarding = Forwarding { proxies, ..Forwarding::default() };
        let Some((head, head_bytes)) = head_of(bytes) else { return };
        let stated = forwarded::read(&head, &head_bytes, &forwarding);
        check_list(&head, &head_bytes, &forwarding);
        // The proxies may also say nothing, hide the client, or contradict each other.
        if let Ok(Some(stated)) = stated {
            check_result(&stated);
            let client = stated.client.map(|client| client.ip);
            if client.is_some_and(|ip| !forwarding.proxies.has_address(ip)) {
                check_forgery(bytes, &stated, &forwarding);
            }
        }
    }
}

/// A head with these lines, if it is valid.
fn head_of(lines: &[u8]) -> Option<(Head, Vec<u8>)> {
    let bytes = [b"GET / HTTP/1.1\r\nHost: a\r\n", lines, b"\r\n\r\n"].concat();
    let head = Head::of(&bytes, &Limits::DEFAULT, HeaderMap::Drop).ok().flatten();
    head.map(|head| (head, bytes))
}

fn values<'a>(head: &Head, bytes: &'a [u8], header: ForwardedHeader) -> Vec<&'a [u8]> {
    let name = header.lower().as_bytes();
    let fields = head.fields.iter();
    let fields = fields.filter(|field| field.name.of(bytes).eq_ignore_ascii_case(name));
    fields.map(|field| field.value.of(bytes)).collect()
}

/// What a client sends, before the proxies add what they know, does not matter.
fn check_forgery(lines: &[u8], stated: &Forwarded, forwarding: &Forwarding) {
    let (head, bytes) = head_of(lines).expect("it was valid before");
    for (header, forged) in [
        (ForwardedHeader::XForwardedFor, &b"X-Forwarded-For: 192.0.2.66, x y\"\r\n"[..]),
        (ForwardedHeader::Forwarded, b"Forwarded: for=192.0.2.66;proto=https;host=evil\r\n"),
        (ForwardedHeader::Forwarded, b"Forwarded: for=\"\r\n"),
    ] {
        // A header of which no proxy has written anything may be the client's, and is a contradiction.
        if values(&head, &bytes, header).iter().all(|value| walk_goes_on(value)) {
            continue;
        }
        let client = [forged, lines].concat();
        let Some((head, bytes)) = head_of(&client) else { continue };
        let now = forwarded::read(&head, &bytes, forwarding);
        assert_eq!(now, Ok(Some(Box::new(stated.clone()))), "{}", forged.escape_ascii());
    }
}

/// Whether the value says nothing about who sent the request.
fn walk_goes_on(value: &[u8]) -> bool {
    value.split(|byte| b",;".contains(byte)).all(|element| trim(element).is_empty())
}

/// Finds the client in X-Forwarded-For once more, as the only header, and from a list of all its entries.
fn check_list(head: &Head, bytes: &[u8], forwarding: &Forwarding) {
    let only = [ForwardedHeader::XForwardedFor].into_iter().collect();
    let forwarding = Forwarding { headers: only, proxies: forwarding.proxies.clone() };
    let stated = forwarded::read(head, bytes, &forwarding);
    let list = values(head, bytes, ForwardedHeader::XForwardedFor).join(&b","[..]);
    let entries: Vec<&[u8]> = list.split(|&byte| byte == b',').map(trim).collect();
    let mut client = None;
    for entry in entries.into_iter().rev().filter(|entry| !entry.is_empty()) {
        match address(entry) {
            Some(ip) => {
                client = Some(ip);
                if !forwarding.proxies.has_address(ip) {
                    break;
                }
            }
            None if entry == b"unix:" && forwarding.proxies.has_unix() => {}
            None if entry == b"unix:" || is_hidden(entry) => break,
            None => {
                assert_eq!(stated, Err(ForwardedError::BadFor), "{}", entry.escape_ascii());
                return;
            }
        }
    }
    let stated = stated.expect("no entry is malformed");
    assert_eq!(stated.and_then(|stated| stated.client).map(|client| client.ip), client);
}

/// The address of an entry: `IPv4[:PORT]`, `IPv6` or `[IPv6][:PORT]`. A port may be hidden, too.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(entry).ok()?;
    if let Ok(address) = text.parse() {
        return Some(address);
    }
    let (name, port) = text.rsplit_once(':').filter(|(_, port)| !port.contains(']')).unzip();
    let is_port =
        |port: &str| port.parse::<u16>().is_ok() && port.len() <= 5 && !port.starts_with('+');
    if !port.is_none_or(|port| is_port(port) || is_obfuscated(port)) {
        return None;
    }
    let name = name.unwrap_or(text);
    match name.strip_prefix('[') {
        Some(rest) => Some(IpAddr::V6(rest.strip_suffix(']')?.parse().ok()?)),
        None => Some(IpAddr::V4(name.parse().ok()?)),
    }
}

/// Whether an entry is `unknown` or an obfuscated name, with or without a port.
fn is_hidden(entry: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(entry) else { return false };
    let (name, port) = text.split_once(':').unwrap_or((text, "1"));
    let is_number = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
    let is_port = (is_number && port.parse::<u16>().is_ok()) || is_obfuscated(port);
    is_port && (name.eq_ignore_ascii_case("unknown") || is_obfuscated(name))
}

fn is_obfuscated(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    text.len() > 1 && text.starts_with('_') && text.bytes().all(is_allowed)
}

fn check_result(stated: &Forwarded) {
    assert_ne!(*stated, Forwarded::default(), "nothing is `None`");
    assert!(stated.port != Some(0) && stated.client.is_none_or(|client| client.port != Some(0)));
    if let Some(host) = &stated.host {
        // It becomes HTTP_HOST, so it must be what Host may be.
        let line = [b"GET / HTTP/1.1\r\nHost: ", &host[..], b"\r\n\r\n"].concat();
        let parsed = Head::of(&line, &Limits::DEFAULT, HeaderMap::Drop);
        assert!(matches!(parsed, Ok(Some(_))), "{}", host.escape_ascii());
    }
    if let Some(prefix) = stated.prefix.as_deref().filter(|prefix| !prefix.is_empty()) {
        assert!(prefix.starts_with(b"/") && !prefix.ends_with(b"/"));
        assert!(prefix.iter().all(u8::is_ascii_graphic));
        let mut segments = prefix[1..].split(|&byte| byte == b'/');
        assert!(segments.all(|segment| ![&b""[..], b".", b".."].contains(&segment)));
    }
}
