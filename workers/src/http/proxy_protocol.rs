//! The PROXY protocol, versions 1 and 2: the header in which a proxy that forwards TCP names the client.
//!
//! Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, §2.
//!
//! | header | result |
//! |---|---|
//! | `PROXY TCP4 SOURCE DESTINATION PORT PORT CRLF`, TCP6 | the two addresses |
//! | `PROXY UNKNOWN`, anything, CRLF | those of the connection |
//! | version 1 with more than 107 bytes, or anything else in it | [`ProxyError`] |
//! | version 2, PROXY, TCP over IPv4, IPv6 | the two addresses |
//! | version 2, PROXY, unix stream | the two paths |
//! | version 2, PROXY, unspecified or datagrams | those of the connection |
//! | version 2, LOCAL, of any family: the proxy itself connects, such as for a health check | those of the connection |
//! | version 2 with an unknown version, command, family or transport, or shorter than its addresses | [`ProxyError`] |
//! | version 2 with more than [`MAX_BYTES`] | [`ProxyError`] |
//! | anything else | [`ProxyError::Missing`], at its first byte that differs |
//!
//! Version 2 may have further fields (TLVs) behind the addresses. They are skipped: nothing in them is believed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use crate::http::byte_class;
use crate::settings::ProxyVersion;
use crate::shared::socket_name::SocketName;

/// The maximum length of a header. nginx has the same limit; the addresses take at most 232 bytes.
pub const MAX_BYTES: usize = 4096;
/// The maximum length of a line of version 1, with its CRLF.
const MAX_LINE_BYTES: usize = 107;
const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and transport, and the length of the rest.
const FIXED_BYTES: usize = 16;
const UNIX_PATH_BYTES: usize = 108;

/// The two ends of a connection to a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxiedAddresses {
    /// Who connected to the proxy.
    pub source: SocketName,
    /// What it connected to.
    pub destination: SocketName,
}

/// Whether a header is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParsedProxy {
    /// More bytes are needed.
    Incomplete,
    /// The header has this length.
    Complete {
        /// In bytes.
        len: usize,
        /// What it says; `None` if the addresses of the connection itself count.
        addresses: Option<ProxiedAddresses>,
    },
}

/// Why a connection is refused before its first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The peer may not connect.
    #[error("its address is not in --proxy-allow-from")]
    NotAllowed,
    /// The connection begins with something else.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// The other version is configured.
    #[error("the PROXY header has the other version")]
    OtherVersion,
    /// A line of version 1 is malformed.
    #[error("the PROXY line is malformed")]
    BadLine,
    /// A header of version 2 is malformed.
    #[error("the PROXY header is malformed")]
    BadHeader,
    /// A header of version 2 is longer than [`MAX_BYTES`].
    #[error("the PROXY header is too long")]
    TooLong,
    /// The header was not complete in time.
    #[error("the PROXY header did not arrive in time")]
    Late,
}

/// Parses the header at the start of `input`, which is all that has arrived so far.
///
/// The result does not depend on where `input` was cut: more bytes only turn `Incomplete` into something else.
pub fn parse(input: &[u8], version: ProxyVersion) -> Result<ParsedProxy, ProxyError> {
    if begins_with(input, SIGNATURE_V1) {
        return if version.has_v1() { parse_line(input) } else { Err(ProxyError::OtherVersion) };
    }
    if begins_with(input, SIGNATURE_V2) {
        return if version.has_v2() { parse_binary(input) } else { Err(ProxyError::OtherVersion) };
    }
    Err(ProxyError::Missing)
}

/// Whether `input` begins with `signature`, or with a part of it if it is shorter.
fn begins_with(input: &[u8], signature: &[u8]) -> bool {
    let count = input.len().min(signature.len());
    !input.is_empty() && input[..count] == signature[..count]
}

fn parse_line(input: &[u8]) -> Result<ParsedProxy, ProxyError> {
    let line = &input[..input.len().min(MAX_LINE_BYTES)];
    let Some(end) = memchr::memchr(b'\n', line) else {
        let is_full = line.len() == MAX_LINE_BYTES;
        return if is_full { Err(ProxyError::BadLine) } else { Ok(ParsedProxy::Incomplete) };
    };
    let words = line[..end].strip_suffix(b"\r").and_then(|line| line.strip_prefix(SIGNATURE_V1));
    let words = words.ok_or(ProxyError::BadLine)?;
    let mut words = words.split(|&byte| byte == b' ');
    let addresses = match words.next() {
        Some(b"UNKNOWN") => None,
        Some(b"TCP4") => Some(line_addresses::<Ipv4Addr>(words).ok_or(ProxyError::BadLine)?),
        Some(b"TCP6") => Some(line_addresses::<Ipv6Addr>(words).ok_or(ProxyError::BadLine)?),
        Some(_) | None => return Err(ProxyError::BadLine),
    };
    Ok(ParsedProxy::Complete { len: end + 1, addresses })
}

