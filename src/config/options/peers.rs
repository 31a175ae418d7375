//! The settings of gunicorn, uWSGI and Granian, each with what it becomes in arctos.
//!
//! One table has three readers: the error for an option of another server, `arctos migrate`, and the guide. A setting
//! therefore gets the same answer wherever it is asked about. The rows know no values; `crate::migrate` converts these.
//!
//! | [`Answer`] | meaning | `arctos migrate` writes |
//! |---|---|---|
//! | `Same` | An option has the same meaning. | the option |
//! | `Near` | An option has nearly the same meaning. | the option, and the difference |
//! | `Always` | arctos always does this, or has no need for it. | why nothing has to be set |
//! | `No` | There is no equivalent. | why, and what to do instead |

mod families;
mod granian;
pub mod gunicorn;
mod page;
mod uwsgi;
mod uwsgi_more;

use super::{OPTIONS, OptionSpec, Setting};

pub use families::{UwsgiOption, family, uwsgi_options};
pub use page::markdown;

/// A server whose configuration can be migrated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// gunicorn 27.
    Gunicorn,
    /// uWSGI 2.0.
    Uwsgi,
    /// Granian 2.
    Granian,
}

impl Peer {
    /// All of them, in the order of the guide.
    pub const ALL: [Self; 3] = [Self::Gunicorn, Self::Uwsgi, Self::Granian];

    /// The word that names the server on a command line, which is also its program.
    pub fn word(self) -> &'static str {
        match self {
            Self::Gunicorn => "gunicorn",
            Self::Uwsgi => "uwsgi",
            Self::Granian => "granian",
        }
    }

    /// The name of the server in a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Self::Gunicorn => "gunicorn",
            Self::Uwsgi => "uWSGI",
            Self::Granian => "Granian",
        }
    }

    /// The version whose settings the table has.
    pub fn version(self) -> &'static str {
        match self {
            Self::Gunicorn => "27.0",
            Self::Uwsgi => "2.0.31",
            Self::Granian => "2.8",
        }
    }

    /// The rows of this server.
    pub fn settings(self) -> impl Iterator<Item = &'static PeerSetting> {
        let (rows, more): (&[PeerSetting], &[PeerSetting]) = match self {
            Self::Gunicorn => (gunicorn::SETTINGS, &[]),
            Self::Uwsgi => (uwsgi::SETTINGS, uwsgi_more::SETTINGS),
            Self::Granian => (granian::SETTINGS, &[]),
        };
        rows.iter().chain(more)
    }

    /// Returns the row of a setting, by its name in a configuration file.
    pub fn setting(self, name: &str) -> Option<&'static PeerSetting> {
        self.settings().find(|row| row.names().any(|known| known == name))
    }

    /// Returns the row of an option, with its dashes and without a value.
    pub fn option(self, flag: &str) -> Option<&'static PeerSetting> {
        match self {
            // Every option of uWSGI has the name of its setting.
            Self::Uwsgi => self.setting(flag.strip_prefix("--")?),
            Self::Gunicorn | Self::Granian => {
                self.settings().find(|row| row.flags().any(|known| known == flag))
            }
        }
    }
}

/// One setting of another server.
#[derive(Clone, Copy, Debug)]
pub struct PeerSetting {
    /// Its names in a configuration file, separated by spaces; the first one is used in messages.
    names: &'static str,
    /// Its options on the command line with their dashes, separated by spaces.
    flags: &'static str,
    /// What follows the option on the command line.
    pub argument: PeerArgument,
    /// The unit of its values.
    pub unit: Unit,
    /// What it becomes.
    pub answer: Answer,
}

/// What follows an option on the command line of another server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerArgument {
    /// Nothing.
    None,
    /// A value.
    Required,
    /// A value, if it is attached with `=`, or the next word is no option.
    Optional,
}

/// The unit of the values of a setting, where it is not that of the option in arctos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// That of the option: seconds for a time, bytes for a size.
    Same,
    /// Milliseconds.
    Milliseconds,
    /// Mebibytes.
    Mebibytes,
    /// The values need code of their own.
    Special,
}

