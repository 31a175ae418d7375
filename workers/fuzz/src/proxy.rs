//! The header of the PROXY protocol, and what follows it.

use std::net::SocketAddr;

use arctos_worker::http::proxy_protocol::{
    MAX_BYTES, ParsedProxy, ProxiedAddresses, ProxyError, parse,
};
use arctos_worker::settings::ProxyVersion;
use arctos_worker::shared::socket_name::SocketName;

/// Parses the header, however much of it has arrived.
///
/// It is decided with one byte, and further bytes change nothing: a valid header with its last byte. Written again in
/// both versions, it announces the same addresses.
pub fn proxy(bytes: &[u8]) {
    let whole = parse(bytes, ProxyVersion::Auto);
    let decided =
        (1..=bytes.len()).find(|&end| !is_open(&parse(&bytes[..end], ProxyVersion::Auto)));
    match decided {
        None => assert!(bytes.is_empty() || is_open(&whole)),
        Some(first) => {
            for end in first..=bytes.len().min(first + MAX_BYTES) {
                assert_eq!(parse(&bytes[..end], ProxyVersion::Auto), whole, "with {end} bytes");
            }
        }
    }
    for (version, signature) in
        [(ProxyVersion::V1, &b"PROXY"[..]), (ProxyVersion::V2, b"\r\n\r\n\0")]
    {
        match parse(bytes, version) {
            Err(ProxyError::OtherVersion) => assert!(!bytes.starts_with(signature)),
            result => assert_eq!(result, whole),
        }
    }
    if let Ok(ParsedProxy::Complete { len, addresses }) = whole {
        assert_eq!(decided, Some(len), "complete with its last byte");
        assert!(len <= MAX_BYTES);
        if bytes.starts_with(b"PROXY") {
            check_line(&bytes[..len], addresses.as_ref());
        }
        if let Some(addresses) = addresses {
            check_written(addresses);
        }
    }
}

fn is_open(result: &Result<ParsedProxy, ProxyError>) -> bool {
    matches!(result, Ok(ParsedProxy::Incomplete))
}

/// Reads a line of version 1 once more, in the simplest way.
fn check_line(line: &[u8], addresses: Option<&ProxiedAddresses>) {
    let line = line.strip_suffix(b"\r\n").expect("CRLF ends the line");
    assert!(line.len() <= 105 && !line.contains(&b'\n'));
    let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
    let Some(ProxiedAddresses { source, destination }) = addresses else {
        assert_eq!(words[1], b"UNKNOWN");
        return;
    };
    let [_, family, source_ip, destination_ip, source_port, destination_port] = words[..] else {
        panic!("{} words", words.len());
    };
    for (name, ip, port) in
        [(source, source_ip, source_port), (destination, destination_ip, destination_port)]
    {
        let text = |bytes| str::from_utf8(bytes).expect("ASCII");
        let SocketName::Inet(address) = name else { panic!("no address") };
        assert_eq!(address.is_ipv4(), family == b"TCP4");
        assert_eq!(Ok(address.ip()), text(ip).parse());
        assert_eq!(address.port().to_string(), text(port));
    }
}

/// Writes the addresses in both versions, and reads them back.
fn check_written(addresses: ProxiedAddresses) {
    let (SocketName::Inet(source), SocketName::Inet(destination)) =
        (&addresses.source, &addresses.destination)
    else {
        return;
    };
    for header in [line(*source, *destination), binary(*source, *destination)] {
        let len = header.len();
        let expected = ParsedProxy::Complete { len, addresses: Some(addresses.clone()) };
        assert_eq!(parse(&header, ProxyVersion::Auto), Ok(expected), "{}", header.escape_ascii());
    }
}

fn line(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
}

fn binary(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (family, length, ips) = match (source, destination) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => {
            (0x11, 12, [source.ip().octets(), destination.ip().octets()].concat())
        }
        (SocketAddr::V6(source), SocketAddr::V6(destination)) => {
            (0x21, 36, [source.ip().octets(), destination.ip().octets()].concat())
        }
        (SocketAddr::V4(_), SocketAddr::V6(_)) | (SocketAddr::V6(_), SocketAddr::V4(_)) => {
            panic!("two families");
        }
    };
    let ports = [source.port(), destination.port()].map(u16::to_be_bytes).concat();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21"[..], &[family, 0, length], &ips, &ports].concat()
}
