//! The scheme that a client used.

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the schemes")]
pub enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(super) fn of(text: &[u8]) -> Option<Self> {
        match text {
            text if text.eq_ignore_ascii_case(b"http") => Some(Self::Http),
            text if text.eq_ignore_ascii_case(b"https") => Some(Self::Https),
            _ => None,
        }
    }

    pub(super) fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}
