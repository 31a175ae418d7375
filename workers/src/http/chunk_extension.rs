//! The extensions of one chunk (RFC 9112 §7.1.1), checked byte by byte and discarded.
//!
//! They mean nothing to this server, but their end matters: a proxy that lets a quoted string continue over a
//! line end finds other chunks than one that does not (the request smuggling of CVE-2026-33870). So the
//! scanner refuses everything that the grammar does not allow.
//!
//! ```text
//! chunk-ext     = *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )
//! quoted-string = DQUOTE *( qdtext / quoted-pair ) DQUOTE           ; RFC 9110 §5.6.4
//! quoted-pair   = "\" ( HTAB / SP / VCHAR / obs-text )
//! ```
//!
//! | state | byte | next |
//! |---|---|---|
//! | `Gap` | HTAB, SP | `Gap` |
//! | `Gap`, `Name`, `AfterName`, `Token`, `AfterQuoted` | `;` | `BeforeName` |
//! | `BeforeName` | HTAB, SP | `BeforeName` |
//! | `BeforeName`, `Name` | tchar | `Name` |
//! | `Name`, `AfterName` | HTAB, SP | `AfterName` |
//! | `Name`, `AfterName` | `=` | `BeforeValue` |
//! | `BeforeValue` | HTAB, SP | `BeforeValue` |
//! | `BeforeValue`, `Token` | tchar | `Token` |
//! | `BeforeValue` | `"` | `Quoted` |
//! | `Token`, `AfterQuoted` | HTAB, SP | `Gap` |
//! | `Quoted` | `"` | `AfterQuoted` |
//! | `Quoted` | `\` | `Escaped` |
//! | `Quoted` | HTAB, SP, VCHAR, obs-text | `Quoted` |
//! | `Escaped` | HTAB, SP, VCHAR, obs-text | `Quoted` |
//! | `Name`, `Token`, `AfterQuoted` | CR | the line ends |
//!
//! Anything else is an error.

use crate::http::body_error::BodyError;
use crate::http::byte_class::{self, TOKEN, VALUE};

/// The position in the extensions of one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtensionScan {
    /// White space that only `;` may follow.
    Gap,
    BeforeName,
    Name,
    AfterName,
    BeforeValue,
    Token,
    Quoted,
    /// After a backslash in a quoted string.
    Escaped,
    AfterQuoted,
}

/// The step that a valid byte takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtensionStep {
    /// The extensions go on.
    Within(ExtensionScan),
    /// The byte was the CR that ends the line.
    Cr,
}

impl ExtensionScan {
    /// Reads the byte that follows the chunk size; `None` if it cannot start an extension.
    pub(super) fn open(byte: u8) -> Option<Self> {
        match byte {
            b';' => Some(Self::BeforeName),
            b' ' | b'\t' => Some(Self::Gap),
            _ => None,
        }
    }

    /// Reads the next byte.
    ///
    /// Errors: [`BodyError::OpenQuote`] for a line that ends within a quoted string,
    ///         [`BodyError::BadExtension`] otherwise.
    pub(super) fn next(self, byte: u8) -> Result<ExtensionStep, BodyError> {
        let is_token = byte_class::is(byte, TOKEN);
        let within = match (self, byte) {
            (Self::Quoted, b'"') => Self::AfterQuoted,
            (Self::Quoted, b'\\') => Self::Escaped,
            (Self::Quoted | Self::Escaped, _) if byte_class::is(byte, VALUE) => Self::Quoted,
            (Self::Quoted | Self::Escaped, b'\r' | b'\n') => return Err(BodyError::OpenQuote),
            (Self::Quoted | Self::Escaped, _) => return Err(BodyError::BadExtension),
            (Self::Name | Self::Token | Self::AfterQuoted, b'\r') => return Ok(ExtensionStep::Cr),
            (Self::Gap | Self::Name | Self::AfterName | Self::Token | Self::AfterQuoted, b';') => {
                Self::BeforeName
            }
            (Self::Gap | Self::Token | Self::AfterQuoted, b' ' | b'\t') => Self::Gap,
            (Self::BeforeName, b' ' | b'\t') => Self::BeforeName,
            (Self::Name | Self::AfterName, b' ' | b'\t') => Self::AfterName,
            (Self::Name | Self::AfterName, b'=') => Self::BeforeValue,
            (Self::BeforeValue, b' ' | b'\t') => Self::BeforeValue,
            (Self::BeforeValue, b'"') => Self::Quoted,
            (Self::BeforeName | Self::Name, _) if is_token => Self::Name,
            (Self::BeforeValue | Self::Token, _) if is_token => Self::Token,
            (
                Self::Gap
                | Self::BeforeName
                | Self::Name
                | Self::AfterName
                | Self::BeforeValue
                | Self::Token
                | Self::AfterQuoted,
                _,
            ) => return Err(BodyError::BadExtension),
        };
        Ok(ExtensionStep::Within(within))
    }
}
