//! The source of a configuration, which is kept because a reload reads it again.
//!
//! Command line, environment and directory are those of the start, because nobody can change them for a running
//! process. What they refer to is looked up each time, and so is the file in that directory.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::discovery;
use super::error::ConfigError;
use super::file;
use super::options::{OPTIONS, OptionSpec, Setting, Takes};
use super::origin::{Given, Origin};
use super::place::Reason;
use crate::system::environment::Environment;

/// The value of `--config` that reads no file.
pub(super) const NO_FILE: &str = "off";

/// The source of a configuration.
#[derive(Clone, Debug)]
pub struct Source {
    /// The options of the command line or the call, which take precedence.
    explicit: Vec<(Setting, Vec<OsString>)>,
    /// [`Origin::CommandLine`] or [`Origin::Keyword`].
    origin: Origin,
    environment: Environment,
    /// The current directory at the start. `--chdir` is relative to it, also at a reload, when the process has left it.
    start_directory: PathBuf,
}

impl Source {
    /// A command line, which takes precedence over the `ARCTOS_*` of the environment, in the current directory.
    ///
    /// Errors: [`ConfigError::NoCurrentDirectory`].
    pub fn of_command_line(
        given: impl IntoIterator<Item = (Setting, Vec<OsString>)>,
        environment: Environment,
    ) -> Result<Self, ConfigError> {
        Self::here(given, Origin::CommandLine, environment)
    }

    /// Like [`Source::of_command_line`], with the arguments of a function in place of a command line.
    pub fn of_keywords(
        keywords: impl IntoIterator<Item = (Setting, Vec<OsString>)>,
        environment: Environment,
    ) -> Result<Self, ConfigError> {
        Self::here(keywords, Origin::Keyword, environment)
    }

    fn here(
        explicit: impl IntoIterator<Item = (Setting, Vec<OsString>)>,
        origin: Origin,
        environment: Environment,
    ) -> Result<Self, ConfigError> {
        let start_directory = std::env::current_dir().map_err(ConfigError::NoCurrentDirectory)?;
        Ok(Self { explicit: explicit.into_iter().collect(), origin, environment, start_directory })
    }

    /// As if it had been started in another directory.
    #[cfg(test)]
    pub(super) fn starting_in(self, directory: &Path) -> Self {
        Self { start_directory: directory.to_owned(), ..self }
    }

    /// The current directory at the start, where relative paths start.
    pub fn start_directory(&self) -> &Path {
        &self.start_directory
    }

    /// The environment at the start.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Returns the given values, unread. Each setting comes from the first place that has it: command line,
    /// environment, file. A file that was found is the value of [`Setting::Config`].
    ///
    /// Errors: [`ConfigError::File`].
    pub fn given(&self) -> Result<BTreeMap<Setting, Given>, ConfigError> {
        let from_environment = OPTIONS.iter().filter_map(|option| {
            let variable = option.variable();
            let values = separate(self.environment.value(&variable)?, option.takes);
            Some((option.setting, Given { values, origin: Origin::Environment(variable) }))
        });
        let explicit = self.explicit.iter().map(|(setting, values)| {
            (*setting, Given { values: values.clone(), origin: self.origin.clone() })
        });
        let mut outside: BTreeMap<_, _> = from_environment.chain(explicit).collect();
        let named = outside.get(&Setting::Config);
        let named = named.and_then(|given| Some((given.values.last()?, &given.origin)));
        let mut given = match named {
            // An empty path is refused later, as for every other option.
            Some((path, _)) if path.is_empty() || path == NO_FILE => return Ok(outside),
            Some((path, origin)) => file::read(&self.start_directory, path, origin)?,
            None if !self.looks_for_file() => return Ok(outside),
            None => {
                let found = discovery::find(&self.start_directory)?;
                let Some((path, given)) = found else { return Ok(outside) };
                let origin = Origin::Place(Reason::Found);
                outside.insert(Setting::Config, Given { values: vec![path.into()], origin });
                given
            }
        };
        given.extend(outside);
        Ok(given)
    }

    /// Whether a file in the directory of the start is read. A program that calls `serve()` says itself which file it
    /// wants.
    pub(super) fn looks_for_file(&self) -> bool {
        let variable = OptionSpec::of(Setting::Config).variable();
        let is_named = self.has_explicit(Setting::Config)
            || self.environment.value(&variable).is_some_and(|value| !value.is_empty());
        self.origin == Origin::CommandLine && !is_named
    }

    /// Whether the command line or the call of `serve()` gives this setting.
    pub(super) fn has_explicit(&self, setting: Setting) -> bool {
        self.explicit.iter().any(|(given, _)| *given == setting)
    }

    /// [`Origin::CommandLine`] or [`Origin::Keyword`].
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// Splits the value of an environment variable into the values of its option.
fn separate(value: &OsStr, takes: Takes) -> Vec<OsString> {
    match (takes, value.to_str()) {
        (Takes::Many(separator), Some(text)) => {
            let parts = text.split(separator).map(str::trim).filter(|part| !part.is_empty());
            parts.map(OsString::from).collect()
        }
        (Takes::Many(_), None) | (Takes::Once | Takes::Switch | Takes::Positional, _) => {
            vec![value.to_owned()]
        }
    }
}

#[cfg(test)]
mod tests;
