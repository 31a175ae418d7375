//! Refuses requests, and logs those that are refused. The connection counts and answers them.

use std::io;

use nix::libc;

use super::request_id::{self, RequestId};
use super::{WorkerContext, finish};
use crate::application::{AppBody, Application, Request};
use crate::connection::{ClientName, RefusalReason, Refused};
use crate::event_loop::client::Client;
use crate::event_loop::finished_request::{FinishedRequest, LoggedRequestLine, RequestLabels};
use crate::shared::log::{Level, Value};

/// Writes a line to the access log, and one to the log unless there were too many.
pub(super) fn note(context: &mut WorkerContext, client: ClientName<'_>, refused: &Refused) {
    let finished = FinishedRequest::refused(client, refused);
    finish::log(context, &finished, None);
    let line = finished.line;
    match refused.reason {
        // An error line has said more than this line would.
        RefusalReason::DiskFull | RefusalReason::NoDescriptor | RefusalReason::NotStored => return,
        RefusalReason::Head(_)
        | RefusalReason::Body(_)
        | RefusalReason::PlainHttp
        | RefusalReason::HeadLate
        | RefusalReason::BodyLate
        | RefusalReason::BodySlow
        | RefusalReason::QueuedTooLong
        | RefusalReason::Quarantined { .. } => {}
    }
    if !context.log.is_enabled(Level::Info) {
        return;
    }
    let Some(suppressed) = context.limited.refusals.pass(context.clock.now()) else { return };
    let address = match client {
        ClientName::Inet(address) => address.to_string(),
        ClientName::Unix(path) => path.to_owned(),
    };
    let mut pairs = vec![
        ("status", Value::Number(refused.reason.status().0.into())),
        ("reason", Value::Display(&refused.reason)),
    ];
    // The peer of a Unix socket usually has no name.
    if !address.is_empty() {
        pairs.push(("remote_addr", Value::Text(&address)));
    }
    if let Some(LoggedRequestLine { method, path, .. }) = line {
        pairs.push(("method", Value::Bytes(method)));
        pairs.extend(path.map(|path| ("path", Value::Bytes(path))));
    }
    let RequestLabels { request_id, trace_id, .. } = finished.labels;
    pairs.extend(request_id.map(|id| ("request_id", Value::Bytes(id))));
    pairs.extend(trace_id.map(|id| ("trace_id", Value::Bytes(id))));
    pairs.extend(not_logged(suppressed));
    context.log.line(Level::Info, "request.refused", &pairs);
}

/// Refuses a complete request. Its response has its identifier, as any other.
pub(super) fn refuse_complete<A: Application>(
    app: &mut A,
    context: &WorkerContext,
    client: &mut Client<A::Body>,
    request: &Request<'_>,
    reason: RefusalReason,
) {
    let names_requests = finish::names_requests(context);
    let request_id = names_requests.then(|| app.request_id(request).map(Into::into)).flatten();
    let part = request.head.to_partial(request.head_bytes);
    let refused = Refused { reason, request: part, request_id };
    let id = refused.request_id.as_deref().and_then(RequestId::new);
    let rules = request_id::rules(context, request.conn, &id);
    client.conn_mut().refuse_complete(refused, &rules);
}

/// How many lines were suppressed before this one, if there were any.
fn not_logged(suppressed: u64) -> Option<(&'static str, Value<'static>)> {
    let count = Value::Number(i64::try_from(suppressed).unwrap_or(i64::MAX));
    (suppressed > 0).then_some(("not_logged", count))
}

/// Logs that a body could not be stored, unless there were too many. Only this request is refused.
pub(super) fn not_stored<B: AppBody>(
    client: &mut Client<B>,
    context: &mut WorkerContext,
    error: &io::Error,
) -> RefusalReason {
    if let Some(suppressed) = context.limited.not_stored.pass(context.clock.now()) {
        let dir = context.settings.body_temp_dir.display();
        let mut pairs = vec![("dir", Value::Display(&dir)), ("error", Value::Display(error))];
        pairs.extend(not_logged(suppressed));
        context.log.line(Level::Error, "request.body_not_stored", &pairs);
    }
    client.take_spool();
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => RefusalReason::DiskFull,
        Some(libc::EMFILE | libc::ENFILE) => RefusalReason::NoDescriptor,
        // Also write_all_at(3) without progress, which has no number.
        Some(_) | None => RefusalReason::NotStored,
    }
}
