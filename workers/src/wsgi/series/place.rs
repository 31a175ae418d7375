//! Where a series has its value.

use crate::shared::series::{Row, ValueHistogram};

/// Where a series has its value.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) row: &'static Row,
    pub(super) histogram: Option<&'static ValueHistogram>,
    /// Whether it counts all series that have no row of their own.
    pub(super) is_other: bool,
}
