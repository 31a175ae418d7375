//! Application metrics, in shared memory beside the scoreboard: what `arctos.metrics` writes, and the
//! supervisor reads.
//!
//! Each entry of the scoreboard has an [`Area`], and so has each zygote. An area is a list of rows that only grows: a
//! row names a series (a metric with the values of its tags) by a description in the text of the area, and holds its
//! value. A process that counts something for the first time appends a row, and from then on adds to its number
//! without a lock or a system call.
//!
//! | word | written by | how |
//! |---|---|---|
//! | epoch | supervisor | stored before a process gets the area, after the area is cleared |
//! | used rows, bytes of text, histograms | the worker and its children | fetch_add: whoever reserved a place owns it |
//! | description of a row | who reserved the row | stored, then published by the state of the row |
//! | numbers | the worker, its threads and its children | atomic read-modify-write, so that nothing is lost |
//!
//! Two processes may append rows for the same series. The supervisor adds them up by their descriptions.
//!
//! A child that the application forked and that outlives its worker may hold rows of an area that another worker has
//! by then. Before each update, it compares the epoch with the one that it has seen, and stops counting.
//!
//! The supervisor believes nothing that it reads: an application may overwrite all of this. Lengths and places are
//! checked, and a description that cannot be read is no series.

mod atomics {
    pub(super) use std::sync::atomic::{AtomicU64, Ordering};
}

/// The default of `--metrics-series`.
pub const DEFAULT_LIMIT: u32 = 1000;
/// The distribution of the durations of requests, with the tags [`ROUTE_TAG`] and [`STATUS_TAG`].
pub const ROUTE_DURATION: &str = "route.duration.seconds";
/// The route that the application has named.
pub const ROUTE_TAG: &str = "route";
/// The class of the status.
pub const STATUS_TAG: &str = "status";

pub mod area;
pub mod attachment;
pub mod description;
pub(in crate::shared) mod layout;
pub mod number;
pub mod values;

pub use area::{Area, Capacity, RowUse, SeriesMemory};
pub use attachment::Attachment;
pub use description::{Aggregation, Description, Kind, Naming, OTHER};
pub use layout::Row;
pub use values::ValueHistogram;
