//! The request target (RFC 9112 §3.2): origin-form, absolute-form, `*`.

use crate::http::head_error::HeadError;
use crate::http::host;
use crate::http::span::Span;

/// A parsed request target, in offsets into the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Target {
    /// The path: `/` for an absolute-form target without one, `*` for `OPTIONS *`.
    pub(super) path: Span,
    /// The query after the first `?`.
    pub(super) query: Span,
    /// The authority of an absolute-form target.
    pub(super) authority: Option<Span>,
}

impl Target {
    /// Parses a target whose bytes belong to the class [`TARGET`](super::byte_class::TARGET).
    ///
    /// Shape:  `/…` as it is, also with `//`; `http://host…` or `https://host…`, with the scheme in any case;
    ///         `*` with OPTIONS only. Only CONNECT, which is refused earlier, has the authority-form.
    #[inline]
    pub(super) fn parse(head: &[u8], method: &[u8], target: Span) -> Result<Self, HeadError> {
        let text = target.of(head);
        match text {
            [b'/', ..] => Ok(Self::from_path(head, target, None)),
            b"*" if method == b"OPTIONS" => Ok(Self {
                path: target,
                query: Span { start: target.end, ..target },
                authority: None,
            }),
            [_, ..] => Self::absolute(head, target),
            [] => Err(HeadError::BadTarget),
        }
    }

    fn absolute(head: &[u8], target: Span) -> Result<Self, HeadError> {
        let text = target.of(head);
        let prefix = [&b"http://"[..], b"https://"].into_iter().find(|prefix| {
            text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        });
        let Some(prefix) = prefix else { return Err(HeadError::BadTarget) };
        let rest = &text[prefix.len()..];
        let length = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
        if memchr::memchr(b'@', &rest[..length]).is_some() {
            return Err(HeadError::UserInfo);
        }
        if !host::is_host_port(&rest[..length]) {
            return Err(HeadError::BadAuthority);
        }
        let start = target.start as usize + prefix.len();
        let authority = Span::between(start, start + length);
        let rest = Span { start: authority.end, end: target.end };
        let mut parts = Self::from_path(head, rest, Some(authority));
        if parts.path.start == parts.path.end {
            // An empty path means `/` (RFC 9110 §4.2.3); the last byte of `://` stands in for it.
            parts.path = Span { start: authority.start - 1, end: authority.start };
        }
        Ok(parts)
    }

    /// Splits path and query at the first `?`.
    #[inline]
    fn from_path(head: &[u8], rest: Span, authority: Option<Span>) -> Self {
        let (start, end) = (rest.start as usize, rest.end as usize);
        let (path_end, query_start) = match memchr::memchr(b'?', rest.of(head)) {
            Some(mark) => (start + mark, start + mark + 1),
            None => (end, end),
        };
        Self {
            path: Span::between(start, path_end),
            query: Span::between(query_start, end),
            authority,
        }
    }
}
