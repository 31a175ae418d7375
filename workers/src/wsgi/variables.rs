//! The variables of the environ that the access log has asked for, as text.
//!
//! They are read after the call, so that they have what the application put there. A variable that it sets while it
//! produces the second item of its response, or a later one, comes too late.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::settings::Settings;

/// The names of the variables, in lower case, and their values in the latest environ.
pub(super) struct Variables {
    names: Vec<String>,
    values: Vec<Option<Vec<u8>>>,
}

impl Variables {
    pub(super) fn of(settings: &Settings) -> Self {
        let wanted = settings.access_log.wanted();
        let names = wanted.map(|wanted| wanted.variables.clone()).unwrap_or_default();
        Self { values: vec![None; names.len()], names }
    }

    /// Forgets the values of the former request.
    pub(super) fn clear(&mut self) {
        self.values.iter_mut().for_each(|value| *value = None);
    }

    /// Reads the values. Names are compared without regard to case, and the last one counts, as in gunicorn. What
    /// cannot be turned into text is missing.
    pub(super) fn read(&mut self, environ: &Bound<'_, PyDict>) {
        if self.names.is_empty() {
            return;
        }
        let mut found: Vec<_> = vec![None; self.names.len()];
        for (key, value) in environ.iter() {
            let Ok(key) = key.cast::<PyString>() else { continue };
            let Ok(key) = key.to_str() else { continue };
            let Some(index) = self.names.iter().position(|name| name.eq_ignore_ascii_case(key))
            else {
                continue;
            };
            found[index] = Some(value);
        }
        // Only now, because this is code of the application, which may change the environ.
        for (text, value) in self.values.iter_mut().zip(found) {
            *text = value.as_ref().and_then(text_of);
        }
    }

    /// The values of the latest environ, in the order of the names.
    pub(super) fn values(&self) -> impl Iterator<Item = Option<&[u8]>> {
        self.values.iter().map(Option::as_deref)
    }
}

/// A value as `str()` shows it, in UTF-8.
fn text_of(value: &Bound<'_, PyAny>) -> Option<Vec<u8>> {
    let text = value.str().ok()?;
    Some(text.to_string_lossy().into_owned().into_bytes())
}
