//! What trusted proxies state about a request, as a line of text.

use arctos_worker::http::{Forwarded, ForwardedClient, Scheme};

/// Writes what is stated, as in `client 192.0.2.1:7 scheme https host a port 443 prefix /shop`; empty if nothing is.
pub(crate) fn stated(forwarded: Option<&Forwarded>) -> String {
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
