//! The environment of a process, as a value.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// The environment of the process at the start, as a value, so that reading options needs no global state.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// Returns a variable. An empty one counts as not set, because containers often set variables to nothing.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// Returns a variable whose value is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.to_str()
    }

    /// Removes a variable and returns its value.
    pub fn take(&mut self, name: &str) -> Option<OsString> {
        self.0.remove(OsStr::new(name))
    }

    /// Returns the names of all variables whose name is text.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.to_str())
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
