//! Logs refused requests. The connection counts and answers them.

use std::io;

use nix::libc;

use super::{WorkerContext, finish};
use crate::application::AppBody;
use crate::connection::{ClientName, RefusalReason, Refused};
use crate::event_loop::client::Client;
use crate::event_loop::finished_request::{FinishedRequest, LoggedRequestLine};
use crate::shared::log::{Level, Value};

/// Writes a line to the access log, and one to the log unless there were too many.
pub(super) fn note(context: &mut WorkerContext, client: ClientName<'_>, refused: &Refused) {
    let finished = FinishedRequest::refused(client, &refused.request, refused.reason);
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
    pairs.extend(not_logged(suppressed));
    context.log.line(Level::Info, "request.refused", &pairs);
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
