//! The request that a worker is running, as its entry on the scoreboard says.

use arctos_worker::shared::scoreboard::WorkerEntry;

use super::clock::monotonic;
use crate::supervisor::log_event::RunningRequest;

/// What the worker of an entry is doing, or was doing when it died.
pub(super) fn running_request(entry: &'static WorkerEntry) -> Option<RunningRequest> {
    let age = monotonic()?.saturating_sub(entry.request_start()?);
    Some(RunningRequest { age, line: entry.request_line().unwrap_or_default() })
}
