//! A request for a file.

use crate::http::{Head, Selection};

/// A request for a file.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) head: &'a Head,
    pub(super) head_bytes: &'a [u8],
    /// In seconds since 1970.
    pub(super) now: u64,
}

/// The methods that files have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Get,
    Head,
}

impl Request<'_> {
    /// The method; `None` if files do not have it.
    pub(super) fn method(&self) -> Option<Method> {
        match self.head.method.of(self.head_bytes) {
            b"GET" => Some(Method::Get),
            b"HEAD" => Some(Method::Head),
            _ => None,
        }
    }

    /// What `Range` selects: only GET has ranges (RFC 9110 §14.2).
    pub(super) fn selection(&self, method: Method, size: u64) -> Selection {
        let mut values = self.head.find_all(self.head_bytes, "range");
        match (method, values.next(), values.next()) {
            (Method::Get, Some(value), None) => Selection::of(value, size),
            (Method::Get | Method::Head, _, _) => Selection::Whole,
        }
    }
}