/// What a setting of another server becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An option with the same meaning.
    Same {
        /// The option.
        setting: Setting,
    },
    /// An option with nearly the same meaning.
    Near {
        /// The option.
        setting: Setting,
        /// The difference, as a clause without a period.
        difference: &'static str,
    },
    /// Nothing, because arctos always does this, or does not need it.
    Always {
        /// Why, as a clause without a period.
        why: &'static str,
    },
    /// There is no equivalent.
    No {
        /// Why, and what to do instead, as a clause without a period.
        instead: &'static str,
    },
}

impl PeerSetting {
    /// Its names in a configuration file.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.names.split(' ')
    }

    /// The name that messages use.
    pub fn name(&self) -> &'static str {
        self.names().next().unwrap_or_default()
    }

    /// Its options on the command line, with their dashes.
    pub fn flags(&self) -> impl Iterator<Item = &'static str> {
        self.flags.split(' ').filter(|flag| !flag.is_empty())
    }

    const fn new(names: &'static str, flags: &'static str, answer: Answer) -> Self {
        Self { names, flags, argument: PeerArgument::Required, unit: Unit::Same, answer }
    }

    const fn in_unit(mut self, unit: Unit) -> Self {
        self.unit = unit;
        self
    }

    const fn special(self) -> Self {
        self.in_unit(Unit::Special)
    }

    /// An option without a value.
    const fn switch(mut self) -> Self {
        self.argument = PeerArgument::None;
        self
    }

    /// An option whose value may be left out.
    const fn optional(mut self) -> Self {
        self.argument = PeerArgument::Optional;
        self
    }
}

const fn same(names: &'static str, flags: &'static str, setting: Setting) -> PeerSetting {
    PeerSetting::new(names, flags, Answer::Same { setting })
}

const fn near(
    names: &'static str,
    flags: &'static str,
    setting: Setting,
    difference: &'static str,
) -> PeerSetting {
    PeerSetting::new(names, flags, Answer::Near { setting, difference })
}

const fn always(names: &'static str, flags: &'static str, why: &'static str) -> PeerSetting {
    PeerSetting::new(names, flags, Answer::Always { why })
}

const fn no(names: &'static str, flags: &'static str, instead: &'static str) -> PeerSetting {
    PeerSetting::new(names, flags, Answer::No { instead })
}

/// Returns what to do instead of an option of another server. `option` is as written, with its dashes.
pub fn hint(option: &str) -> Option<String> {
    let (name, _value) = option.split_once('=').unwrap_or((option, ""));
    let is_ours = |option: &OptionSpec| {
        name == option.flag() || option.short.is_some_and(|letter| name == format!("-{letter}"))
    };
    if OPTIONS.iter().any(is_ours) {
        return None;
    }
    if let Some(row) = Peer::ALL.iter().find_map(|peer| peer.option(name)) {
        return Some(advice(row));
    }
    // A configuration file of arctos has no flags, but someone may write a name from gunicorn's file into it.
    let name = name.strip_prefix("--")?.replace('-', "_");
    Peer::Gunicorn.setting(&name).map(advice)
}

fn advice(row: &PeerSetting) -> String {
    match row.answer {
        Answer::Same { setting } => format!("use {}", OptionSpec::of(setting).flag()),
        Answer::Near { setting, difference } => {
            format!("use {}; {difference}", OptionSpec::of(setting).flag())
        }
        Answer::Always { why } => format!("{why}; leave the option out"),
        Answer::No { instead } => instead.to_owned(),
    }
}

/// Returns the option for a setting of gunicorn's configuration file whose name differs from that of its option.
pub fn renamed(setting: &str) -> Option<&'static str> {
    let row = Peer::Gunicorn.setting(&setting.replace('-', "_"))?;
    match row.answer {
        Answer::Same { setting } | Answer::Near { setting, .. } => {
            Some(OptionSpec::of(setting).long)
        }
        Answer::Always { .. } | Answer::No { .. } => None,
    }
}

#[cfg(test)]
mod tests;
