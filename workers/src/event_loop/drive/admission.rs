//! Which complete requests reach the application: not those that have waited for too long (`--max-queue-time`), nor
//! those in quarantine (`--quarantine`). The scoreboard shows the others while they run.

use std::time::Duration;

use super::WorkerContext;
use crate::connection::RefusalReason;
use crate::http::Head;

/// Returns why a complete request is refused.
#[inline]
pub(super) fn refusal(
    context: &WorkerContext,
    queue_wait: Duration,
    head: &Head,
    head_bytes: &[u8],
) -> Option<RefusalReason> {
    if context.settings.timeouts.queue.is_some_and(|limit| queue_wait > limit) {
        return Some(RefusalReason::QueuedTooLong);
    }
    let quarantine = context.quarantine.as_ref()?;
    let (method, path) = (head.method.of(head_bytes), head.path.of(head_bytes));
    quarantine.refusal(context.clock.monotonic(), method, path)
}

/// Shows on the scoreboard that the application is called for a request, which started at `since`.
#[inline]
pub(super) fn show(
    context: &WorkerContext,
    monotonic: Duration,
    since: Duration,
    (method, path): (&[u8], &[u8]),
) {
    if let Some(quarantine) = &context.quarantine {
        quarantine.identify(context.entry, method, path);
    }
    context.entry.resume_request(monotonic, since, method, path);
}
