//! Which peers a server believes: addresses, networks, all unix sockets, or everybody.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// The number of bits by which an IPv4 network, written as IPv4-mapped IPv6, is longer.
const MAPPED_BITS: u8 = 96;

/// A list of trusted peers. The empty list trusts nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedPeers(Vec<TrustedPeer>);

/// One entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedPeer {
    /// `*`: everybody.
    Everybody,
    /// `unix`: the peers of unix sockets.
    Unix,
    /// An address or a network.
    Network(Network),
}

/// A network, or a single address, which is a network of one. Its host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

/// Why a text is no [`TrustedPeer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAPeer {
    /// It is no address, no network and none of the words.
    #[error("an IP address, a network such as 10.0.0.0/8, unix or *")]
    Form,
    /// Its address has bits beyond the prefix, so that it is unclear what is meant.
    #[error("the first address of the network, {0}")]
    HostBits(Network),
}

impl TrustedPeers {
    /// Whether the list trusts nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the list contains this address. An IPv4 address that was mapped to IPv6, as a socket for both
    /// has it, is compared as IPv4.
    pub fn has_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|peer| match peer {
            TrustedPeer::Everybody => true,
            TrustedPeer::Unix => false,
            TrustedPeer::Network(network) => network.contains(address),
        })
    }

    /// Whether the list contains the peers of unix sockets.
    pub fn has_unix(&self) -> bool {
        self.0.iter().any(|peer| match peer {
            TrustedPeer::Everybody | TrustedPeer::Unix => true,
            TrustedPeer::Network(_) => false,
        })
    }
}

impl FromIterator<TrustedPeer> for TrustedPeers {
    fn from_iter<I: IntoIterator<Item = TrustedPeer>>(peers: I) -> Self {
        Self(peers.into_iter().collect())
    }
}

impl Network {
    /// The network of this address and prefix, with its host bits set to zero; `None` if the prefix is longer than
    /// the address.
    fn new(address: IpAddr, prefix_bits: u8) -> Option<Self> {
        let (address, prefix_bits) = match (address, address.to_canonical()) {
            (IpAddr::V6(_), IpAddr::V4(mapped)) if prefix_bits >= MAPPED_BITS => {
                (IpAddr::V4(mapped), prefix_bits - MAPPED_BITS)
            }
            (address, _) => (address, prefix_bits),
        };
        let address = match address {
            IpAddr::V4(address) if prefix_bits <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
                IpAddr::V4((address.to_bits() & mask).into())
            }
            IpAddr::V6(address) if prefix_bits <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return None,
        };
        Some(Self { address, prefix_bits })
    }

    fn contains(self, address: IpAddr) -> bool {
        Self::new(address, self.prefix_bits).is_some_and(|network| {
            network.address == self.address && network.prefix_bits == self.prefix_bits
        })
    }

    fn is_single(self) -> bool {
        self.prefix_bits == if self.address.is_ipv4() { 32 } else { 128 }
    }
}

impl FromStr for TrustedPeer {
    type Err = NotAPeer;

    fn from_str(text: &str) -> Result<Self, NotAPeer> {
        match text {
            "*" => return Ok(Self::Everybody),
            "unix" => return Ok(Self::Unix),
            _ => {}
        }
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NotAPeer::Form)?;
        let prefix_bits = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().map_err(|_| NotAPeer::Form)?
            }
            Some(_) => return Err(NotAPeer::Form),
            None if address.is_ipv4() => 32,
            None => 128,
        };
        let network = Network::new(address, prefix_bits).ok_or(NotAPeer::Form)?;
        if network.address != address.to_canonical() && network.address != address {
            return Err(NotAPeer::HostBits(network));
        }
        Ok(Self::Network(network))
    }
}

impl fmt::Display for TrustedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("*"),
            Self::Unix => f.write_str("unix"),
            Self::Network(network) => network.fmt(f),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)?;
        if self.is_single() { Ok(()) } else { write!(f, "/{}", self.prefix_bits) }
    }
}

impl fmt::Display for TrustedPeers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, peer) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{peer}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(list: &str) -> TrustedPeers {
        list.split(',').filter(|word| !word.is_empty()).map(|word| word.parse().unwrap()).collect()
    }

    fn has(list: &str, address: &str) -> bool {
        peers(list).has_address(address.parse().unwrap())
    }

    #[test]
    fn an_empty_list_trusts_nobody() {
        assert!(peers("").is_empty());
        assert!(!has("", "127.0.0.1"));
        assert!(!peers("").has_unix());
    }

    #[test]
    fn a_network_contains_its_addresses_and_no_other() {
        assert!(has("10.0.0.0/8", "10.255.0.1"));
        assert!(!has("10.0.0.0/8", "11.0.0.0"));
        assert!(has("192.0.2.7", "192.0.2.7"));
        assert!(!has("192.0.2.7", "192.0.2.6"));
        assert!(has("2001:db8::/32", "2001:db8:ffff::1"));
        assert!(!has("2001:db8::/32", "2001:db9::1"));
        assert!(has("192.0.2.8/31", "192.0.2.9") && !has("192.0.2.8/31", "192.0.2.10"));
        assert!(has("10.0.0.1,::1", "::1"));
    }

    #[test]
    fn a_prefix_of_zero_contains_one_family_only() {
        assert!(has("0.0.0.0/0", "255.255.255.255") && !has("0.0.0.0/0", "::1"));
        assert!(has("::/0", "::1") && !has("::/0", "127.0.0.1"));
    }

    #[test]
    fn an_ipv4_address_is_the_same_when_it_is_mapped_to_ipv6() {
        assert!(has("127.0.0.1", "::ffff:127.0.0.1"));
        assert!(has("::ffff:127.0.0.1", "127.0.0.1"));
        assert!(has("::ffff:10.0.0.0/104", "10.1.1.1"));
        assert_eq!(peers("::ffff:10.0.0.0/104").to_string(), "10.0.0.0/8");
    }

    #[test]
    fn unix_sockets_have_to_be_named() {
        assert!(peers("unix").has_unix() && !has("unix", "127.0.0.1"));
        assert!(!peers("127.0.0.1").has_unix());
        assert!(peers("*").has_unix() && has("*", "192.0.2.1") && has("*", "::1"));
    }

    #[test]
    fn anything_else_is_refused() {
        for wrong in [
            "",
            "localhost",
            "10.0.0.0/33",
            "::/129",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0/8",
            "010.0.0.1",
            "[::1]",
            "fe80::1%eth0",
            "UNIX",
            "unix:",
            "**",
            "10.0.0.0/8/8",
            "1.2.3.4:80",
            "::ffff:10.0.0.0/95",
        ] {
            assert!(wrong.parse::<TrustedPeer>().is_err(), "{wrong:?}");
        }
        let network = "10.0.0.1/8".parse::<TrustedPeer>().unwrap_err();
        assert_eq!(network.to_string(), "the first address of the network, 10.0.0.0/8");
    }

    #[test]
    fn a_shown_list_reads_as_the_same_list() {
        for list in ["*", "unix", "10.0.0.0/8,192.0.2.1,::1,2001:db8::/32,unix"] {
            assert_eq!(peers(list).to_string(), list);
        }
    }
}
