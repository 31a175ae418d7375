//! Why what a trusted proxy says about a request is refused.

use crate::http::status::Status;

/// Why what a trusted proxy says is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardedError {
    /// An entry of X-Forwarded-For is no address.
    #[error("X-Forwarded-For contains something that is not an address")]
    BadFor,
    /// X-Forwarded-Proto is another scheme.
    #[error("X-Forwarded-Proto is neither http nor https")]
    BadProto,
    /// X-Forwarded-Host is not `host[:port]`.
    #[error("X-Forwarded-Host is malformed")]
    BadHost,
    /// X-Forwarded-Port is not a port.
    #[error("X-Forwarded-Port is not a number from 1 to 65535")]
    BadPort,
    /// X-Forwarded-Prefix is not a path.
    #[error("X-Forwarded-Prefix is not a path")]
    BadPrefix,
    /// Forwarded does not follow the grammar of RFC 7239, or states something that is wrong by itself.
    #[error("Forwarded is malformed")]
    BadForwarded,
    /// X-Forwarded-Proto has several values that differ.
    #[error("X-Forwarded-Proto has different values")]
    SeveralProtos,
    /// X-Forwarded-Host has several values that differ.
    #[error("X-Forwarded-Host has different values")]
    SeveralHosts,
    /// X-Forwarded-Port has several values that differ.
    #[error("X-Forwarded-Port has different values")]
    SeveralPorts,
    /// X-Forwarded-Prefix has several values that differ.
    #[error("X-Forwarded-Prefix has different values")]
    SeveralPrefixes,
    /// The two headers name different clients.
    #[error("Forwarded and X-Forwarded-For contradict each other")]
    ClientDisputed,
    /// The two headers name different schemes.
    #[error("Forwarded and X-Forwarded-Proto contradict each other")]
    SchemeDisputed,
    /// The two headers name different hosts.
    #[error("Forwarded and X-Forwarded-Host contradict each other")]
    HostDisputed,
}

impl ForwardedError {
    /// The status of the response.
    pub fn status(self) -> Status {
        Status(400)
    }
}
