//! Metrics as a whole server has them: what is measured beside counting, and what the board's numbers
//! add up to.
//!
//! | file | owns |
//! |---|---|
//! | `names` | gauges and distributions, and what everything is called in Prometheus |
//! | `table` | the README's table of all metrics |
//! | `ledger` | totals of each slot, read from the board and made plausible |
//! | `books` | totals that are handed from one server to the next |
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

pub use carried_totals::Books;
pub use gauges::{Gauges, Occupant, Sampler, Scene};
pub use names::{Distribution, Gauge, Scope};
pub use rss::ResidentSet;
pub use totals::{Ledger, Spread, Totals};
