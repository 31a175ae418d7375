//! Header and trailer field lines, checked byte by byte as they arrive (RFC 9112 §5, §7.1.2).
//!
//! One state machine serves both, so trailers are checked as strictly as headers. It keeps no bytes: the
//! caller has them. The first offense in byte order decides, and exceeding a limit is an offense of the byte
//! that does so. The result can therefore not depend on where a read ended.
//!
//! | state | byte | next |
//! |---|---|---|
//! | `Start` | tchar | `Name` |
//! | `Start` | CR | `LastLf` |
//! | `Name` | tchar | `Name` |
//! | `Name` | `:` | `Value` |
//! | `Value` | HTAB, SP, VCHAR, obs-text | `Value` |
//! | `Value` | CR | `ValueLf` |
//! | `ValueLf` | LF | `Start`, and the line is returned |
//! | `LastLf` | LF | the section ends |
//!
//! Anything else is an error.

use crate::http::byte_class::{self, TOKEN, VALUE};
use crate::http::status::Status;

/// Why a header or trailer section is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A line ends with LF only.
    #[error("a field line ends with a bare LF")]
    BareLf,
    /// A CR is not followed by LF.
    #[error("a field line contains a bare CR")]
    BareCr,
    /// A line has NUL, DEL or another control character.
    #[error("a field line contains a control character")]
    Control,
    /// White space precedes the name of the first field.
    #[error("white space precedes the first field")]
    LeadingSpace,
    /// A line continues the previous one (obs-fold).
    #[error("a field is folded over two lines")]
    Fold,
    /// A line starts with its colon.
    #[error("a field has no name")]
    NoName,
    /// A name is not a token.
    #[error("a field name is not a token")]
    BadName,
    /// White space separates a name from its colon.
    #[error("white space precedes a field's colon")]
    SpaceBeforeColon,
    /// A line has no colon.
    #[error("a field line has no colon")]
    NoColon,
    /// A line exceeds its limit.
    #[error("a field line is too long")]
    LineTooLong,
    /// The section has more lines than the limit.
    #[error("there are too many fields")]
    TooMany,
    /// The whole section, or the whole head, exceeds its limit.
    #[error("the header section is too long")]
    SectionTooLong,
}

impl FieldError {
    /// The status of the response: 400 or 431.
    pub fn status(self) -> Status {
        match self {
            Self::BareLf
            | Self::BareCr
            | Self::Control
            | Self::LeadingSpace
            | Self::Fold
            | Self::NoName
            | Self::BadName
            | Self::SpaceBeforeColon
            | Self::NoColon => Status(400),
            Self::LineTooLong | Self::TooMany | Self::SectionTooLong => Status(431),
        }
    }
}

/// The limits of one section of field lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldLimits {
    /// Maximum bytes of a line without its CRLF.
    pub(super) line_bytes: usize,
    /// Maximum number of lines.
    pub(super) line_count: usize,
}

/// The scanner's position in a section of field lines.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldScan {
    state: LineState,
    /// The bytes of the current line so far, without its CR.
    line_bytes: usize,
    /// The bytes of the current line's name.
    name_bytes: usize,
    /// The number of lines begun.
    line_count: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum LineState {
    #[default]
    Start,
    Name,
    Value,
    ValueLf,
    LastLf,
}

/// Where [`FieldScan::next_line`] stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// The input ended within a line.
    Unfinished,
    /// A field line ended; its name has `name_bytes`.
    Field { name_bytes: usize },
    /// The empty line ended the section.
    Last,
}

impl FieldScan {
    /// Scans `input`, which follows the bytes scanned before, up to the end of one line.
    ///
    /// Units:  `room_bytes` is what the section may still take. The number returned is the bytes scanned:
    ///         all of `input` if the line is [`LineEnd::Unfinished`].
    /// Errors: the first offense in byte order.
    pub(super) fn next_line(
        &mut self,
        input: &[u8],
        room_bytes: usize,
        limits: &FieldLimits,
    ) -> Result<(usize, LineEnd), FieldError> {
        let mut at = 0usize;
        loop {
            let class = match self.state {
                LineState::Name => TOKEN,
                LineState::Value => VALUE,
                LineState::Start | LineState::ValueLf | LineState::LastLf => 0,
            };
            if class != 0 {
                let line_room = limits.line_bytes.saturating_sub(self.line_bytes);
                let fence = room_bytes.min(at.saturating_add(line_room)).min(input.len());
                let run = byte_class::run(input.get(at..fence).unwrap_or_default(), class);
                at += run;
                self.line_bytes += run;
            }
            let Some(&byte) = input.get(at) else { return Ok((at, LineEnd::Unfinished)) };
            if at >= room_bytes {
                return Err(FieldError::SectionTooLong);
            }
            at += 1;
            match self.state {
                LineState::Start => self.start(byte, limits)?,
                LineState::Name => self.name(byte, limits)?,
                LineState::Value => self.value(byte, limits)?,
                LineState::ValueLf => {
                    if byte != b'\n' {
                        return Err(FieldError::BareCr);
                    }
                    self.state = LineState::Start;
                    return Ok((at, LineEnd::Field { name_bytes: self.name_bytes }));
                }
                LineState::LastLf => {
                    if byte != b'\n' {
                        return Err(FieldError::BareCr);
                    }
                    return Ok((at, LineEnd::Last));
                }
            }
        }
    }

    fn start(&mut self, byte: u8, limits: &FieldLimits) -> Result<(), FieldError> {
        if byte == b'\r' {
            self.state = LineState::LastLf;
            return Ok(());
        }
        if self.line_count >= limits.line_count {
            return Err(FieldError::TooMany);
        }
        if limits.line_bytes == 0 {
            return Err(FieldError::LineTooLong);
        }
        if !byte_class::is(byte, TOKEN) {
            return Err(match byte {
                b' ' | b'\t' if self.line_count == 0 => FieldError::LeadingSpace,
                b' ' | b'\t' => FieldError::Fold,
                b':' => FieldError::NoName,
                b'\n' => FieldError::BareLf,
                byte if byte_class::is_control(byte) => FieldError::Control,
                _ => FieldError::BadName,
            });
        }
        self.line_count += 1;
        self.line_bytes = 1;
        self.state = LineState::Name;
        Ok(())
    }

    /// Takes the byte that ends the name, or the first one above the limit.
    fn name(&mut self, byte: u8, limits: &FieldLimits) -> Result<(), FieldError> {
        if byte == b'\r' {
            return Err(FieldError::NoColon);
        }
        if self.line_bytes >= limits.line_bytes {
            return Err(FieldError::LineTooLong);
        }
        if byte != b':' {
            return Err(match byte {
                b' ' | b'\t' => FieldError::SpaceBeforeColon,
                b'\n' => FieldError::BareLf,
                byte if byte_class::is_control(byte) => FieldError::Control,
                _ => FieldError::BadName,
            });
        }
        self.name_bytes = self.line_bytes;
        self.line_bytes += 1;
        self.state = LineState::Value;
        Ok(())
    }

    /// Takes the byte that ends the value, or the first one above the limit.
    fn value(&mut self, byte: u8, limits: &FieldLimits) -> Result<(), FieldError> {
        if byte == b'\r' {
            self.state = LineState::ValueLf;
            return Ok(());
        }
        if self.line_bytes >= limits.line_bytes {
            return Err(FieldError::LineTooLong);
        }
        Err(if byte == b'\n' { FieldError::BareLf } else { FieldError::Control })
    }
}
