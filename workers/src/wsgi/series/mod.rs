//! The metrics of the application: the classes `Counter`, `Gauge` and `Distribution` of `arctos.metrics`.
//!
//! An update has to take less than 100 ns, so its methods get their arguments as C passes them, without a dictionary, and
//! find the row of a series in this order:
//!
//! | step | finds | cost |
//! |---|---|---|
//! | [`recent`] | the same objects as in one of the last updates | comparisons of pointers |
//! | [`family`] | the same texts | one hash |
//! | [`Area::append`] | nothing yet: a new series | once for each series and process |
//!
//! The metrics of prometheus_client are its own objects. Each of their values ([`prometheus_value`]) keeps its row
//! ([`prometheus_rows`]).
//!
//! [`Area::append`]: crate::shared::series::Area::append

mod classes;
mod family;
mod fast_call;
mod place;
mod prometheus_rows;
mod prometheus_value;
mod recent;

pub use classes::{Counter, Distribution, Gauge, add_methods, counter, distribution, gauge};
pub use prometheus_value::PrometheusValue;
