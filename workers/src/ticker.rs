//! Somebody who lives in the loop's process and has something to do from time to time.
//!
//! A worker has none. Where there is no supervisor, as in a server inside its caller's process, the
//! ticker does what the supervisor would have done between two requests.

use std::time::Instant;

/// See the module.
pub trait Ticker {
    /// When [`Ticker::turn`] should be called at the latest.
    fn next_deadline(&self) -> Option<Instant>;

    /// Called at the end of each turn of the loop: must return at once when nothing is due, and soon
    /// when something is.
    fn turn(&mut self, now: Instant);
}
