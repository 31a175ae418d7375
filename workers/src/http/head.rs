//! The head of a request: httparse, and the rules that make it strict.
//!
//! A [`Head`] is parsed in one of two ways. The fast path takes a head that is complete when first seen: it
//! runs httparse and checks on the resulting slices what httparse accepts too easily. Whatever the fast path
//! does not take, because it is incomplete, malformed or rare, goes to the scanner in `scan`, which decides.
//! The fast path accepts nothing that the scanner would refuse; property tests compare the two.

use std::mem::MaybeUninit;

use crate::http::byte_class::{self, TARGET};
use crate::http::facts::{self, Facts, FieldFate};
use crate::http::framing::Framing;
use crate::http::partial_head::PartialHead;
use crate::http::request_line::{METHOD_BYTES, RequestLine, VERSION_BYTES};
use crate::http::scan::{self, CheckedHead};
use crate::http::span::Span;
use crate::http::trace_parent;
use crate::http::version::Version;
use crate::settings::{HeaderMap, Limits};

pub use crate::http::head_error::HeadError;
pub use crate::http::scan::HeadScan;

/// The number of fields that the fast path has room for, on the stack. If the limits allow more, such heads go
/// to the scanner: no head that matters for speed has as many.
const FAST_FIELDS: usize = 128;

/// One header field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The name as sent.
    pub name: Span,
    /// The value without surrounding white space.
    pub value: Span,
}

/// A parsed head, in offsets, so that it can be kept, reused and moved without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The method.
    pub method: Span,
    /// The request target as sent.
    pub target: Span,
    /// The path of the target, percent-encoded as sent: `/` for `http://host`, `*` for `OPTIONS *`.
    pub path: Span,
    /// What follows the first `?`; empty without one.
    pub query: Span,
    /// The authority of an absolute-form target, which replaces Host.
    pub authority: Option<Span>,
    /// The version.
    pub version: Version,
    /// Header fields in order. Those with `_` in the name are dropped and counted in `dropped_count`.
    pub fields: Vec<Field>,
    /// The number of fields dropped because of `_` in their name.
    pub dropped_count: u32,
    /// Where the body ends.
    pub framing: Framing,
    /// Whether the client wants the connection to persist (Connection, version).
    pub keeps_alive: bool,
    /// Whether the client sent `Expect: 100-continue` in HTTP/1.1.
    pub expects_continue: bool,
    /// The bytes of the whole head, with leading empty lines and the final empty line.
    pub len: usize,
}

/// Whether a head is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// More bytes are needed.
    Incomplete,
    /// The head is complete and described by the [`Head`].
    Complete,
}

impl Head {
    /// Creates an empty head to parse into.
    pub fn new() -> Self {
        Self {
            method: Span::default(),
            target: Span::default(),
            path: Span::default(),
            query: Span::default(),
            authority: None,
            version: Version::Http11,
            fields: Vec::new(),
            dropped_count: 0,
            framing: Framing::None,
            keeps_alive: false,
            expects_continue: false,
            len: 0,
        }
    }

    /// Becomes a copy of another head, in the memory of this one.
    pub fn copy_from(&mut self, other: &Self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        fields.extend_from_slice(&other.fields);
        *self = Self { fields, ..*other };
    }

    /// Parses `input`, which starts with the first byte of a request, and fills in `self` once the head is
    /// complete. Until then, and for a head that is refused, `self` has no meaning.
    ///
    /// `scan` is new for a new request. After `Incomplete`, the caller passes it again with the same bytes and
    /// more after them; after `Complete` it is reset. The result does not depend on where the input was cut:
    /// the first offense in byte order decides. Bytes after the head are never read.
    pub fn parse(
        &mut self,
        input: &[u8],
        scan: &mut HeadScan,
        limits: &Limits,
        header_map: HeaderMap,
    ) -> Result<Parsed, HeadError> {
        if scan.is_fresh() && self.parse_whole(input, limits, header_map).is_some() {
            return Ok(Parsed::Complete);
        }
        let Some(checked) = scan.advance(input, limits, header_map)? else {
            return Ok(Parsed::Incomplete);
        };
        *scan = HeadScan::default();
        self.fill(input, &checked);
        Ok(Parsed::Complete)
    }

    /// Parses a head of which no more will arrive; `None` if it is incomplete. [`Head::parse`] is for all others.
    pub fn of(
        input: &[u8],
        limits: &Limits,
        header_map: HeaderMap,
    ) -> Result<Option<Self>, HeadError> {
        let mut head = Self::new();
        match head.parse(input, &mut HeadScan::default(), limits, header_map)? {
            Parsed::Complete => Ok(Some(head)),
            Parsed::Incomplete => Ok(None),
        }
    }

