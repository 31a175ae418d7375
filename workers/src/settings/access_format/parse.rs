//! Reads the language of access log formats.

use std::fmt;
use std::str::FromStr;

use super::{
    AccessFormat, AccessLine, AccessObject, Atom, COMBINED, Field, Layout, Letter, Member, Piece,
    Wanted,
};

/// The prefix of our atoms in a line.
const OWN: &str = "arctos.";
/// The prefix of a list of JSON fields.
const OBJECT: &str = "json:";
/// The variable of the environ in which the application names the route of a request.
const ROUTE: &str = "arctos.route";
/// The maximum of a width or precision.
const MAX_CHARACTERS: usize = 1000;

/// Why a text is no format. The message continues a sentence that starts with "expected".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError {
    expected: String,
    /// What is there instead, and the number of its first character, from 1.
    found: Option<(String, usize)>,
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.expected)?;
        match &self.found {
            Some((text, at)) => write!(f, ", not {text:?} at character {at}"),
            None => Ok(()),
        }
    }
}

const FORMS: &str = "text, json, json:FIELD,..., combined, or a line with atoms such as %(h)s";
const ATOMS: &str = "an atom of gunicorn (h, l, u, t, r, m, U, q, H, s, B, b, f, a, T, M, D, L, p, \
                     {header}i, {header}o, {variable}e) or of arctos (arctos.request_id and others)";
const CONVERSION: &str =
    "%(ATOM)s, with a width or precision as in %(m)-7s and %(a).80s, or %% for a percent sign";
const NUMBER: &str = "%(ATOM)s, as only B, T, M and D are numbers for %(ATOM)d";
const FIELDS: &str = "fields separated by commas, each NAME or NAME={header}i";
const HEADER: &str = "the name of a header in the braces";
const VARIABLE: &str = "the name of a variable of the environ in the braces";
const KEY: &str = "a name of letters, digits, `_`, `-` and `.` before the equals sign";

impl FromStr for AccessFormat {
    type Err = FormatError;

    fn from_str(text: &str) -> Result<Self, FormatError> {
        match text {
            "text" => return Ok(Self::Text),
            "json" => return Ok(Self::Json),
            "combined" => return line(COMBINED).map(Self::Line),
            _ => {}
        }
        if let Some(fields) = text.strip_prefix(OBJECT) {
            return object(text, fields).map(Self::Object);
        }
        if let Some((at, control)) = text.char_indices().find(|(_, c)| c.is_control() && *c != '\t')
        {
            let expected = "one line without control characters".to_owned();
            let found = Some((control.to_string(), character(text, at)));
            return Err(FormatError { expected, found });
        }
        if !text.contains("%(") {
            return Err(FormatError { expected: FORMS.to_owned(), found: None });
        }
        line(text).map(Self::Line)
    }
}

/// The number of a character that people count from 1.
fn character(text: &str, at: usize) -> usize {
    text[..at].chars().count() + 1
}

/// Reads text and atoms.
fn line(text: &str) -> Result<AccessLine, FormatError> {
    let (mut pieces, mut wanted) = (Vec::new(), Wanted::default());
    let mut literal = String::new();
    let mut rest = text;
    while let Some(percent) = rest.find('%') {
        literal.push_str(&rest[..percent]);
        let at = text.len() - rest.len() + percent;
        rest = &rest[percent + 1..];
        if let Some(after) = rest.strip_prefix('%') {
            literal.push('%');
            rest = after;
            continue;
        }
        let (atom, layout, len) = conversion(text, at, &mut wanted)?;
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(Piece::Atom { atom, layout });
        rest = &text[at + len..];
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Ok(AccessLine { pieces, wanted })
}

/// Reads the conversion whose percent sign is `at`, and returns its length in bytes.
fn conversion(
    text: &str,
    at: usize,
    wanted: &mut Wanted,
) -> Result<(Atom, Layout, usize), FormatError> {
    let wrong = |expected: &str, found: &str| FormatError {
        expected: expected.to_owned(),
        found: Some((found.to_owned(), character(text, at))),
    };
    let rest = &text[at..];
    let Some(inside) = rest.strip_prefix("%(") else {
        let end = rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end);
        return Err(wrong(CONVERSION, &rest[..end]));
    };
    let Some(end) = inside.find(')') else { return Err(wrong(CONVERSION, rest)) };
    let name = &inside[..end];
    let after = &inside[end + 1..];
    let kind = after.find(|c: char| !matches!(c, '-' | '.' | '0'..='9')).unwrap_or(after.len());
    let letter = after[kind..].chars().next();
    let len = 2 + end + 1 + kind + letter.map_or(0, char::len_utf8);
    let is_decimal = letter == Some('d');
    if !is_decimal && letter != Some('s') {
        return Err(wrong(CONVERSION, &rest[..len]));
    }
    let layout =
        layout(&after[..kind], is_decimal).ok_or_else(|| wrong(CONVERSION, &rest[..len]))?;
    if is_decimal && !Letter::is_number(name) {
        return Err(wrong(NUMBER, &rest[..len]));
    }
    let atom = match name.strip_prefix(OWN) {
        Some(field) => own(field, wanted).ok_or_else(own_names),
        None => match Letter::of(name) {
            Some(letter) => Ok(Atom::Letter(letter)),
            None => braced(name, wanted).unwrap_or_else(|| Err(ATOMS.to_owned())),
        },
    };
    let atom = atom.map_err(|expected| wrong(&expected, &rest[..len]))?;
    Ok((atom, layout, len))
}

