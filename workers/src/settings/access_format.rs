//! `--access-logformat`: what a line of the access log consists of, parsed once from gunicorn's language.
//!
//! | given | lines |
//! |---|---|
//! | `text` | [`AccessFormat::Text`]: the Combined Log Format without query strings, and the duration |
//! | `json` | [`AccessFormat::Json`]: the same as an object |
//! | `json:FIELD,...` | [`AccessFormat::Object`]: an object of these fields |
//! | `combined` | [`AccessFormat::Line`] of [`COMBINED`] |
//! | a text with `%(ATOM)s` | [`AccessFormat::Line`] |
//!
//! An atom is one of gunicorn's letters, a header field (`{name}i` of the request, `{name}o` of the response), a
//! variable of the environ (`{name}e`), or a [`Field`] of arctos: `arctos.request_id`. gunicorn's atoms have one letter
//! behind the braces or none before, and no dot, so that no future one has the name of ours.
//!
//! Response fields and variables are gone by the time a line is written. The format therefore lists those that it needs
//! ([`Wanted`]), and an atom is an index of that list: a request keeps these and nothing else.

mod field;
mod parse;

use std::fmt;

pub use field::Field;
pub use parse::FormatError;

/// The format that `combined` stands for: Apache's Combined Log Format, which is gunicorn's default.
pub(crate) const COMBINED: &str = r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#;

/// What a line of the access log consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessFormat {
    /// The Combined Log Format without query strings, and the duration.
    Text,
    /// The fields of [`Field::JSON`] as a JSON object.
    Json,
    /// Text and atoms.
    Line(AccessLine),
    /// Selected fields as a JSON object.
    Object(AccessObject),
}

/// A line of text and atoms.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the types say what the fields are")]
pub struct AccessLine {
    pub pieces: Vec<Piece>,
    pub wanted: Wanted,
}

/// A part of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Piece {
    Literal(String),
    Atom { atom: Atom, layout: Layout },
}

/// How a value fills its place, in the words of printf(3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// The minimum number of characters; spaces fill it up.
    pub width: usize,
    /// Whether the spaces follow the value.
    pub is_left: bool,
    /// Whether there are zeros in place of the spaces.
    pub has_zeros: bool,
    /// The maximum number of characters.
    pub precision: Option<usize>,
}

/// Selected fields of a JSON object, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the types say what the fields are")]
pub struct AccessObject {
    pub members: Vec<Member>,
    pub wanted: Wanted,
}

/// A member of a JSON object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, which needs no escape.
    pub key: String,
    /// Its value.
    pub atom: Atom,
}

/// What a value is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Atom {
    /// One of gunicorn's letters.
    Letter(Letter),
    /// A field of arctos.
    Field(Field),
    /// A header field of the request, in lower case.
    RequestHeader(String),
    /// A header field of the response: an index of [`Wanted::response_headers`].
    ResponseHeader(usize),
    /// A variable of the environ: an index of [`Wanted::variables`].
    Variable(usize),
    /// [`Field::Route`], which is a variable, too.
    Route(usize),
}

/// The atoms of gunicorn that are one letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Letter {
    /// `h`: the address of the client.
    Host,
    /// `l`: always `-`.
    Dash,
    /// `u`: the user of Basic authentication.
    User,
    /// `t`: the time in brackets.
    Time,
    /// `r`: method, target and protocol.
    RequestLine,
    /// `m`: the method.
    Method,
    /// `U`: PATH_INFO.
    Path,
    /// `q`: the query without its `?`.
    Query,
    /// `H`: the protocol.
    Protocol,
    /// `s`: the status.
    Status,
    /// `B` and `b`: the bytes of the body.
    BodyBytes,
    /// `f`: the referer.
    Referer,
    /// `a`: the user agent.
    UserAgent,
    /// `T`: the duration in whole seconds.
    Seconds,
    /// `M`: the duration in whole milliseconds.
    Milliseconds,
    /// `D`: the duration in microseconds.
    Microseconds,
    /// `L`: the duration in seconds with six decimals.
    DecimalSeconds,
    /// `p`: the process in angle brackets.
    Process,
}

impl Letter {
    const ALL: [(&'static str, Self); 19] = [
        ("h", Self::Host),
        ("l", Self::Dash),
        ("u", Self::User),
        ("t", Self::Time),
        ("r", Self::RequestLine),
        ("m", Self::Method),
        ("U", Self::Path),
        ("q", Self::Query),
        ("H", Self::Protocol),
        ("s", Self::Status),
        ("B", Self::BodyBytes),
        ("b", Self::BodyBytes),
        ("f", Self::Referer),
        ("a", Self::UserAgent),
        ("T", Self::Seconds),
        ("M", Self::Milliseconds),
        ("D", Self::Microseconds),
        ("L", Self::DecimalSeconds),
        ("p", Self::Process),
    ];

    /// Reads a letter.
    fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(letter, _)| *letter == name).map(|(_, atom)| *atom)
    }

    /// Whether gunicorn's value is a number, which `%(D)d` writes as well.
    fn is_number(name: &str) -> bool {
        matches!(name, "B" | "T" | "M" | "D")
    }
}

/// What has to be kept of a response and of the environ until the line is written, each name once and in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub struct Wanted {
    pub response_headers: Vec<String>,
    pub variables: Vec<String>,
}

impl Wanted {
    /// Whether nothing has to be kept.
    pub fn is_empty(&self) -> bool {
        self.response_headers.is_empty() && self.variables.is_empty()
    }
}

impl AccessFormat {
    /// What the format needs of responses and of the environ.
    pub fn wanted(&self) -> Option<&Wanted> {
        let wanted = match self {
            Self::Text | Self::Json => return None,
            Self::Line(line) => &line.wanted,
            Self::Object(object) => &object.wanted,
        };
        Some(wanted).filter(|wanted| !wanted.is_empty())
    }

    /// Whether lines have this field.
    pub fn has(&self, field: Field) -> bool {
        let is_field = |atom: &Atom| *atom == Atom::Field(field);
        match self {
            Self::Text => false,
            Self::Json => Field::JSON.contains(&field),
            Self::Line(line) => line.pieces.iter().any(|piece| match piece {
                Piece::Literal(_) => false,
                Piece::Atom { atom, .. } => is_field(atom),
            }),
            Self::Object(object) => object.members.iter().any(|member| is_field(&member.atom)),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
