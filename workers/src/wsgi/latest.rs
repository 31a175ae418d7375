//! What the event loop asks about the latest request once the application has returned.

use std::num::NonZeroU128;

use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::route::Route;
use super::variables::Variables;
use crate::settings::Settings;

/// The answers to it.
pub(super) struct Latest {
    pub(super) route: Route,
    /// The trace that the request belongs to, if it is sampled.
    pub(super) trace: Option<NonZeroU128>,
    /// What the access log wants to know of the environ.
    pub(super) variables: Variables,
}

impl Latest {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { route: Route::default(), trace: None, variables: Variables::of(settings) }
    }

    /// Forgets the former request.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.route.clear();
        self.trace = None;
        self.variables.clear();
    }

    /// Reads what the application has put into the environ.
    #[inline]
    pub(super) fn read(&mut self, environ: &Bound<'_, PyDict>) {
        self.route.read(environ);
        self.variables.read(environ);
    }
}
