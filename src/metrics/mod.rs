//! The metrics of a whole server: the sums over the scoreboard, and the values that are measured when they are needed.
//!
//! | file | owns |
//! |---|---|
//! | `names` | gauges and distributions, and all names in Prometheus |
//! | `table` | the guide's table of all metrics |
//! | `totals` | the totals of each slot, read from the scoreboard and checked for plausibility |
//! | `carried_totals` | the totals that a server hands over to its successor |
//! | `gauges` | the values that are measured when they are needed |
//! | `memory` | the memory of the workers |
//! | `series` | the totals of application metrics |
//!
//! The workers count ([`arctos_worker::shared::scoreboard`]). [`crate::emitter`] and [`crate::admin`] format and send.
pub mod carried_totals;
pub mod gauges;
pub mod memory;
pub mod names;
pub mod series;
pub mod statsd;
pub mod table;
pub mod totals;

pub use carried_totals::CarriedTotals;
pub use gauges::{Gauges, Sampler, Snapshot, WorkerSample};
pub use memory::{ProcessMemory, WorkerMemory};
pub use names::{Distribution, Gauge, Scope};
pub use totals::{DistributionTotals, SlotTotals, Totals};
