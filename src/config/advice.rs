//! Advice for a name that is not an option of arctos.

use std::fmt;

use super::options::{OPTIONS, Setting, peers};

/// The similarity from which a name is suggested. clap uses the same measure for the command line.
const LIKENESS: f64 = 0.7;

/// What the user may have meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Advice {
    /// A similar option of arctos.
    Near(&'static str),
    /// An option of another server, with what to do instead.
    Unsupported(String),
    /// No suggestion.
    None,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Near(name) => write!(f, "; did you mean '{name}'?"),
            Self::Unsupported(hint) => write!(f, ": {hint}"),
            Self::None => Ok(()),
        }
    }
}

/// Returns advice for a name, in lower case and with dashes, that is not an option of arctos.
pub(super) fn advice(key: &str) -> Advice {
    if let Some(name) = peers::renamed(key) {
        return Advice::Near(name);
    }
    if let Some(hint) = peers::hint(&format!("--{key}")) {
        return Advice::Unsupported(hint);
    }
    let names = OPTIONS.iter().filter(|option| option.setting != Setting::Config);
    let near = names.map(|option| (strsim::jaro(key, option.long), option.long));
    let nearest = near.max_by(|(one, _), (other, _)| one.total_cmp(other));
    match nearest {
        Some((likeness, name)) if likeness > LIKENESS => Advice::Near(name),
        Some(_) | None => Advice::None,
    }
}
