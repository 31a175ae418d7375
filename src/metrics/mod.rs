//! Metrics as a whole server has them: what is measured beside counting, and what the scoreboard's numbers
//! add up to.
//!
//! | file | owns |
//! |---|---|
//! | `names` | gauges and distributions, and what everything is called in Prometheus |
//! | `table` | the guide's table of all metrics |
//! | `totals` | totals of each slot, read from the scoreboard and made plausible |
//! | `carried` | totals that are handed from one server to the next |
//! | `gauges` | what is worked out at the moment it is asked for |
//! | `resident` | how much memory the workers have |
//!
//! Counting is the workers' ([`arctos_worker::shared::scoreboard`]). Nothing here formats a line or sends one: that
//! is [`crate::emitter`] and [`crate::admin`].
pub mod carried_totals;
pub mod gauges;
pub mod names;
pub mod rss;
pub mod statsd;
pub mod table;
pub mod totals;

pub use carried_totals::CarriedTotals;
pub use gauges::{Gauges, Sampler, Snapshot, WorkerSample};
pub use names::{Distribution, Gauge, Scope};
pub use rss::ResidentSet;
pub use totals::{DistributionTotals, SlotTotals, Totals};