/// Reads what stands between the parentheses of a conversion and its letter.
fn layout(text: &str, is_decimal: bool) -> Option<Layout> {
    let is_left = text.starts_with('-');
    let text = text.strip_prefix('-').unwrap_or(text);
    let has_zeros = is_decimal && !is_left && text.starts_with('0');
    let (width, precision) = match text.split_once('.') {
        Some(_) if is_decimal => return None,
        Some((width, precision)) => (width, Some(precision)),
        None => (text, None),
    };
    let count = |digits: &str| match digits {
        "" => Some(0),
        digits => digits.parse().ok().filter(|count| *count <= MAX_CHARACTERS),
    };
    let precision = match precision {
        Some(digits) => Some(count(digits)?),
        None => None,
    };
    Some(Layout { width: count(width)?, is_left, has_zeros, precision })
}

/// Reads `{name}i`, `{name}o` or `{name}e`; `None` if it has another form.
fn braced(name: &str, wanted: &mut Wanted) -> Option<Result<Atom, String>> {
    let (inside, kind) = name.strip_prefix('{')?.rsplit_once('}')?;
    let lower = inside.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&'*+-.^_`|~".contains(&byte);
    let is_header = !inside.is_empty() && inside.bytes().all(is_token);
    let is_variable = inside.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'}');
    Some(match kind {
        "i" | "o" if !is_header => Err(HEADER.to_owned()),
        "e" if inside.is_empty() || !is_variable => Err(VARIABLE.to_owned()),
        "i" => Ok(Atom::RequestHeader(lower)),
        "o" => Ok(Atom::ResponseHeader(index(&mut wanted.response_headers, lower))),
        "e" => Ok(Atom::Variable(index(&mut wanted.variables, lower))),
        _ => return None,
    })
}

/// The index of a name in a list, which it is added to if it is not there yet.
fn index(names: &mut Vec<String>, name: String) -> usize {
    names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

/// Reads the name of one of our fields. The application puts the route into the environ.
fn own(name: &str, wanted: &mut Wanted) -> Option<Atom> {
    let field = Field::of(name)?;
    if field == Field::Route {
        return Some(Atom::Route(index(&mut wanted.variables, ROUTE.to_owned())));
    }
    Some(Atom::Field(field))
}

/// Names all of our fields.
fn own_names() -> String {
    let names: Vec<_> = Field::ALL.iter().map(|(_, name, _)| *name).collect();
    format!("a field of arctos ({})", names.join(", "))
}

/// Reads the fields of a JSON object.
fn object(text: &str, fields: &str) -> Result<AccessObject, FormatError> {
    let (mut members, mut wanted) = (Vec::<Member>::new(), Wanted::default());
    let mut at = text.len() - fields.len();
    for part in fields.split(',') {
        let given = part.trim();
        let wrong = |expected: String| FormatError {
            expected,
            found: Some((given.to_owned(), character(text, at))),
        };
        if given.is_empty() {
            return Err(wrong(FIELDS.to_owned()));
        }
        let member = member(given, &mut wanted).map_err(wrong)?;
        if members.iter().any(|known| known.key == member.key) {
            let key = &member.key;
            let source = given.split_once('=').map_or(given, |(_, source)| source.trim());
            return Err(wrong(format!("each name once; another one for {key} is NAME={source}")));
        }
        members.push(member);
        at += part.len() + 1;
    }
    Ok(AccessObject { members, wanted })
}

/// Reads a member: `status`, `{accept}i`, or with another name `code=status`.
fn member(text: &str, wanted: &mut Wanted) -> Result<Member, String> {
    let (key, name) = match text.split_once('=') {
        Some((key, name)) => (Some(key.trim()), name.trim()),
        None => (None, text),
    };
    let is_key = |key: &str| {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        !key.is_empty() && key.bytes().all(is_plain)
    };
    if key.is_some_and(|key| !is_key(key)) {
        return Err(KEY.to_owned());
    }
    let atom = match own(name, wanted) {
        Some(atom) => atom,
        None => braced(name, wanted).unwrap_or_else(|| {
            Err(format!("{}, {{header}}i, {{header}}o or {{variable}}e", own_names()))
        })?,
    };
    let key = key.map_or_else(|| key_of(name), str::to_owned);
    Ok(Member { key, atom })
}

/// The key of a field that is given none: its name, or that of its header or variable, with `_` in place of what is no
/// letter or digit.
fn key_of(name: &str) -> String {
    let inside = name.strip_prefix('{').and_then(|name| name.rsplit_once('}'));
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    inside.map_or(name, |(inside, _)| inside).chars().map(plain).collect()
}
