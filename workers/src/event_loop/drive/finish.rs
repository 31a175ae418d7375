//! How a request begins and ends: what is kept of it, and who is told about it.

use std::num::NonZeroU128;
use std::time::{Duration, SystemTime};

use super::request_id::{self, RequestId};
use super::{SPARE_BYTES, WorkerContext, admission, slow};
use crate::application::{AppBody, Application, Request};
use crate::event_loop::access_log::AccessLog;
use crate::event_loop::client::Client;
use crate::event_loop::finished_request::FinishedRequest;
use crate::event_loop::record::{Phases, Record, Timing};
use crate::event_loop::routes::RouteId;
use crate::http::Status;
use crate::process::stack_sampler;
use crate::shared::fd;
use crate::shared::scoreboard::{Exemplar, StatusClass};

/// The application is about to be called for a request, or a file to be sent. Returns the identifier that the response
/// is to have.
pub(super) fn begin<A: Application>(
    app: &mut A,
    context: &mut WorkerContext,
    client: &mut Client<A::Body>,
    request: &Request<'_>,
) -> Option<RequestId> {
    let record = record_of(app, context, request);
    client.begin_call(Timing::new(context.clock.now(), request.queue_wait), record);
    if let Some(memory) = context.spare.take() {
        client.conn_mut().write_buffer().lend(memory);
    }
    request_id::of(context, client)
}

/// The record of a request, if somebody wants it.
fn record_of<A: Application>(
    app: &mut A,
    context: &mut WorkerContext,
    request: &Request<'_>,
) -> Option<Box<Record>> {
    if !context.keeps_heads() {
        return None;
    }
    let mut record = context.spare_record.take().unwrap_or_default();
    record.replace(request.head_bytes, request.head);
    if names_requests(context)
        && let Some(id) = app.request_id(request)
    {
        record.identify(id);
    }
    Some(record)
}

/// Whether somebody wants the identifiers of requests.
pub(super) fn names_requests(context: &WorkerContext) -> bool {
    let settings = &context.settings;
    settings.timeouts.slow.is_some()
        || settings.request_id_header.is_some()
        || context.access.as_ref().is_some_and(AccessLog::names_requests)
}

/// The application has returned from the call for a request. Notes the route that it has named, and the trace that the
/// request belongs to.
#[inline]
pub(super) fn end_first_call<A: Application>(
    app: &A,
    context: &mut WorkerContext,
    client: &mut Client<A::Body>,
) {
    let route = app.route().and_then(|route| context.routes.number(route));
    let took = end_call(context, route);
    if let Some(timing) = client.timing() {
        timing.route = route;
        timing.trace = app.sampled_trace();
        timing.application += took;
    }
}

/// Ends a response that was sent completely.
pub(super) fn finish<B: AppBody>(
    context: &mut WorkerContext,
    client: &mut Client<B>,
    has_more: bool,
) {
    let reply = client.conn().reply();
    let (conn, transport) = client.conn_and_transport();
    if conn.closes_at_once() && fd::has_unread(transport.socket()) {
        conn.linger_after();
    }
    conn.finish(&context.entry.counters);
    if !has_more && client.is_idle() {
        // Before the iterable is closed, which may take long.
        client.show_answered(context.clock.monotonic());
    }
    close(context, client, reply);
    if let Some(memory) = client.conn_mut().write_buffer().reclaim()
        && memory.capacity() <= SPARE_BYTES
    {
        context.spare = Some(memory);
    }
}

/// Ends the response of a connection that is about to be closed, if it has one that was aborted.
pub(super) fn end_reply<B: AppBody>(context: &mut WorkerContext, client: &mut Client<B>) {
    let reply = client.conn().reply();
    close(context, client, reply);
}

