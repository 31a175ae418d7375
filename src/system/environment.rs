//! The environment of a process, as a value.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

/// The process's environment at start, as a value: reading options does no I/O and tests need no
/// global state.
#[derive(Clone, Debug, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// A variable; one that is set to nothing counts as not set, as containers are full of these.
    pub fn value(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A variable that is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.to_str()
    }

    /// Takes a variable out.
    pub fn take(&mut self, name: &str) -> Option<OsString> {
        self.0.remove(OsStr::new(name))
    }

    /// Names of all variables that are text.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().filter_map(|name| name.to_str())
    }
}

impl<K: Into<OsString>, V: Into<OsString>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}
