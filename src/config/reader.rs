//! Reads settings one by one, and records the effective value of each.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::options::{OptionSpec, Setting};
use super::origin::{Given, Origin};
use super::value::{Kind, Switch};

/// The effective value of one setting.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The setting.
    pub setting: Setting,
    /// Its value; empty if it has none.
    pub value: String,
    /// Where the value comes from.
    pub origin: Origin,
}

/// Reads settings. Each setting is read once.
pub(super) struct Reader<'a> {
    given: &'a BTreeMap<Setting, Given>,
    /// Where relative paths start: the directory of the start until `--chdir` is read.
    base: PathBuf,
    effective: Vec<Effective>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(given: &'a BTreeMap<Setting, Given>, base: PathBuf) -> Self {
        Self { given, base, effective: Vec::new() }
    }

    pub(super) fn base(&self) -> &Path {
        &self.base
    }

    pub(super) fn start_paths_at(&mut self, base: PathBuf) {
        self.base = base;
    }

    /// Returns what was given for a setting.
    pub(super) fn given(&self, setting: Setting) -> Option<&'a Given> {
        self.given.get(&setting).filter(|given| !given.values.is_empty())
    }

    /// Returns the value of a setting that takes one: the last, if several were given.
    pub(super) fn last(&self, setting: Setting) -> Option<(&'a OsStr, &'a Origin)> {
        let given = self.given(setting)?;
        Some((given.values.last()?, &given.origin))
    }

    /// Records the effective value of a setting.
    pub(super) fn note(&mut self, setting: Setting, value: String, origin: Origin) {
        self.effective.push(Effective { setting, value, origin });
    }

    /// Returns the effective values in the order of the table, whatever the order of reading.
    pub(super) fn into_effective(mut self) -> Vec<Effective> {
        self.effective.sort_by_key(|line| line.setting);
        self.effective
    }

    /// Reads a value of a kind, given or the default of the table, and records it.
    pub(super) fn one<K: Kind>(
        &mut self,
        setting: Setting,
        kind: K,
    ) -> Result<K::Value, ConfigError> {
        let (value, origin) = self.look_or_default(setting, &kind)?;
        self.note(setting, kind.show(&value), origin);
        Ok(value)
    }

    /// Reads a value of a kind and its origin, given or the default of the table. The caller records it.
    pub(super) fn look_or_default<K: Kind>(
        &self,
        setting: Setting,
        kind: &K,
    ) -> Result<(K::Value, Origin), ConfigError> {
        if let Some(given) = self.look(setting, kind)? {
            return Ok(given);
        }
        let text = OptionSpec::of(setting).default.text();
        Ok((read(setting, kind, OsStr::new(&*text), &Origin::Default)?, Origin::Default))
    }

    /// Reads a value of a kind and records it, if one was given. Otherwise the caller records the default.
    pub(super) fn given_as<K: Kind>(
        &mut self,
        setting: Setting,
        kind: K,
    ) -> Result<Option<K::Value>, ConfigError> {
        let Some((value, origin)) = self.look(setting, &kind)? else { return Ok(None) };
        self.note(setting, kind.show(&value), origin);
        Ok(Some(value))
    }

    /// Reads a value of a kind and its origin, if one was given. The caller records it.
    pub(super) fn look<K: Kind>(
        &self,
        setting: Setting,
        kind: &K,
    ) -> Result<Option<(K::Value, Origin)>, ConfigError> {
        let Some((text, origin)) = self.last(setting) else { return Ok(None) };
        Ok(Some((read(setting, kind, text, origin)?, origin.clone())))
    }

    pub(super) fn switch(&mut self, setting: Setting) -> Result<bool, ConfigError> {
        self.one(setting, Switch)
    }

    /// Reads a text that is not empty, if one was given, and records it.
    pub(super) fn text(&mut self, setting: Setting) -> Result<Option<String>, ConfigError> {
        let Some((text, origin)) = self.last(setting) else {
            self.note(setting, String::new(), Origin::Default);
            return Ok(None);
        };
        let Some(known) = text.to_str().filter(|text| !text.is_empty()) else {
            return Err(wrong(setting, origin, text, "text in UTF-8".to_owned()));
        };
        self.note(setting, known.to_owned(), origin.clone());
        Ok(Some(known.to_owned()))
    }

    /// Reads a path, makes it absolute and records it, if one was given.
    pub(super) fn path(&mut self, setting: Setting) -> Result<Option<PathBuf>, ConfigError> {
        let Some((text, origin)) = self.last(setting) else {
            self.note(setting, String::new(), Origin::Default);
            return Ok(None);
        };
        if text.is_empty() {
            return Err(wrong(setting, origin, text, "a path".to_owned()));
        }
        let path = self.base.join(text);
        self.note(setting, path.display().to_string(), origin.clone());
        Ok(Some(path))
    }

    /// Reads all values of a setting that repeats, each with `read`, whose error is what it expects.
    pub(super) fn many<T>(
        &self,
        setting: Setting,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, ConfigError> {
        let Some(Given { values, origin }) = self.given(setting) else { return Ok(Vec::new()) };
        let read_one = |value: &OsString| {
            let text = value.to_str().ok_or_else(|| "text in UTF-8".to_owned());
            text.and_then(&read).map_err(|expected| wrong(setting, origin, value, expected))
        };
        values.iter().map(read_one).collect()
    }
}

fn read<K: Kind>(
    setting: Setting,
    kind: &K,
    text: &OsStr,
    origin: &Origin,
) -> Result<K::Value, ConfigError> {
    let value = text.to_str().and_then(|text| kind.read(text));
    value.ok_or_else(|| wrong(setting, origin, text, kind.expected()))
}

pub(super) fn wrong(
    setting: Setting,
    origin: &Origin,
    text: &OsStr,
    expected: String,
) -> ConfigError {
    let text = text.to_string_lossy().into_owned();
    ConfigError::Value { setting, origin: origin.clone(), text, expected }
}
