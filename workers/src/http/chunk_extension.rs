//! The extensions of one chunk (RFC 9112 §7.1.1), read byte by byte and thrown away.
//!
//! They mean nothing here, but where they end matters: a reader before us that sees a quoted string
//! go on over a line end finds other chunks than one that does not (the request smuggling of
//! CVE-2026-33870). So everything that the grammar does not have is refused.
//!
//! ```text
//! chunk-ext     = *( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )
//! quoted-string = DQUOTE *( qdtext / quoted-pair ) DQUOTE           ; RFC 9110 §5.6.4
//! quoted-pair   = "\" ( HTAB / SP / VCHAR / obs-text )
//! ```
//!
//! | place | byte | next |
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

/// How far the extensions of one chunk have been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtensionScan {
    /// In white space, which only `;` may follow.
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

/// What a byte that belongs there leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ExtensionStep {
    /// More of the extensions.
    Within(ExtensionScan),
    /// The byte was the CR that ends the line.
    Cr,
}

impl ExtensionScan {
    /// Reads the byte that follows the chunk size, where it can open an extension at all.
    pub(super) fn open(byte: u8) -> Option<Self> {
        match byte {
            b';' => Some(Self::BeforeName),
            b' ' | b'\t' => Some(Self::Gap),
            _ => None,
        }
    }

    /// Reads the next byte.
    ///
    /// Errors: [`BodyError::OpenQuote`] for a line that ends within a quoted string, else
    ///         [`BodyError::BadExtension`].
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
