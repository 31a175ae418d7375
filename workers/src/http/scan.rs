//! The judge of a head that comes in pieces, and of one that the fast way would not take.
//!
//! It goes through the bytes once, in order, and remembers where it is: a byte is judged when it
//! comes, a line when its LF comes, the head when its empty line comes. What is wrong with it is
//! therefore the same wherever the reads were cut, and garbage is refused with its first byte, not
//! at the timeout.
//!
//! | place | byte | next |
//! |---|---|---|
//! | `Before` | CR | `BeforeLf` |
//! | `Before` | tchar | `Method` |
//! | `BeforeLf` | LF | `Before`, at most [`EMPTY_LINES`] times |
//! | `Method` | SP | `Target` |
//! | `Target` | SP | `Version` |
//! | `Version` | CR | `VersionLf` |
//! | `VersionLf` | LF | `Fields`, if the request line as a whole is good |
//! | `Fields` | | as in [`super::fields`], to its end |
//!
//! Anything else is an error, or another byte of the same kind.

use crate::http::byte_class::{self, TARGET, TOKEN};
use crate::http::facts::Facts;
use crate::http::fields::{FieldError, FieldLimits, FieldScan, LineEnd};
use crate::http::framing::Framing;
use crate::http::head_error::HeadError;
use crate::http::partial_head::{self, Extent, PartialHead};
use crate::http::request_line::{METHOD_BYTES, RequestLine, VERSION_BYTES};
use crate::http::span::Span;
use crate::settings::{HeaderMap, Limits};

/// Empty lines skipped before a request line (RFC 9112 §2.2 asks for at least one).
const EMPTY_LINES: u8 = 2;

/// How far an unfinished head has been looked at, so that a byte is judged once. Kept by the
/// connection while its head is incomplete.
#[derive(Clone, Debug, Default)]
pub struct HeadScan {
    place: Place,
    /// The next byte to judge.
    at: usize,
    /// First byte of the current line.
    line: usize,
    empty_lines: u8,
    method: Span,
    target: Span,
    request_line: Option<RequestLine>,
    /// First byte behind the request line.
    fields_start: usize,
    fields: FieldScan,
    facts: Facts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    BeforeLf,
    Method,
    Target,
    Version,
    VersionLf,
    Fields,
}

/// A whole head that is good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judged {
    pub(super) request_line: RequestLine,
    pub(super) facts: Facts,
    pub(super) framing: Framing,
    /// First byte of the first field line.
    pub(super) fields_start: usize,
    /// One past the head's last byte.
    pub(super) len: usize,
}

/// The longest head that the limits allow, in bytes: offsets are of 32 bits.
#[inline]
pub(super) fn longest_head(limits: &Limits) -> usize {
    limits.head_bytes.min(u32::MAX as usize)
}

impl HeadScan {
    /// Whether no byte has been judged.
    #[inline]
    pub(super) fn is_fresh(&self) -> bool {
        self.at == 0
    }

