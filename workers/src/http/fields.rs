//! Header and trailer field lines, judged byte by byte as they come (RFC 9112 §5, §7.1.2).
//!
//! One machine for both, so that a trailer is held to what a header is held to. It keeps no bytes:
//! whoever needs the field has them. The first offence in byte order decides, and the limits are
//! offences of the byte that goes beyond them: so the answer cannot depend on where a read ended.
//!
//! | place | byte | next |
//! |---|---|---|
//! | `Start` | tchar | `Name` |
//! | `Start` | CR | `LastLf` |
//! | `Name` | tchar | `Name` |
//! | `Name` | `:` | `Value` |
//! | `Value` | HTAB, SP, VCHAR, obs-text | `Value` |
//! | `Value` | CR | `ValueLf` |
//! | `ValueLf` | LF | `Start`, and the line is told |
//! | `LastLf` | LF | the section ends |
//!
//! Anything else is an error.

use crate::http::byte_class::{self, TOKEN, VALUE};
use crate::http::status::Status;

/// Why a header or trailer section is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// A line ends with LF alone.
    #[error("a field line ends with a bare LF")]
    BareLf,
    /// CR without LF behind it.
    #[error("a field line holds a bare CR")]
    BareCr,
    /// NUL, DEL or another control character.
    #[error("a field line holds a control character")]
    Control,
    /// White space before the name of the first field.
    #[error("white space stands before the first field")]
    LeadingSpace,
    /// obs-fold: a line that continues the one before it.
    #[error("a field is folded over two lines")]
    Fold,
    /// A colon without a name.
    #[error("a field has no name")]
    NoName,
    /// A name that is not a token.
    #[error("a field name is not a token")]
    BadName,
    /// White space between name and colon.
    #[error("white space stands before a field's colon")]
    SpaceBeforeColon,
    /// A line without a colon.
    #[error("a field line has no colon")]
    NoColon,
    /// A line above its limit.
    #[error("a field line is too long")]
    LineTooLong,
    /// More lines than the limit.
    #[error("there are too many fields")]
    TooMany,
    /// The whole section, or the whole head, above its limit.
    #[error("the header section is too long")]
    SectionTooLong,
}

impl FieldError {
    /// The status that answers it.
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

/// Bounds on a section of field lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct FieldLimits {
    /// Longest line, its CRLF not counted.
    pub(super) line_bytes: usize,
    /// Most lines.
    pub(super) line_count: usize,
}

/// How far a section of field lines has been judged.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldScan {
    place: Place,
    /// Bytes of the current line so far, its CR not counted.
    line_bytes: usize,
    /// Bytes of the current line's name.
    name_bytes: usize,
    /// Lines begun.
    line_count: usize,
}

#[derive(Clone, Copy, Debug, Default)]
enum Place {
    #[default]
    Start,
    Name,
    Value,
    ValueLf,
    LastLf,
}

/// What [`FieldScan::next_line`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnd {
    /// The end of the input, within a line.
    Unfinished,
    /// The end of a field line whose name has that many bytes.
    Field { name_bytes: usize },
    /// The empty line that ends the section.
    Last,
}

impl FieldScan {
    /// Judges `input`, the bytes behind those judged before, up to the end of one line.
    ///
    /// Units:  `room_bytes` is what the whole section may still take. The number returned is the
    ///         bytes judged: all of `input` when the line is [`LineEnd::Unfinished`].
    /// Errors: the first offence in byte order.
    pub(super) fn next_line(
        &mut self,
        input: &[u8],
        room_bytes: usize,
        limits: &FieldLimits,
    ) -> Result<(usize, LineEnd), FieldError> {
        let mut at = 0usize;
        loop {
            let class = match self.place {
                Place::Name => TOKEN,
                Place::Value => VALUE,
                Place::Start | Place::ValueLf | Place::LastLf => 0,
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
            match self.place {
                Place::Start => self.start(byte, limits)?,
                Place::Name => self.name(byte, limits)?,
                Place::Value => self.value(byte, limits)?,
                Place::ValueLf => {
                    if byte != b'\n' {
                        return Err(FieldError::BareCr);
                    }
                    self.place = Place::Start;
                    return Ok((at, LineEnd::Field { name_bytes: self.name_bytes }));
                }
                Place::LastLf => {
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
            self.place = Place::LastLf;
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
        self.place = Place::Name;
        Ok(())
    }

    /// A byte that does not belong to the name, or a name at the limit.
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
        self.place = Place::Value;
        Ok(())
    }

    /// A byte that does not belong to the value, or a value at the limit.
    fn value(&mut self, byte: u8, limits: &FieldLimits) -> Result<(), FieldError> {
        if byte == b'\r' {
            self.place = Place::ValueLf;
            return Ok(());
        }
        if self.line_bytes >= limits.line_bytes {
            return Err(FieldError::LineTooLong);
        }
        Err(if byte == b'\n' { FieldError::BareLf } else { FieldError::Control })
    }
}
