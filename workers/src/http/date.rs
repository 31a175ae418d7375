//! The `Date` field (RFC 9110 §6.6.1), rendered once a second.

use std::time::SystemTime;

/// `Sun, 06 Nov 1994 08:49:37 GMT`, 29 bytes.
#[derive(Clone, Copy, Debug)]
pub struct HttpDate {
    _text: [u8; 29],
}

impl HttpDate {
    /// Renders a moment.
    pub fn at(_time: SystemTime) -> Self {
        todo!()
    }
    /// The text.
    pub fn as_bytes(&self) -> &[u8; 29] {
        todo!()
    }
}
