//! The clock of the scoreboard.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// CLOCK_MONOTONIC as the scoreboard has it; `None` never comes from a kernel that has the clock.
pub(super) fn monotonic() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_MONOTONIC).ok().map(Duration::from)
}
