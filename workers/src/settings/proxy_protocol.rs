//! Whether connections begin with a PROXY header, and from whom.

use super::trusted_peers::TrustedPeers;

/// `--proxy-protocol` and `--proxy-allow-from`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    /// The version that is expected.
    pub version: ProxyVersion,
    /// The proxies that may connect.
    pub senders: TrustedPeers,
}

impl ProxyProtocol {
    /// What a server that is given neither option does.
    pub const VERSION: ProxyVersion = ProxyVersion::Off;

    /// Whether connections begin with a request.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.version == ProxyVersion::Off
    }
}

impl Default for ProxyProtocol {
    fn default() -> Self {
        Self { version: Self::VERSION, senders: TrustedPeers::default() }
    }
}

/// The version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyVersion {
    /// None: connections begin with a request.
    Off,
    /// The text of version 1.
    V1,
    /// The binary format of version 2.
    V2,
    /// Either of them.
    Auto,
}

impl ProxyVersion {
    /// All versions.
    pub const ALL: [Self; 4] = [Self::Off, Self::V1, Self::V2, Self::Auto];

    /// How `--proxy-protocol` writes it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Auto => "auto",
        }
    }

    /// Whether the text of version 1 is accepted.
    pub fn has_v1(self) -> bool {
        matches!(self, Self::V1 | Self::Auto)
    }

    /// Whether the binary format of version 2 is accepted.
    pub fn has_v2(self) -> bool {
        matches!(self, Self::V2 | Self::Auto)
    }
}