/// Closes the application's side of a reply, even if it was aborted, and hands the finished request over. The
/// iterable's `close()` counts as a call of the application.
///
/// The worker may hang or die in `close()`. Everything about the response that takes no time of it is done before: the
/// request is counted, and has its line in the access log.
fn close<B: AppBody>(
    context: &mut WorkerContext,
    client: &mut Client<B>,
    reply: Option<(Status, u64)>,
) {
    let Some(timing) = client.timing().copied() else {
        return context.leave_if_forked(); // It was refused, so the application has no part in it.
    };
    let (mut phases, route) = (timing.phases(context.clock.now()), timing.route);
    count(context, reply.map(|(status, _)| status), &phases, &timing);
    let owes_close = client.owes_close();
    let is_logged_last =
        owes_close && context.access.as_ref().is_some_and(AccessLog::names_application_time);
    if context.access.is_some() && !is_logged_last {
        let address = client.conn().client();
        let finished = FinishedRequest::answered(address, client.record(), reply, phases);
        log(context, &finished, route);
    }
    if owes_close && let Some(record) = client.record() {
        context.flush_access_log();
        resume(context, record, &timing);
    }
    let record = client.close_reply();
    context.leave_if_forked();
    if owes_close {
        phases.application += end_call(context, route);
    }
    context.entry.requests.application.record(phases.application);
    let is_slow = slow::is_slow(context, &phases);
    if is_slow || is_logged_last {
        let address = client.conn().client();
        let finished = FinishedRequest::answered(address, record.as_deref(), reply, phases);
        if is_slow {
            slow::note(context, &finished, route);
        }
        if is_logged_last {
            log(context, &finished, route);
        }
    }
    context.spare_record = record.filter(|record| record.capacity() <= SPARE_BYTES);
}

/// Shows on the scoreboard that the application is called once more for a request.
pub(super) fn resume(context: &WorkerContext, record: &Record, timing: &Timing) {
    let (now, monotonic) = (context.clock.now(), context.clock.monotonic());
    let age = now.saturating_duration_since(timing.called);
    let since = monotonic.saturating_sub(age);
    admission::show(context, monotonic, since, (record.method(), record.path()));
}

/// The application has returned from a call for a request with this route, which began when the clock was read last.
/// Returns how long it took.
pub(super) fn end_call(context: &mut WorkerContext, route: Option<RouteId>) -> Duration {
    let began = context.clock.monotonic();
    context.clock.read();
    let ended = context.clock.monotonic();
    context.entry.end_call(ended);
    stack_sampler::end_call(context.entry, || {
        route.map(|route| context.routes.name(route).as_bytes())
    });
    ended.saturating_sub(began)
}

/// Writes the line of a request that is finished, or was refused, to the access log.
pub(super) fn log(
    context: &mut WorkerContext,
    finished: &FinishedRequest<'_>,
    route: Option<RouteId>,
) {
    if let Some(access) = &mut context.access {
        let route = route.map(|route| context.routes.name(route).as_bytes());
        access.record(&finished.on_route(route), context.clock.wall());
    }
}

/// Counts a response that has ended.
fn count(
    context: &mut WorkerContext,
    status: Option<Status>,
    phases: &Phases,
    &Timing { route, trace, .. }: &Timing,
) {
    let class = StatusClass::of(status.map(|status| status.0));
    let entry = context.entry;
    entry.counters.inc(class.counter());
    entry.requests.duration(class).record(phases.duration);
    entry.requests.queue.record(phases.queue);
    entry.requests.send.record(phases.send);
    if let Some(route) = route {
        context.routes.record(route, class, phases.duration);
    }
    if let Some(trace) = trace {
        note_exemplar(context, trace, class, phases.duration);
    }
}

/// Lets a request whose trace is sampled stand for those that take as long.
#[cold]
fn note_exemplar(
    context: &WorkerContext,
    trace: NonZeroU128,
    class: StatusClass,
    duration: Duration,
) {
    let time = context.clock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    context.entry.exemplars.record(class, Exemplar { trace, duration, time });
}
