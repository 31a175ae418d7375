//! What a configuration is read from: kept, because a reload reads it again.
//!
//! Command line, environment and the folder are those of the start: other ones a process cannot be
//! given. What they point to is looked up each time.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::file;
use super::options::{OPTIONS, Setting, Takes};
use super::origin::{Given, Origin};
use crate::system::environment::Environment;

/// See the module.
#[derive(Clone, Debug)]
pub struct Source {
    /// What won over everything else, option by option.
    explicit: Vec<(Setting, Vec<OsString>)>,
    /// [`Origin::CommandLine`] or [`Origin::Keyword`].
    origin: Origin,
    environment: Environment,
    /// The current one at the start: `--chdir` leaves it, and is relative to it the next time, too.
    folder: PathBuf,
}

impl Source {
    /// A command line over the environment's `ARCTOS_*`, in the current folder.
    ///
    /// Errors: [`ConfigError::NoCurrentFolder`].
    pub fn of_command_line(
        given: impl IntoIterator<Item = (Setting, Vec<OsString>)>,
        environment: Environment,
    ) -> Result<Self, ConfigError> {
        Self::here(given, Origin::CommandLine, environment)
    }

    /// The same with arguments of a function in place of the command line.
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
        let folder = std::env::current_dir().map_err(ConfigError::NoCurrentFolder)?;
        Ok(Self { explicit: explicit.into_iter().collect(), origin, environment, folder })
    }

    /// Where relative paths start: the current folder at the start.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The environment at the start.
    pub(super) fn environment(&self) -> &Environment {
        &self.environment
    }

    /// What was given, unread, each setting from the strongest place that has it: command line,
    /// environment, file.
    ///
    /// Errors: [`ConfigError::File`].
    pub(super) fn given(&self) -> Result<BTreeMap<Setting, Given>, ConfigError> {
        let from_environment = OPTIONS.iter().filter_map(|option| {
            let variable = option.variable();
            let values = separate(self.environment.value(&variable)?, option.takes);
            Some((option.setting, Given { values, origin: Origin::Environment(variable) }))
        });
        let explicit = self.explicit.iter().map(|(setting, values)| {
            (*setting, Given { values: values.clone(), origin: self.origin.clone() })
        });
        let outside: BTreeMap<_, _> = from_environment.chain(explicit).collect();
        let path = outside.get(&Setting::Config).and_then(|given| {
            // One that is empty is refused as any path is.
            Some((given.values.last().filter(|path| !path.is_empty())?, &given.origin))
        });
        let Some((path, origin)) = path else { return Ok(outside) };
        let mut given = file::read(&self.folder, path, origin)?;
        given.extend(outside);
        Ok(given)
    }

    /// Whether the command line, or the call of `serve()`, gives this setting.
    pub(super) fn has_explicit(&self, setting: Setting) -> bool {
        self.explicit.iter().any(|(given, _)| *given == setting)
    }

    /// [`Origin::CommandLine`] or [`Origin::Keyword`].
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }
}

/// The values in one environment variable.
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
