//! The grammar of `Forwarded` (RFC 7239 §4): elements of parameters, whose values are tokens or quoted strings.
//!
//! ```text
//! Forwarded         = 1#forwarded-element
//! forwarded-element = [ forwarded-pair ] *( ";" [ forwarded-pair ] )
//! forwarded-pair    = token "=" ( token / quoted-string )
//! ```
//!
//! White space is allowed around `,` and `;`, because many proxies write it there, and nowhere else.

use std::borrow::Cow;

use crate::http::byte_class::{self, TOKEN, VALUE};

/// The value of a parameter, without quoting.
type Text<'a> = Cow<'a, [u8]>;

/// What one proxy says. Parameters with other names are well-formed and ignored.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) node: Option<Text<'a>>,
    pub(super) proto: Option<Text<'a>>,
    pub(super) host: Option<Text<'a>>,
    has_by: bool,
}

/// Reads the elements of one field line, in order; empty ones are left out. `None` if the line is malformed.
pub(super) fn elements(line: &[u8]) -> Option<Vec<Element<'_>>> {
    let mut elements = Vec::new();
    let mut element = Element::default();
    let mut is_empty = true;
    let mut rest = byte_class::trim(line);
    loop {
        if let Some((name, value, after)) = pair(rest)? {
            element.add(name, value)?;
            is_empty = false;
            rest = after;
        }
        let separator = byte_class::trim(rest);
        let is_end = match separator.first() {
            None => true,
            Some(b',') => true,
            Some(b';') => false,
            Some(_) => return None,
        };
        if is_end && !std::mem::replace(&mut is_empty, true) {
            elements.push(std::mem::take(&mut element));
        }
        let Some((_, after)) = separator.split_first() else { return Some(elements) };
        rest = byte_class::trim(after);
    }
}

/// A parameter: its name, its value, and what follows it.
type Pair<'a> = (&'a [u8], Text<'a>, &'a [u8]);

/// Reads one parameter at the start of `text`. `Some(None)` if there is a separator or nothing, `None` if it is
/// malformed.
#[expect(clippy::option_option, reason = "malformed, missing, or there")]
fn pair(text: &[u8]) -> Option<Option<Pair<'_>>> {
    if matches!(text.first(), None | Some(b',' | b';')) {
        return Some(None);
    }
    let (name, rest) = text.split_at(byte_class::run(text, TOKEN));
    let value = rest.strip_prefix(b"=").filter(|_| !name.is_empty())?;
    if let Some(quoted) = value.strip_prefix(b"\"") {
        let (value, rest) = quoted_string(quoted)?;
        return Some(Some((name, value, rest)));
    }
    let (value, rest) = value.split_at(byte_class::run(value, TOKEN));
    if value.is_empty() {
        return None;
    }
    Some(Some((name, Cow::Borrowed(value), rest)))
}

/// Reads a quoted string after its first `"` (RFC 9110 §5.6.4), and returns it with what follows it.
fn quoted_string(text: &[u8]) -> Option<(Text<'_>, &[u8])> {
    let end = memchr::memchr2(b'"', b'\\', text)?;
    if text[end] == b'"' {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = text[..end].to_vec();
    let mut rest = &text[end..];
    loop {
        match rest {
            [b'"', rest @ ..] => return Some((Cow::Owned(value), rest)),
            [b'\\', escaped, after @ ..] if byte_class::is(*escaped, VALUE) => {
                value.push(*escaped);
                rest = after;
            }
            [b'\\', ..] | [] => return None,
            [byte, after @ ..] => {
                value.push(*byte);
                rest = after;
            }
        }
    }
}

impl<'a> Element<'a> {
    /// Adds a parameter; `None` if it is there already ("MUST NOT occur more than once").
    fn add(&mut self, name: &[u8], value: Text<'a>) -> Option<()> {
        let place = match name {
            name if name.eq_ignore_ascii_case(b"for") => &mut self.node,
            name if name.eq_ignore_ascii_case(b"proto") => &mut self.proto,
            name if name.eq_ignore_ascii_case(b"host") => &mut self.host,
            name if name.eq_ignore_ascii_case(b"by") => {
                return (!std::mem::replace(&mut self.has_by, true)).then_some(());
            }
            _ => return Some(()),
        };
        place.replace(value).is_none().then_some(())
    }
}
