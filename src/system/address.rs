//! The addresses of `--bind`.
//!
//! This file reads and writes their notation. It neither resolves names nor opens sockets; the listener does.

use std::fmt;
use std::net::Ipv6Addr;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::str::FromStr;

/// One address of `--bind`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindAddress {
    /// `HOST:PORT`, `[v6]:PORT`, `NAME:PORT`, `:PORT`, `PORT`. A name is resolved when it is bound.
    Tcp {
        /// Host name or address without brackets; empty for all addresses.
        host: String,
        /// Port; 0 for any free port.
        port: u16,
    },
    /// `unix:/path`.
    Unix(PathBuf),
    /// `unix:@name`: a name in the abstract namespace of Linux.
    Abstract(String),
    /// `fd://N`: an inherited descriptor.
    Fd(RawFd),
}

/// Why a text is not an address. The message continues a sentence that starts with "expected".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It has none of the forms.
    #[error(
        "HOST:PORT, [IPv6]:PORT, :PORT, PORT, unix:/path, unix:@name or fd://N, \
         such as 127.0.0.1:8000"
    )]
    Form,
    /// What follows the last colon is not a port number.
    #[error("a port from 0 to 65535 after the last colon, such as 127.0.0.1:8000")]
    Port,
    /// An IPv6 address is not in brackets.
    #[error("brackets around an IPv6 address, such as [::1]:8000")]
    Brackets,
    /// The text in brackets is not an IPv6 address.
    #[error("an IPv6 address in the brackets, such as [::1]:8000")]
    Ipv6,
    /// No path follows `unix:`.
    #[error("a path after unix:, such as unix:/run/arctos.sock")]
    NoPath,
    /// The path follows two slashes: gunicorn reads it as relative, and people read it as absolute.
    #[error("unix:/path or unix:///path, because a path after two slashes is ambiguous")]
    TwoSlashes,
    /// It is not a number, or that of a standard stream.
    #[error("the number of an inherited descriptor, at least 3, such as fd://3")]
    Descriptor,
}

impl FromStr for BindAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some(number) = text.strip_prefix("fd://") {
            let number = number.parse::<u16>().map_err(|_| AddressError::Descriptor)?;
            return match RawFd::from(number) {
                0..=2 => Err(AddressError::Descriptor),
                inherited => Ok(Self::Fd(inherited)),
            };
        }
        tcp(text)
    }
}

fn unix(path: &str) -> Result<BindAddress, AddressError> {
    let slash_count = path.bytes().take_while(|&byte| byte == b'/').count();
    match (path, slash_count) {
        ("" | "@", _) => Err(AddressError::NoPath),
        (_, 2) => Err(AddressError::TwoSlashes),
        (path, _) if path.ends_with('/') || path.contains('\0') => Err(AddressError::NoPath),
        (path, 0) => Ok(match path.strip_prefix('@') {
            Some(name) => BindAddress::Abstract(name.to_owned()),
            None => BindAddress::Unix(PathBuf::from(path)),
        }),
        (path, _) => Ok(BindAddress::Unix(PathBuf::from(&path[slash_count - 1..]))),
    }
}

fn tcp(text: &str) -> Result<BindAddress, AddressError> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A port alone is used for trials, so it is not open to the network.
        return Ok(BindAddress::Tcp { host: "127.0.0.1".to_owned(), port: port(text)? });
    }
    if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or(AddressError::Form)?;
        // The resolver checks the zone (RFC 4007 §11).
        let (address, zone) = host.split_once('%').unwrap_or((host, "zone"));
        if address.parse::<Ipv6Addr>().is_err() || !is_word(zone) {
            return Err(AddressError::Ipv6);
        }
        let digits = rest.strip_prefix(':').ok_or(AddressError::Port)?;
        return Ok(BindAddress::Tcp { host: host.to_owned(), port: port(digits)? });
    }
    let (host, digits) = text.rsplit_once(':').ok_or(AddressError::Form)?;
    if host.contains(':') {
        let is_ipv6 = host.parse::<Ipv6Addr>().is_ok() || text.parse::<Ipv6Addr>().is_ok();
        return Err(if is_ipv6 { AddressError::Brackets } else { AddressError::Form });
    }
    if !host.is_empty() && !is_word(host) {
        return Err(AddressError::Form);
    }
    Ok(BindAddress::Tcp { host: host.to_ascii_lowercase(), port: port(digits)? })
}

/// Whether a text can be part of a host name, an IPv4 address or a zone.
fn is_word(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text.bytes().all(is_part)
}

fn port(digits: &str) -> Result<u16, AddressError> {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number).ok_or(AddressError::Port)
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Abstract(name) => write!(f, "unix:@{name}"),
            Self::Fd(number) => write!(f, "fd://{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> BindAddress {
        BindAddress::Tcp { host: host.to_owned(), port }
    }

    #[test]
    fn every_form_is_read() {
        for (text, address) in [
            ("127.0.0.1:8000", tcp("127.0.0.1", 8000)),
            ("[::1]:80", tcp("::1", 80)),
            ("[fe80::1%eth0]:80", tcp("fe80::1%eth0", 80)),
            (":8000", tcp("", 8000)),
            ("8000", tcp("127.0.0.1", 8000)),
            ("Web-1.example:0", tcp("web-1.example", 0)),
            ("unix:/run/x.sock", BindAddress::Unix("/run/x.sock".into())),
            ("unix:///run/x.sock", BindAddress::Unix("/run/x.sock".into())),
            ("unix:x.sock", BindAddress::Unix("x.sock".into())),
            ("unix:@arctos", BindAddress::Abstract("arctos".to_owned())),
            ("fd://3", BindAddress::Fd(3)),
        ] {
            assert_eq!(text.parse(), Ok(address), "{text}");
        }
    }

    #[test]
    fn a_shown_address_reads_as_the_same_address() {
        for text in ["127.0.0.1:80", "[::1]:80", ":80", "unix:/x", "unix:@x", "fd://7", "a.b:1"] {
            let address: BindAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn each_mistake_has_its_own_message() {
        for (text, error) in [
            ("", AddressError::Form),
            ("localhost", AddressError::Form),
            ("http://localhost:80", AddressError::Form),
            ("a b:80", AddressError::Form),
            ("[::1", AddressError::Form),
            ("localhost:", AddressError::Port),
            ("localhost:http", AddressError::Port),
            ("localhost:+80", AddressError::Port),
            ("localhost:65536", AddressError::Port),
            ("65536", AddressError::Port),
            ("[::1]", AddressError::Port),
            ("[::1]80", AddressError::Port),
            ("::1:8000", AddressError::Brackets),
            ("::1", AddressError::Brackets),
            ("[localhost]:80", AddressError::Ipv6),
            ("[::1%]:80", AddressError::Ipv6),
            ("unix:", AddressError::NoPath),
            ("unix:@", AddressError::NoPath),
            ("unix:/run/", AddressError::NoPath),
            ("unix://run/x.sock", AddressError::TwoSlashes),
            ("fd://", AddressError::Descriptor),
            ("fd://x", AddressError::Descriptor),
            ("fd://-1", AddressError::Descriptor),
            ("fd://1", AddressError::Descriptor),
        ] {
            assert_eq!(text.parse::<BindAddress>(), Err(error), "{text}");
        }
    }
}
