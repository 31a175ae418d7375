//! What the application learns of the TLS session of a connection.

use std::borrow::Cow;

/// The variables of environ that describe a TLS session, with their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsInfo {
    /// In the order in which they are set.
    pub variables: Vec<(Cow<'static, str>, String)>,
}
