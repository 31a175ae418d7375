//! The walk from the server to the client, hop by hop.

use super::element::{self, Element};
use super::lines::Lines;
use super::node::{ForwardedClient, Node};
use super::scheme::Scheme;
use crate::http::forwarded_error::ForwardedError;
use crate::http::host;
use crate::settings::{ForwardedHeader, TrustedPeers};

/// What the hops of a header state.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) client: Option<ForwardedClient>,
    /// Whether the walk ended at a node that hides its name. A hop without `for` says nothing, and hides nothing.
    pub(super) is_hidden: bool,
    pub(super) scheme: Option<Scheme>,
    pub(super) host: Option<Box<[u8]>>,
}

/// Whether the walk goes on beyond a hop.
#[derive(PartialEq, Eq)]
enum Onward {
    Yes,
    No,
}

impl Walk {
    /// Takes note of the next hop, which the trusted proxy that was reached before states.
    fn pass(&mut self, node: Node, proxies: &TrustedPeers) -> Onward {
        let is_trusted = match node {
            Node::Address(address) => {
                self.client = Some(address);
                proxies.has_address(address.ip)
            }
            Node::Unix => proxies.has_unix(),
            Node::Hidden => false,
        };
        self.is_hidden = !is_trusted && !matches!(node, Node::Address(_));
        if is_trusted { Onward::Yes } else { Onward::No }
    }

    /// Takes note of an element of Forwarded. Its scheme and host replace those of the elements to its right: its
    /// proxy is closer to the client.
    fn pass_element(
        &mut self,
        element: Element<'_>,
        proxies: &TrustedPeers,
    ) -> Result<Onward, ForwardedError> {
        const ERROR: ForwardedError = ForwardedError::BadForwarded;
        if let Some(proto) = &element.proto {
            self.scheme = Some(Scheme::of(proto).ok_or(ERROR)?);
        }
        if let Some(host) = element.host {
            let host = Some(host).filter(|host| host::is_host_port(host)).ok_or(ERROR)?;
            self.host = Some(host.into());
        }
        let Some(node) = &element.node else { return Ok(Onward::No) };
        Ok(self.pass(Node::of_forwarded(node).ok_or(ERROR)?, proxies))
    }
}

/// Finds the client in X-Forwarded-For.
pub(super) fn forwarded_for(
    lines: &Lines<'_>,
    proxies: &TrustedPeers,
) -> Result<Walk, ForwardedError> {
    let mut walk = Walk::default();
    for entry in lines.elements(ForwardedHeader::XForwardedFor) {
        let node = Node::of_list(entry).ok_or(ForwardedError::BadFor)?;
        if walk.pass(node, proxies) == Onward::No {
            break;
        }
    }
    Ok(walk)
}

/// Finds client, scheme and host in Forwarded.
pub(super) fn forwarded(lines: &Lines<'_>, proxies: &TrustedPeers) -> Result<Walk, ForwardedError> {
    let mut walk = Walk::default();
    'lines: for line in lines.of(ForwardedHeader::Forwarded) {
        let elements = element::elements(line).ok_or(ForwardedError::BadForwarded)?;
        for element in elements.into_iter().rev() {
            if walk.pass_element(element, proxies)? == Onward::No {
                break 'lines;
            }
        }
    }
    Ok(walk)
}
