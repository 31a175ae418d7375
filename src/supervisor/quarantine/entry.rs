//! One request in quarantine.

use std::time::Instant;

use arctos_worker::shared::request_key::RequestKey;

/// Method and path of a request, as far as the scoreboard has them. They come from a client, so they have to be
/// escaped when they are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestName {
    /// The method.
    pub method: String,
    /// The path, percent-encoded as it was sent.
    pub path: String,
    /// Whether the end of the path may be missing.
    pub is_cut: bool,
}

/// Requests that are refused: those with this key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinedRequest {
    /// Its place in the table that workers read.
    pub place: usize,
    /// The number by which operators name it.
    pub number: u16,
    /// The key of method and path.
    pub key: RequestKey,
    /// Method and path of the request whose incident began the quarantine.
    pub name: RequestName,
    /// The number of incidents that count for it.
    pub incidents: u64,
    /// When it ends.
    pub until: Instant,
}
