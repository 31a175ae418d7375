//! Work of the surrounding process that the event loop does between two turns.
//!
//! A worker has none. An embedded server has no supervisor, and its ticker does what the supervisor would do.

use std::time::Instant;

/// Periodic work on the thread of the event loop.
pub trait Ticker {
    /// When [`Ticker::turn`] has to be called at the latest.
    fn next_deadline(&self) -> Option<Instant>;

    /// Called at the end of each turn of the loop. It must return at once if nothing is due, and soon otherwise.
    fn turn(&mut self, now: Instant);
}
