//! What somebody may have meant by a name that no option has.

use std::fmt;

use super::options::{OPTIONS, Setting, gunicorn};

/// From this likeness on a name may have been meant: clap's own measure for options.
const LIKENESS: f64 = 0.7;

/// What may have been meant by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// An option of that name.
    Near(&'static str),
    /// Another server's, and what to do instead.
    Foreign(&'static str),
    /// Nothing that one could guess.
    None,
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Near(name) => write!(f, "; did you mean '{name}'?"),
            Self::Foreign(hint) => write!(f, ": {hint}"),
            Self::None => Ok(()),
        }
    }
}

/// What may have been meant by a name that no option has.
pub(super) fn advice(key: &str) -> Advice {
    if let Some(name) = gunicorn::renamed(key) {
        return Advice::Near(name);
    }
    if let Some(hint) = gunicorn::hint(&format!("--{key}")) {
        return Advice::Foreign(hint);
    }
    let names = OPTIONS.iter().filter(|option| option.setting != Setting::Config);
    let near = names.map(|option| (strsim::jaro(key, option.long), option.long));
    let nearest = near.max_by(|(one, _), (other, _)| one.total_cmp(other));
    match nearest {
        Some((likeness, name)) if likeness > LIKENESS => Advice::Near(name),
        Some(_) | None => Advice::None,
    }
}
