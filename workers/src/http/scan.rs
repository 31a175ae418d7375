//! The scanner: it parses a head that arrives in pieces, or that the fast path in [`head`](super::head) did not
//! take.
//!
//! It reads each byte once, in order, and remembers its position. It checks a byte when it arrives, a line when
//! its LF arrives, and the head when its empty line arrives. An error is therefore the same wherever reads were
//! cut, and garbage is refused with its first byte instead of at the timeout.
//!
//! | state | byte | next |
//! |---|---|---|
//! | `Before` | CR | `BeforeLf` |
//! | `Before` | tchar | `Method` |
//! | `BeforeLf` | LF | `Before`, at most [`EMPTY_LINES`] times |
//! | `Method` | SP | `Target` |
//! | `Target` | SP | `Version` |
//! | `Version` | CR | `VersionLf` |
//! | `VersionLf` | LF | `Fields`, if the request line as a whole is valid |
//! | `Fields` | | as in [`super::fields`], to its end |
//!
//! Any other byte is an error, or one more of the same part.

use crate::http::byte_class::{self, TARGET, TOKEN};
use crate::http::facts::Facts;
use crate::http::fields::{FieldError, FieldLimits, FieldScan, LineEnd};
use crate::http::framing::Framing;
use crate::http::head_error::HeadError;
use crate::http::partial_head::{self, Extent, PartialHead};
use crate::http::request_line::{METHOD_BYTES, RequestLine, VERSION_BYTES};
use crate::http::span::Span;
use crate::settings::{HeaderMap, Limits};

/// The number of empty lines skipped before a request line (RFC 9112 §2.2 asks for at least one).
const EMPTY_LINES: u8 = 2;

/// The scanner's position in an unfinished head, so that it reads each byte once. The connection keeps it while
/// the head is incomplete.
#[derive(Clone, Debug, Default)]
pub struct HeadScan {
    state: HeadState,
    /// The next byte to read.
    at: usize,
    /// The first byte of the current line.
    line: usize,
    empty_lines: u8,
    method: Span,
    target: Span,
    request_line: Option<RequestLine>,
    /// The first byte after the request line.
    fields_start: usize,
    fields: FieldScan,
    facts: Facts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum HeadState {
    #[default]
    Before,
    BeforeLf,
    Method,
    Target,
    Version,
    VersionLf,
    Fields,
}

/// A complete, valid head.
#[derive(Clone, Copy, Debug)]
pub(super) struct CheckedHead {
    pub(super) request_line: RequestLine,
    pub(super) facts: Facts,
    pub(super) framing: Framing,
    /// The first byte of the first field line.
    pub(super) fields_start: usize,
    /// The bytes of the head.
    pub(super) len: usize,
}

/// Returns the maximum bytes of a head. Offsets have 32 bits.
#[inline]
pub(super) fn max_head_bytes(limits: &Limits) -> usize {
    limits.head_bytes.min(u32::MAX as usize)
}

impl HeadScan {
    /// Whether no byte has been read.
    #[inline]
    pub(super) fn is_fresh(&self) -> bool {
        self.at == 0
    }

    /// Copies the parts that a log names from a head that is incomplete or refused. `input` has the bytes that
    /// were read.
    pub fn to_partial(&self, input: &[u8]) -> PartialHead {
        let (method, target, extent) = match self.state {
            HeadState::Before | HeadState::BeforeLf | HeadState::Method => {
                return PartialHead::default();
            }
            HeadState::Target => {
                (self.method, Span::between(self.part_start(), self.at), Extent::CutOff)
            }
            HeadState::Version | HeadState::VersionLf | HeadState::Fields => {
                (self.method, self.target, Extent::Whole)
            }
        };
        let path = match self.request_line {
            Some(line) => Some(line.parts.path.of(input)),
            None => partial_head::path_of(target.of(input), extent),
        };
        let mut part = PartialHead {
            method: Some(method.of(input).into()),
            path: path.map(Into::into),
            version: self.request_line.map(|line| line.version),
            ..PartialHead::default()
        };
        if self.state == HeadState::Fields {
            // The lines before the current one are valid, and each ends with CRLF.
            let mut rest = &input[self.fields_start..self.line];
            while let Some(end) = memchr::memchr(b'\r', rest) {
                part.note_field(&rest[..end]);
                rest = rest.get(end + 2..).unwrap_or_default();
            }
        }
        part
    }

    /// Reads what is new in `input`; `None` while the head is incomplete.
    pub(super) fn advance(
        &mut self,
        input: &[u8],
        limits: &Limits,
        header_map: HeaderMap,
    ) -> Result<Option<CheckedHead>, HeadError> {
        while self.state != HeadState::Fields {
            let Some(byte) = self.skip_run(input, limits)? else { return Ok(None) };
            self.step(byte, input)?;
        }
        self.scan_fields(input, limits, header_map)
    }

