//! Who sent a request: the peer of the connection, or the client that trusted proxies name.

use std::net::IpAddr;
use std::sync::Arc;

use super::Connection;
use crate::http::forwarded::{self, Forwarded};
use crate::http::{ForwardedError, Head};
use crate::settings::Forwarding;
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

impl<C: AsRef<[u8]>> Connection<C> {
    /// Who sent the current request, as far as it is believed.
    pub fn client(&self) -> ClientName<'_> {
        if let Some(client) = self.forwarded.as_ref().and_then(|stated| stated.client) {
            return ClientName::Inet(client.ip);
        }
        ClientName::of(&self.info.peer)
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
        if !forwarding.is_off() && forwarded::is_trusted(&self.info.peer, &forwarding.proxies) {
            self.forwarded = forwarded::read(head, head_bytes, forwarding)?.map(Arc::from);
        }
        Ok(())
    }
}
