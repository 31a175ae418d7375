//! Status codes (RFC 9110 §15).

/// A status code of a response, 200-599 (or 100 for the interim response).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(pub u16);

impl Status {
    /// The reason phrase of RFC 9110, or `Unknown`.
    pub fn reason(self) -> &'static str {
        todo!()
    }
}
