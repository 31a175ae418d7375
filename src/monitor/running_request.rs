//! Reads from the scoreboard which request a worker is running.

use arctos_worker::shared::scoreboard::WorkerEntry;

use super::clock::monotonic;
use crate::supervisor::log_event::RunningRequest;

/// Returns the request that the worker of an entry is running, or was running when it died.
pub(super) fn running_request(entry: &'static WorkerEntry) -> Option<RunningRequest> {
    let age = monotonic()?.saturating_sub(entry.request_start()?);
    let line = entry.request_line().unwrap_or_default();
    let id = entry.request_id().unwrap_or_default();
    Some(RunningRequest { age, line, id, trace: entry.trace_id().unwrap_or_default() })
}