    /// Returns the value of the first field of this name, compared without regard to case.
    pub fn find<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let field = self
            .fields
            .iter()
            .find(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()))?;
        Some(field.value.of(bytes))
    }

    /// Returns the value of the last field of this name.
    pub fn find_last<'a>(&self, bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
        let mut fields = self.fields.iter().rev();
        let field =
            fields.find(|field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()))?;
        Some(field.value.of(bytes))
    }

    /// Returns the values of all fields of this name, in their order.
    pub fn find_all<'a>(
        &self,
        bytes: &'a [u8],
        name: &'a str,
    ) -> impl Iterator<Item = &'a [u8]> + use<'a, '_> {
        let of_name = self
            .fields
            .iter()
            .filter(move |field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()));
        of_name.map(move |field| field.value.of(bytes))
    }

    /// Whether there is a field of this name.
    pub fn has(&self, bytes: &[u8], name: &str) -> bool {
        self.find(bytes, name).is_some()
    }

    /// Copies the parts that a log names, for a request that is refused after its head.
    pub fn to_partial(&self, head_bytes: &[u8]) -> PartialHead {
        PartialHead {
            method: Some(self.method.of(head_bytes).into()),
            path: Some(self.path.of(head_bytes).into()),
            version: Some(self.version),
            referer: self.find(head_bytes, "referer").map(Into::into),
            user_agent: self.find(head_bytes, "user-agent").map(Into::into),
            trace: trace_parent::trace_of(self.find_all(head_bytes, "traceparent")).copied(),
        }
    }

    /// Whether the method is HEAD.
    pub fn is_head(&self, bytes: &[u8]) -> bool {
        self.method.of(bytes) == b"HEAD"
    }

    /// The fast path: one pass of httparse, then our rules. `None` only means that the scanner has to decide.
    fn parse_whole(
        &mut self,
        input: &[u8],
        limits: &Limits,
        header_map: HeaderMap,
    ) -> Option<CheckedHead> {
        let mut slots = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; FAST_FIELDS];
        let slots = &mut slots[..limits.header_count.min(FAST_FIELDS)];
        let mut request = httparse::Request::new(&mut []);
        let Ok(httparse::Status::Complete(len)) = request.parse_with_uninit_headers(input, slots)
        else {
            return None;
        };
        if len > scan::max_head_bytes(limits) {
            return None;
        }
        let span_of = |part: &[u8]| {
            let start = part.as_ptr().addr() - input.as_ptr().addr();
            Span::between(start, start + part.len())
        };

        // httparse skips any number of empty lines, and accepts any method and target and a bare LF in place
        // of CRLF.
        let method = span_of(request.method?.as_bytes());
        let target = span_of(request.path?.as_bytes());
        let version_start = target.end as usize + 1;
        let line_end = version_start + VERSION_BYTES;
        if method.start != 0
            || method.end as usize > METHOD_BYTES
            || line_end > limits.request_line_bytes
            || byte_class::run(target.of(input), TARGET) != target.of(input).len()
            || input.get(line_end..line_end + 2)? != b"\r\n"
            || !input[..len].ends_with(b"\r\n\r\n")
        {
            return None;
        }
        let version = &input[version_start..line_end];
        let line = RequestLine::parse(input, method, target, version).ok()?;

        let fields_start = line_end + 2;
        let mut facts = Facts::default();
        self.fields.clear();
        let mut previous_start = fields_start;
        for header in request.headers.iter() {
            let name = span_of(header.name.as_bytes());
            let start = name.start as usize;
            // Checks the previous line; there is none before the first field.
            if start > previous_start {
                is_line(input, previous_start, start, limits).then_some(())?;
                previous_start = start;
            }
            let name_bytes = header.name.as_bytes();
            match facts.note(name_bytes, header.value, line.version, header_map).ok()? {
                FieldFate::Kept => self.fields.push(Field { name, value: span_of(header.value) }),
                FieldFate::Dropped => {}
            }
        }
        if !request.headers.is_empty() {
            is_line(input, previous_start, len - 2, limits).then_some(())?;
        }
        let framing = facts.framing(line.version).ok()?;
        let checked = CheckedHead { request_line: line, facts, framing, fields_start, len };
        self.describe(&checked);
        Some(checked)
    }

    /// Fills in everything from a head that the scanner accepted.
    fn fill(&mut self, input: &[u8], checked: &CheckedHead) {
        self.fields.clear();
        let mut start = checked.fields_start;
        // The scanner has checked that each line is `name ":" value CRLF` and that the last one is empty.
        while start < checked.len - 2 {
            let rest = &input[start..checked.len];
            let end = start + memchr::memchr(b'\r', rest).expect("a checked line has its CR");
            let line = &input[start..end];
            let colon = memchr::memchr(b':', line).expect("a checked line has its colon");
            if !facts::is_ambiguous(&line[..colon]) {
                let value = byte_class::trim(&line[colon + 1..]);
                let value_start = value.as_ptr().addr() - input.as_ptr().addr();
                self.fields.push(Field {
                    name: Span::between(start, start + colon),
                    value: Span::between(value_start, value_start + value.len()),
                });
            }
            start = end + 2;
        }
        self.describe(checked);
    }

    /// Fills in everything except the fields.
    #[inline]
    fn describe(&mut self, checked: &CheckedHead) {
        let line = &checked.request_line;
        self.method = line.method;
        self.target = line.target;
        self.path = line.parts.path;
        self.query = line.parts.query;
        self.authority = line.parts.authority;
        self.version = line.version;
        self.dropped_count = checked.facts.dropped_count;
        self.framing = checked.framing;
        self.keeps_alive = checked.facts.keeps_alive(line.version);
        self.expects_continue = checked.facts.expects_continue();
        self.len = checked.len;
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::new()
    }
}

/// Whether the field line from `start` to `end` ends with CRLF and is within its limit.
#[inline]
fn is_line(input: &[u8], start: usize, end: usize, limits: &Limits) -> bool {
    // httparse has found the end of the line, and accepts CR only before LF.
    input[end - 2] == b'\r' && end - 2 - start <= limits.header_field_bytes
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
