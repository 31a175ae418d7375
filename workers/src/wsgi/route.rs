//! The route of a request, which the application names by `environ["arctos.route"]`.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

/// The longest route in bytes. The rest is cut off.
const MAX_BYTES: usize = 200;

/// The route of the latest request, in UTF-8.
#[derive(Default)]
pub(super) struct Route {
    text: Vec<u8>,
}

impl Route {
    /// Forgets the route of the former request.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.text.clear();
    }

    /// Reads the route, once the application has returned. What is no text, or has control characters, is none.
    #[inline]
    pub(super) fn read(&mut self, environ: &Bound<'_, PyDict>) {
        // The key is interned, so that a lookup without a result takes the time of one comparison of pointers.
        if let Ok(Some(route)) = environ.get_item(pyo3::intern!(environ.py(), "arctos.route")) {
            self.keep(&route);
        }
    }

    fn keep(&mut self, route: &Bound<'_, PyAny>) {
        let Ok(text) = route.cast::<PyString>() else { return };
        let Ok(text) = text.to_str() else { return };
        if !text.chars().any(char::is_control) {
            let mut ends = (0..=text.len().min(MAX_BYTES)).rev();
            let end = ends.find(|&end| text.is_char_boundary(end)).unwrap_or(0);
            self.text.extend_from_slice(&text.as_bytes()[..end]);
        }
    }

    /// The route; `None` if the application has named none.
    pub(super) fn get(&self) -> Option<&[u8]> {
        if self.text.is_empty() { None } else { Some(&self.text) }
    }
}
