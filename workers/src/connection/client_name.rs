//! Who sent a request: the peer of the connection, or the client that trusted proxies name.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::{CloseReason, ConnInfo, Connection};
use crate::http::forwarded::{self, Forwarded};
use crate::http::{ForwardedError, Head, ProxiedAddresses};
use crate::settings::Forwarding;
use crate::shared::scoreboard::Counters;
use crate::shared::socket_name::SocketName;

/// Who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientName<'a> {
    /// This address.
    Inet(IpAddr),
    /// The peer of a unix socket: its path, or an empty text.
    Unix(&'a str),
}

impl<'a> ClientName<'a> {
    /// The name of a client that is the peer of a socket.
    pub fn of(peer: &'a SocketName) -> Self {
        match peer {
            SocketName::Inet(address) => Self::Inet(address.ip()),
            SocketName::Unix(path) => Self::Unix(path),
        }
    }
}

impl ConnInfo {
    /// Who connected: what the proxy announced, else the peer of the socket.
    pub fn source(&self) -> &SocketName {
        self.proxied.as_ref().map_or(&self.peer, |proxied| &proxied.source)
    }

    /// What it connected to: what the proxy announced, else the address of the listener.
    pub fn destination(&self) -> &SocketName {
        self.proxied.as_ref().map_or(&self.local, |proxied| &proxied.destination)
    }
}

impl<C: AsRef<[u8]>> Connection<C> {
    /// The PROXY header is complete, and announces these addresses.
    pub fn set_proxied(&mut self, proxied: Option<Arc<ProxiedAddresses>>) {
        Rc::make_mut(&mut self.info).proxied = proxied;
    }

    /// Closes the connection before its first request.
    pub fn refuse_connection(&mut self, counters: &Counters) {
        self.close(CloseReason::NoProxyHeader, counters);
    }

    /// Who sent the current request, as far as it is believed.
    pub fn client(&self) -> ClientName<'_> {
        if let Some(client) = self.forwarded.as_ref().and_then(|stated| stated.client) {
            return ClientName::Inet(client.ip);
        }
        ClientName::of(self.info.source())
    }

    /// What trusted proxies say about the current request, if they say something.
    pub fn forwarded(&self) -> Option<&Arc<Forwarded>> {
        self.forwarded.as_ref()
    }

    /// Notes what a trusted proxy says about the request of this head.
    #[inline]
    pub(super) fn believe(
        &mut self,
        head: &Head,
        head_bytes: &[u8],
        forwarding: &Forwarding,
    ) -> Result<(), ForwardedError> {
        if !forwarding.is_off() && forwarded::is_trusted(self.info.source(), &forwarding.proxies) {
            self.forwarded = forwarded::read(head, head_bytes, forwarding)?.map(Arc::from);
        }
        Ok(())
    }
}