/// Reads `SOURCE DESTINATION PORT PORT`.
fn line_addresses<'a, A: FromStr + Into<IpAddr>>(
    words: impl Iterator<Item = &'a [u8]>,
) -> Option<ProxiedAddresses> {
    let words: Vec<_> = words.take(5).collect();
    let [source, destination, source_port, destination_port] = words[..] else { return None };
    let address = |ip: &[u8], port: &[u8]| {
        let ip: A = std::str::from_utf8(ip).ok()?.parse().ok()?;
        let is_canonical = port.len() == 1 || (port.len() <= 5 && !port.starts_with(b"0"));
        let port = Some(port).filter(|_| is_canonical).and_then(byte_class::decimal)?;
        Some(SocketName::Inet(SocketAddr::new(ip.into(), u16::try_from(port).ok()?)))
    };
    Some(ProxiedAddresses {
        source: address(source, source_port)?,
        destination: address(destination, destination_port)?,
    })
}

fn parse_binary(input: &[u8]) -> Result<ParsedProxy, ProxyError> {
    let command = match input.get(SIGNATURE_V2.len()) {
        None => return Ok(ParsedProxy::Incomplete),
        Some(0x20) => Command::Local,
        Some(0x21) => Command::Proxy,
        Some(_) => return Err(ProxyError::BadHeader),
    };
    let Some(family) = input.get(SIGNATURE_V2.len() + 1) else {
        return Ok(ParsedProxy::Incomplete);
    };
    let (family, transport) = (family >> 4, family & 0xf);
    let is_known = family <= 3 && transport <= 2;
    if matches!(command, Command::Proxy) && !is_known {
        return Err(ProxyError::BadHeader);
    }
    let Some(&[high, low]) = input.get(SIGNATURE_V2.len() + 2..FIXED_BYTES) else {
        return Ok(ParsedProxy::Incomplete);
    };
    let len = FIXED_BYTES + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_BYTES {
        return Err(ProxyError::TooLong);
    }
    let needed = match (command, family, transport) {
        (Command::Proxy, 1, 1) => 12,
        (Command::Proxy, 2, 1) => 36,
        (Command::Proxy, 3, 1) => 2 * UNIX_PATH_BYTES,
        (Command::Proxy | Command::Local, _, _) => 0,
    };
    if len < FIXED_BYTES + needed {
        return Err(ProxyError::BadHeader);
    }
    let Some(block) = input.get(FIXED_BYTES..len) else { return Ok(ParsedProxy::Incomplete) };
    let addresses = match needed {
        12 => inet::<4, 12, Ipv4Addr>(block),
        36 => inet::<16, 36, Ipv6Addr>(block),
        0 => None,
        _ => {
            let (source, rest) = block.split_at(UNIX_PATH_BYTES);
            Some(ProxiedAddresses {
                source: unix(source),
                destination: unix(&rest[..UNIX_PATH_BYTES]),
            })
        }
    };
    Ok(ParsedProxy::Complete { len, addresses })
}

#[derive(Clone, Copy)]
enum Command {
    Local,
    Proxy,
}

/// Reads two addresses of `IP` bytes and two ports, `ALL` bytes together.
fn inet<const IP: usize, const ALL: usize, A: From<[u8; IP]> + Into<IpAddr>>(
    block: &[u8],
) -> Option<ProxiedAddresses> {
    let block = block.first_chunk::<ALL>()?;
    let (ips, ports) = block.split_at(2 * IP);
    let address = |index: usize| {
        let ip: [u8; IP] = ips[index * IP..].first_chunk().copied()?;
        let port: [u8; 2] = ports[index * 2..].first_chunk().copied()?;
        let ip: IpAddr = A::from(ip).into();
        Some(SocketName::Inet(SocketAddr::new(ip, u16::from_be_bytes(port))))
    };
    Some(ProxiedAddresses { source: address(0)?, destination: address(1)? })
}

/// Reads a path up to its first NUL. An abstract name begins with NUL, and is written with `@` as elsewhere.
fn unix(path: &[u8]) -> SocketName {
    let until_nul = |bytes: &[u8]| {
        let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    };
    SocketName::Unix(match path {
        [0, name @ ..] if name.first().is_some_and(|&byte| byte != 0) => {
            format!("@{}", until_nul(name))
        }
        path => until_nul(path),
    })
}

#[cfg(test)]
mod tests;
