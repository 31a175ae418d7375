//! What trusted proxies state about a request and its connection, as a line of text.

use arctos_worker::http::{Forwarded, ForwardedClient, ProxiedAddresses, Scheme};
use arctos_worker::shared::socket_name::SocketName;

/// Writes the addresses of a PROXY header, as in `from 192.0.2.1:4711 to [::1]:443`, and then what is stated.
pub(crate) fn announced(
    proxied: Option<&ProxiedAddresses>,
    forwarded: Option<&Forwarded>,
) -> String {
    let name = |name: &SocketName| match name {
        SocketName::Inet(address) => address.to_string(),
        SocketName::Unix(path) => format!("unix:{path}"),
    };
    let ends =
        proxied.map(|ends| format!("from {} to {} ", name(&ends.source), name(&ends.destination)));
    let all = ends.unwrap_or_default() + &stated(forwarded);
    all.trim_end().to_owned()
}

/// Writes what is stated, as in `client 192.0.2.1:7 scheme https host a port 443 prefix /shop`; empty if nothing is.
fn stated(forwarded: Option<&Forwarded>) -> String {
    let Some(Forwarded { client, scheme, host, port, prefix }) = forwarded else {
        return String::new();
    };
    let text =
        |bytes: &Option<Box<[u8]>>| bytes.as_deref().map(|bytes| bytes.escape_ascii().to_string());
    let client = client.map(|ForwardedClient { ip, port }| match port {
        Some(port) => format!("{ip}:{port}"),
        None => ip.to_string(),
    });
    let scheme = scheme.map(|scheme| match scheme {
        Scheme::Http => "http".to_owned(),
        Scheme::Https => "https".to_owned(),
    });
    let parts = [
        ("client", client),
        ("scheme", scheme),
        ("host", text(host)),
        ("port", port.map(|port| port.to_string())),
        ("prefix", text(prefix)),
    ];
    let known = parts.into_iter().filter_map(|(name, value)| Some(format!("{name} {}", value?)));
    known.collect::<Vec<_>>().join(" ")
}
