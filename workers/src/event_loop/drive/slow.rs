//! The log of slow requests (`--slow-request`): where the time of each one went.

use std::time::Duration;

use super::WorkerContext;
use crate::event_loop::finished_request::FinishedRequest;
use crate::event_loop::record::Phases;
use crate::event_loop::routes::RouteId;
use crate::shared::log::{Level, Value};

/// Whether a request took too long.
#[inline]
pub(super) fn is_slow(context: &WorkerContext, phases: &Phases) -> bool {
    context.settings.timeouts.slow.is_some_and(|limit| phases.total() > limit)
}

/// Logs a request that took too long, unless there were too many.
#[cold]
pub(super) fn note(
    context: &mut WorkerContext,
    finished: &FinishedRequest<'_>,
    route: Option<RouteId>,
) {
    let Some(suppressed) = context.limited.slow.pass(context.clock.now()) else { return };
    let finished = finished.on_route(route.map(|route| context.routes.name(route).as_bytes()));
    let Phases { queue, application, send, .. } = finished.phases;
    let mut pairs = Vec::with_capacity(12);
    let labels = finished.labels;
    if let Some(line) = finished.line {
        pairs.push(("method", Value::Bytes(line.method)));
        pairs.extend(line.path.map(|path| ("path", Value::Bytes(path))));
    }
    pairs.extend(labels.route.map(|route| ("route", Value::Bytes(route))));
    pairs.extend(finished.status.map(|status| ("status", Value::Number(status.0.into()))));
    pairs.push(("total_ms", ms(finished.phases.total())));
    pairs.push(("queue_ms", ms(queue)));
    pairs.push(("application_ms", ms(application)));
    pairs.push(("send_ms", ms(send)));
    pairs.push(("body_bytes", number(finished.body_bytes)));
    pairs.extend(labels.request_id.map(|id| ("request_id", Value::Bytes(id))));
    pairs.extend(labels.trace_id.map(|id| ("trace_id", Value::Bytes(id))));
    if suppressed > 0 {
        pairs.push(("not_logged", number(suppressed)));
    }
    context.log.line(Level::Warning, "request.slow", &pairs);
}

fn ms(time: Duration) -> Value<'static> {
    Value::Number(i64::try_from(time.as_millis()).unwrap_or(i64::MAX))
}

fn number(count: u64) -> Value<'static> {
    Value::Number(i64::try_from(count).unwrap_or(i64::MAX))
}
