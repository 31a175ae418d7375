//! The head of a request: httparse, and every rule that makes it strict.

use crate::http::framing::Framing;
use crate::http::status::Status;
use crate::settings::{HeaderMap, Limits};

/// A piece of the head, in bytes from the head's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes it names.
    pub fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// HTTP/1.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1, or a higher 1.x taken as that.
    Http11,
}

/// One header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name as sent.
    pub name: Span,
    /// Its value without surrounding white space.
    pub value: Span,
}

/// A parsed head, in offsets, so that it can be kept, reused and moved without its bytes.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Span,
    /// The request target as sent.
    pub target: Span,
    /// The path of the target, percent-encoded as sent: `/` for `http://host`, `*` for `OPTIONS *`.
    pub path: Span,
    /// What follows the first `?`; empty without one.
    pub query: Span,
    /// The authority of an absolute-form target, which stands for Host.
    pub authority: Option<Span>,
    /// The version.
    pub version: Version,
    /// Header fields in order; those with `_` in the name are left out and counted in `dropped_count`.
    pub fields: Vec<Field>,
    /// Fields left out because of `_` in their name.
    pub dropped_count: u32,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client lets the connection live on (Connection, version).
    pub keeps_alive: bool,
    /// Whether it sent `Expect: 100-continue` (and is HTTP/1.1).
    pub expects_continue: bool,
    /// Bytes of the whole head, leading empty lines and the final empty line included.
    pub len: usize,
}

/// How far an unfinished head has been looked at, so that a byte is judged once. Kept by the
/// connection while its head is incomplete.
#[derive(Clone, Debug, Default)]
pub struct HeadScan {
    _private: (),
}

/// Outcome of looking at the start of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// The head is whole and described by the [`Head`].
    Complete,
}

/// Why a head is refused. One variant a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// Placeholder variant.
    #[error("bad request")]
    Bad,
}

impl HeadError {
    /// The status that answers it.
    pub fn status(self) -> Status {
        todo!()
    }
}

impl Head {
    /// An empty one to parse into.
    pub fn new() -> Self {
        todo!()
    }

    /// Looks at `input`, which starts with the first byte of a request, and fills in `self` when the
    /// head is whole.
    ///
    /// `scan` is fresh for a new request and is handed back, with the same bytes and more behind them,
    /// after `Incomplete`. The answer for a request does not depend on where its bytes were cut: the
    /// first offence in byte order decides. Nothing behind the head is looked at.
    pub fn parse(
        &mut self,
        _input: &[u8],
        _scan: &mut HeadScan,
        _limits: &Limits,
        _header_map: HeaderMap,
    ) -> Result<Parsed, HeadError> {
        todo!()
    }

    /// The first field of this name, compared without regard to case.
    pub fn find<'a>(&self, _bytes: &'a [u8], _name: &str) -> Option<&'a [u8]> {
        todo!()
    }

    /// Whether the method is HEAD.
    pub fn is_head(&self, _bytes: &[u8]) -> bool {
        todo!()
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}