    /// What has been read of a head that is incomplete or refused. `input` holds the bytes that were
    /// judged.
    pub fn read_part(&self, input: &[u8]) -> PartialHead {
        let (method, target, extent) = match self.place {
            Place::Before | Place::BeforeLf | Place::Method => return PartialHead::default(),
            Place::Target => {
                (self.method, Span::between(self.part_start(), self.at), Extent::CutOff)
            }
            Place::Version | Place::VersionLf | Place::Fields => {
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
        if self.place == Place::Fields {
            // The lines before the current one are good, and each ends with CRLF.
            let mut rest = &input[self.fields_start..self.line];
            while let Some(end) = memchr::memchr(b'\r', rest) {
                part.note_field(&rest[..end]);
                rest = rest.get(end + 2..).unwrap_or_default();
            }
        }
        part
    }

    /// Judges what is new in `input`; `None` while the head is incomplete.
    pub(super) fn advance(
        &mut self,
        input: &[u8],
        limits: &Limits,
        header_map: HeaderMap,
    ) -> Result<Option<Judged>, HeadError> {
        while self.place != Place::Fields {
            let Some(byte) = self.skip_run(input, limits)? else { return Ok(None) };
            self.step(byte, input)?;
        }
        self.judge_fields(input, limits, header_map)
    }

    /// Goes over the bytes that may follow in the same place, and returns the first other one, which
    /// may also be the first one beyond a limit of the place: `step` tells.
    fn skip_run(&mut self, input: &[u8], limits: &Limits) -> Result<Option<u8>, HeadError> {
        let (class, longest) = match self.place {
            Place::Method => (TOKEN, METHOD_BYTES),
            Place::Target => (TARGET, usize::MAX),
            Place::Version => (TARGET, VERSION_BYTES),
            Place::Before | Place::BeforeLf | Place::VersionLf | Place::Fields => (0, 0),
        };
        let head_fence = longest_head(limits);
        let line_fence = self.line.saturating_add(limits.request_line_bytes);
        if class != 0 {
            let fence = self
                .part_start()
                .saturating_add(longest)
                .min(line_fence)
                .min(head_fence)
                .min(input.len());
            self.at += byte_class::run(input.get(self.at..fence).unwrap_or_default(), class);
        }
        let Some(&byte) = input.get(self.at) else { return Ok(None) };
        if self.at >= head_fence {
            return Err(FieldError::SectionTooLong.into());
        }
        let ends_line = byte == b'\r' || matches!(self.place, Place::BeforeLf | Place::VersionLf);
        if self.at >= line_fence && !ends_line {
            return Err(HeadError::RequestLineTooLong);
        }
        Ok(Some(byte))
    }

    /// First byte of the method, target or version.
    fn part_start(&self) -> usize {
        match self.place {
            Place::Target => self.method.end as usize + 1,
            Place::Version => self.target.end as usize + 1,
            Place::Before | Place::BeforeLf | Place::Method | Place::VersionLf | Place::Fields => {
                self.line
            }
        }
    }

    /// Judges the byte at `self.at`, which ends a run or stands alone.
    fn step(&mut self, byte: u8, input: &[u8]) -> Result<(), HeadError> {
        let part = Span::between(self.part_start(), self.at);
        let is_empty = part.start == part.end;
        self.place = match self.place {
            Place::Before => match byte {
                b'\r' if self.empty_lines == EMPTY_LINES => return Err(HeadError::EmptyLines),
                b'\r' => Place::BeforeLf,
                byte if byte_class::is(byte, TOKEN) => Place::Method,
                byte => return Err(offence(byte, HeadError::BadMethod)),
            },
            Place::BeforeLf => {
                judge_lf(byte)?;
                self.empty_lines += 1;
                self.line = self.at + 1;
                Place::Before
            }
            Place::Method => match byte {
                b' ' => {
                    self.method = part;
                    Place::Target
                }
                byte if byte_class::is(byte, TOKEN) => return Err(HeadError::MethodTooLong),
                byte => return Err(offence(byte, HeadError::BadMethod)),
            },
            Place::Target => match byte {
                b' ' if !is_empty => {
                    self.target = part;
                    Place::Version
                }
                b'\r' => return Err(HeadError::NoVersion),
                byte => return Err(offence(byte, HeadError::BadTarget)),
            },
            Place::Version => match byte {
                b'\r' if !is_empty => Place::VersionLf,
                byte => return Err(offence(byte, HeadError::BadVersion)),
            },
            Place::VersionLf => {
                judge_lf(byte)?;
                let version = &input[self.target.end as usize + 1..self.at - 1];
                let line = RequestLine::judge(input, self.method, self.target, version)?;
                self.request_line = Some(line);
                self.line = self.at + 1;
                self.fields_start = self.line;
                Place::Fields
            }
            // `advance` has no step for these.
            Place::Fields => Place::Fields,
        };
        self.at += 1;
        Ok(())
    }

    fn judge_fields(
        &mut self,
        input: &[u8],
        limits: &Limits,
        header_map: HeaderMap,
    ) -> Result<Option<Judged>, HeadError> {
        let request_line = self.request_line.expect("the fields come behind a request line");
        let field_limits =
            FieldLimits { line_bytes: limits.header_field_bytes, line_count: limits.header_count };
        loop {
            let room_bytes = longest_head(limits).saturating_sub(self.at);
            let (count, end) =
                self.fields.next_line(&input[self.at..], room_bytes, &field_limits)?;
            self.at += count;
            match end {
                LineEnd::Unfinished => return Ok(None),
                LineEnd::Field { name_bytes } => {
                    let line = &input[self.line..self.at - 2];
                    let value = byte_class::trim(&line[name_bytes + 1..]);
                    let name = &line[..name_bytes];
                    // The fate is asked for again when the head is whole: fields are kept nowhere
                    // until then.
                    let _ = self.facts.note(name, value, request_line.version, header_map)?;
                    self.line = self.at;
                }
                LineEnd::Last => {
                    return Ok(Some(Judged {
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

/// Behind CR there is LF.
fn judge_lf(byte: u8) -> Result<(), HeadError> {
    if byte == b'\n' { Ok(()) } else { Err(HeadError::BareCr) }
}

/// What is wrong with a byte that does not belong where it stands.
fn offence(byte: u8, otherwise: HeadError) -> HeadError {
    match byte {
        b'\n' => HeadError::BareLf,
        byte if byte_class::is_control(byte) && byte != b'\r' => HeadError::Control,
        _ => otherwise,
    }
}