    /// Skips the bytes that belong to the current part, and returns the first one that does not. That may also
    /// be the first byte above a limit; `step` decides.
    fn skip_run(&mut self, input: &[u8], limits: &Limits) -> Result<Option<u8>, HeadError> {
        let (class, max_bytes) = match self.state {
            HeadState::Method => (TOKEN, METHOD_BYTES),
            HeadState::Target => (TARGET, usize::MAX),
            HeadState::Version => (TARGET, VERSION_BYTES),
            HeadState::Before | HeadState::BeforeLf | HeadState::VersionLf | HeadState::Fields => {
                (0, 0)
            }
        };
        let head_fence = max_head_bytes(limits);
        let line_fence = self.line.saturating_add(limits.request_line_bytes);
        if class != 0 {
            let fence = self
                .part_start()
                .saturating_add(max_bytes)
                .min(line_fence)
                .min(head_fence)
                .min(input.len());
            self.at += byte_class::run(input.get(self.at..fence).unwrap_or_default(), class);
        }
        let Some(&byte) = input.get(self.at) else { return Ok(None) };
        if self.at >= head_fence {
            return Err(FieldError::SectionTooLong.into());
        }
        let ends_line =
            byte == b'\r' || matches!(self.state, HeadState::BeforeLf | HeadState::VersionLf);
        if self.at >= line_fence && !ends_line {
            return Err(HeadError::RequestLineTooLong);
        }
        Ok(Some(byte))
    }

    /// The first byte of the method, target or version.
    fn part_start(&self) -> usize {
        match self.state {
            HeadState::Target => self.method.end as usize + 1,
            HeadState::Version => self.target.end as usize + 1,
            HeadState::Before
            | HeadState::BeforeLf
            | HeadState::Method
            | HeadState::VersionLf
            | HeadState::Fields => self.line,
        }
    }

    /// Takes the byte at `self.at`, which ends a part or is one of its own.
    fn step(&mut self, byte: u8, input: &[u8]) -> Result<(), HeadError> {
        let part = Span::between(self.part_start(), self.at);
        let is_empty = part.start == part.end;
        self.state = match self.state {
            HeadState::Before => match byte {
                b'\r' if self.empty_lines == EMPTY_LINES => return Err(HeadError::EmptyLines),
                b'\r' => HeadState::BeforeLf,
                byte if byte_class::is(byte, TOKEN) => HeadState::Method,
                byte => return Err(offense(byte, HeadError::BadMethod)),
            },
            HeadState::BeforeLf => {
                expect_lf(byte)?;
                self.empty_lines += 1;
                self.line = self.at + 1;
                HeadState::Before
            }
            HeadState::Method => match byte {
                b' ' => {
                    self.method = part;
                    HeadState::Target
                }
                byte if byte_class::is(byte, TOKEN) => return Err(HeadError::MethodTooLong),
                byte => return Err(offense(byte, HeadError::BadMethod)),
            },
            HeadState::Target => match byte {
                b' ' if !is_empty => {
                    self.target = part;
                    HeadState::Version
                }
                b'\r' => return Err(HeadError::NoVersion),
                byte => return Err(offense(byte, HeadError::BadTarget)),
            },
            HeadState::Version => match byte {
                b'\r' if !is_empty => HeadState::VersionLf,
                byte => return Err(offense(byte, HeadError::BadVersion)),
            },
            HeadState::VersionLf => {
                expect_lf(byte)?;
                let version = &input[self.target.end as usize + 1..self.at - 1];
                let line = RequestLine::parse(input, self.method, self.target, version)?;
                self.request_line = Some(line);
                self.line = self.at + 1;
                self.fields_start = self.line;
                HeadState::Fields
            }
            // `advance` handles the fields itself.
            HeadState::Fields => HeadState::Fields,
        };
        self.at += 1;
        Ok(())
    }

    fn scan_fields(
        &mut self,
        input: &[u8],
        limits: &Limits,
        header_map: HeaderMap,
    ) -> Result<Option<CheckedHead>, HeadError> {
        let request_line = self.request_line.expect("the fields follow a request line");
        let field_limits =
            FieldLimits { line_bytes: limits.header_field_bytes, line_count: limits.header_count };
        loop {
            let room_bytes = max_head_bytes(limits).saturating_sub(self.at);
            let (count, end) =
                self.fields.next_line(&input[self.at..], room_bytes, &field_limits)?;
            self.at += count;
            match end {
                LineEnd::Unfinished => return Ok(None),
                LineEnd::Field { name_bytes } => {
                    let line = &input[self.line..self.at - 2];
                    let value = byte_class::trim(&line[name_bytes + 1..]);
                    let name = &line[..name_bytes];
                    // `Head::fill` decides again which fields to keep, once the head is complete.
                    let _ = self.facts.note(name, value, request_line.version, header_map)?;
                    self.line = self.at;
                }
                LineEnd::Last => {
                    return Ok(Some(CheckedHead {
                        request_line,
                        facts: self.facts,
                        framing: self.facts.framing(request_line.version)?,
                        fields_start: self.fields_start,
                        len: self.at,
                    }));
                }
            }
        }
    }
}

/// Checks that LF follows a CR.
fn expect_lf(byte: u8) -> Result<(), HeadError> {
    if byte == b'\n' { Ok(()) } else { Err(HeadError::BareCr) }
}

/// Returns the error for a byte that is not allowed at its position.
fn offense(byte: u8, otherwise: HeadError) -> HeadError {
    match byte {
        b'\n' => HeadError::BareLf,
        byte if byte_class::is_control(byte) && byte != b'\r' => HeadError::Control,
        _ => otherwise,
    }
}
