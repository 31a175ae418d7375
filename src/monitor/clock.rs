//! The clock of the scoreboard.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Returns CLOCK_MONOTONIC in the unit of the scoreboard; `None` only if the kernel lacks this clock.
pub(super) fn monotonic() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_MONOTONIC).ok().map(Duration::from)
}
