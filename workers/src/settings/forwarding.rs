//! Which forwarded headers a worker believes, and from whom.

use std::fmt;

use super::trusted_peers::TrustedPeers;

/// `--forwarded-allow-ips` and `--forwarded-headers`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// The proxies that are believed.
    pub proxies: TrustedPeers,
    /// The headers that they set.
    pub headers: ForwardedHeaders,
}

impl Forwarding {
    /// Whether no header is believed, whoever sends it.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.proxies.is_empty()
    }
}

/// A header in which a proxy describes the request that it received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the headers")]
pub enum ForwardedHeader {
    Forwarded,
    XForwardedFor,
    XForwardedProto,
    XForwardedHost,
    XForwardedPort,
    XForwardedPrefix,
}

impl ForwardedHeader {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Forwarded,
        Self::XForwardedFor,
        Self::XForwardedProto,
        Self::XForwardedHost,
        Self::XForwardedPort,
        Self::XForwardedPrefix,
    ];

    /// The name in lower case.
    pub const fn lower(self) -> &'static str {
        match self {
            Self::Forwarded => "forwarded",
            Self::XForwardedFor => "x-forwarded-for",
            Self::XForwardedProto => "x-forwarded-proto",
            Self::XForwardedHost => "x-forwarded-host",
            Self::XForwardedPort => "x-forwarded-port",
            Self::XForwardedPrefix => "x-forwarded-prefix",
        }
    }
}

/// A set of forwarded headers, by default all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardedHeaders(u8);

impl ForwardedHeaders {
    /// No header.
    pub const NONE: Self = Self(0);
    /// All headers.
    pub const ALL: Self = Self((1 << ForwardedHeader::ALL.len()) - 1);

    /// Whether the set contains this header.
    pub fn has(self, header: ForwardedHeader) -> bool {
        self.0 & bit(header) != 0
    }

    /// Adds a header.
    pub fn add(&mut self, header: ForwardedHeader) {
        self.0 |= bit(header);
    }

    /// Whether the set contains none.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }
}

fn bit(header: ForwardedHeader) -> u8 {
    1 << header as u8
}

impl Default for ForwardedHeaders {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<ForwardedHeader> for ForwardedHeaders {
    fn from_iter<I: IntoIterator<Item = ForwardedHeader>>(headers: I) -> Self {
        let mut set = Self::NONE;
        headers.into_iter().for_each(|header| set.add(header));
        set
    }
}

impl fmt::Display for ForwardedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ForwardedHeader::ALL.into_iter().filter(|header| self.has(*header));
        for (index, header) in names.enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma}{}", header.lower())?;
        }
        Ok(())
    }
}
