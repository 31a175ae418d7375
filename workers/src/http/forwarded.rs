//! What trusted proxies say about a request: `Forwarded` (RFC 7239) and the `X-Forwarded-*` headers.
//!
//! The caller asks only if the peer of the connection is a trusted proxy. Each proxy adds to the right whom it
//! received the request from, so the list is read from the right: an entry is believed if a trusted proxy wrote
//! it, and it was written by a trusted proxy if everything to its right names trusted proxies. The first entry
//! that names somebody else is the client; what is to the left of it may be forged, and is not even parsed.
//!
//! | header | value | result |
//! |---|---|---|
//! | X-Forwarded-For | a list of `IPv4`, `IPv4:PORT`, `IPv6`, `[IPv6]`, `[IPv6]:PORT` | the walk goes on if the address is a trusted proxy; else it is the client |
//! | | all of them trusted proxies | the leftmost one is the client |
//! | | `unknown`, `_obfuscated`, or `unix:` if unix sockets are not trusted | the walk ends: the client is unknown, and the proxy that hides it stands for it |
//! | | anything else that the walk reaches | 400 |
//! | | anything else further to the left | ignored |
//! | X-Forwarded-Proto | `http` or `https`, in any case | the scheme |
//! | X-Forwarded-Host | `host[:port]` | the host |
//! | X-Forwarded-Port | 1 to 65535 | the port |
//! | X-Forwarded-Prefix | a path such as `/shop`; a slash at its end is cut off | the prefix |
//! | these four | anything else | 400 |
//! | | several values that are equal | as one |
//! | | several values that differ | 400: a header that is not written by hop does not say who wrote which |
//! | Forwarded | a list of elements; `for`, `proto` and `host` are read, other parameters are ignored | `for` as in X-Forwarded-For; `proto` and `host` of the element that is closest to the client |
//! | | an element that the walk reaches without `for` | the walk ends there, as at `unknown` |
//! | | a malformed line, or a parameter twice in an element, if the walk reaches the line | 400 |
//! | | `for`, `proto` or `host` with a wrong value in an element that the walk reaches | 400 |
//! | Forwarded and X-Forwarded-For, -Proto or -Host | both say the same, or only one says something | believed |
//! | | both say something, and it differs; also if only one of them hides the client | 400 |
//! | any | an empty value or an empty element of a list | ignored |
//!
//! 400 is the only safe answer to a contradiction: the proxy has passed on what the client sent instead of
//! replacing it, and nobody can say which of the two values it checked.

mod element;
mod lines;
mod node;
mod scheme;
#[cfg(test)]
mod tests;
mod walk;

use crate::http::head::Head;
use crate::http::host;
use crate::settings::{ForwardedHeader, Forwarding, TrustedPeers};
use crate::shared::socket_name::SocketName;

use lines::Lines;
use walk::Walk;

pub use crate::http::forwarded_error::ForwardedError;
pub use node::ForwardedClient;
pub use scheme::Scheme;

/// Facts about a request that trusted proxies have stated. What they did not state is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarded {
    /// Who sent the request.
    pub client: Option<ForwardedClient>,
    /// The scheme that the client used.
    pub scheme: Option<Scheme>,
    /// The `host[:port]` that the client asked.
    pub host: Option<Box<[u8]>>,
    /// The port that the client connected to: X-Forwarded-Port, else that of the host if scheme or host are
    /// stated, else the default of the scheme if that is stated.
    pub port: Option<u16>,
    /// The path that the proxy has cut off: empty, or with a leading slash and without a trailing one.
    pub prefix: Option<Box<[u8]>>,
}

/// Whether this peer is one of the proxies.
pub fn is_trusted(peer: &SocketName, proxies: &TrustedPeers) -> bool {
    match peer {
        SocketName::Inet(address) => proxies.has_address(address.ip()),
        SocketName::Unix(_) => proxies.has_unix(),
    }
}

/// Reads what the proxies say about a request that a trusted proxy has sent; `None` if they say nothing.
///
/// Errors: a contradiction or a malformed value, as in the table of the module.
pub fn read(
    head: &Head,
    head_bytes: &[u8],
    forwarding: &Forwarding,
) -> Result<Option<Box<Forwarded>>, ForwardedError> {
    let lines = Lines { head, head_bytes };
    let sent = lines.sent(forwarding.headers);
    if sent.is_empty() {
        return Ok(None);
    }
    let mut stated = Forwarded::default();
    let mut is_hidden = false;
    if sent.has(ForwardedHeader::XForwardedFor) {
        let walk = walk::forwarded_for(&lines, &forwarding.proxies)?;
        (stated.client, is_hidden) = (walk.client, walk.is_hidden);
    }
    if sent.has(ForwardedHeader::XForwardedProto) {
        stated.scheme = lines.scheme()?;
    }
    if sent.has(ForwardedHeader::XForwardedHost) {
        stated.host = lines.host()?;
    }
    if sent.has(ForwardedHeader::Forwarded) {
        stated.agree(is_hidden, walk::forwarded(&lines, &forwarding.proxies)?)?;
    }
    if sent.has(ForwardedHeader::XForwardedPort) {
        stated.port = lines.port()?;
    }
    if sent.has(ForwardedHeader::XForwardedPrefix) {
        stated.prefix = lines.prefix()?;
    }
    stated.port = stated.port.or_else(|| implied_port(&stated, &lines));
    Ok((stated != Forwarded::default()).then(|| Box::new(stated)))
}

/// The port that follows from a stated scheme or host.
fn implied_port(stated: &Forwarded, lines: &Lines<'_>) -> Option<u16> {
    if stated.scheme.is_none() && stated.host.is_none() {
        return None;
    }
    let port = stated.host.as_deref().or_else(|| lines.own_host()).and_then(host::port);
    port.or_else(|| stated.scheme.map(Scheme::default_port))
}

impl Forwarded {
    /// Adds what Forwarded states to what the other headers state. `is_hidden` says that X-Forwarded-For hides the
    /// client: another header that names one was not written by the same proxy.
    fn agree(&mut self, is_hidden: bool, walk: Walk) -> Result<(), ForwardedError> {
        let Walk { client, is_hidden: hides_too, scheme, host } = walk;
        self.client = match (self.client, client) {
            (Some(_), None) if hides_too => return Err(ForwardedError::ClientDisputed),
            (None, Some(_)) if is_hidden => return Err(ForwardedError::ClientDisputed),
            (Some(ours), Some(theirs)) => {
                let is_same_port =
                    ours.port.is_none_or(|port| theirs.port.is_none_or(|it| it == port));
                if ours.ip != theirs.ip || !is_same_port {
                    return Err(ForwardedError::ClientDisputed);
                }
                Some(ForwardedClient { ip: ours.ip, port: ours.port.or(theirs.port) })
            }
            (ours, theirs) => ours.or(theirs),
        };
        self.scheme = match (self.scheme, scheme) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                return Err(ForwardedError::SchemeDisputed);
            }
            (ours, theirs) => ours.or(theirs),
        };
        self.host = match (self.host.take(), host) {
            (Some(ours), Some(theirs)) if !ours.eq_ignore_ascii_case(&theirs) => {
                return Err(ForwardedError::HostDisputed);
            }
            (ours, theirs) => ours.or(theirs),
        };
        Ok(())
    }
}
