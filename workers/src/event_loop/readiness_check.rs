//! The readiness check: a request that a worker makes to its own application before it reports that it is ready
//! (`--reload-check`).
//!
//! The request goes through the parser and [`Application::call`] like any other, but through no connection. So it
//! appears in no counter and in no access log. The supervisor limits its time by the boot timeout.

use std::time::{Duration, Instant};

use crate::application::{
    AppBody, AppError, Application, ClientGone, Content, Outlet, Request, RequestBody, Stream,
};
use crate::connection::ConnInfo;
use crate::http::{Head, HeadError, ResponseHead, Status};
use crate::settings::Settings;
use crate::shared::socket_name::SocketName;

/// The rest of a longer body is not requested: by then it is clear that the application responds.
const BODY_BYTES: usize = 1 << 20;
/// Statuses from here on are failures of the server.
const FIRST_FAILURE: Status = Status(500);

/// Why a worker is not ready. Its text continues a sentence that begins with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadinessFailure {
    /// The path would change the shape of the request.
    #[error("is not one request")]
    NoRequest,
    /// The parser refuses the request.
    #[error("is no request: {0}")]
    Malformed(HeadError),
    /// The application answered with a status of 500 or above.
    #[error("was answered {} {}", .0.0, .0.reason())]
    Answered(Status),
    /// The application failed to answer or to complete its answer; its side has logged why.
    #[error("failed: {0}")]
    Failed(AppError),
}

/// Makes the request `GET path` and reads the response to its end. `local` is the address that the application sees
/// as the server's.
///
/// Errors: [`ReadinessFailure`].
pub fn run<A: Application>(
    app: &mut A,
    settings: &Settings,
    path: &str,
    local: SocketName,
    now: Instant,
) -> Result<(), ReadinessFailure> {
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: arctos-reload-check\r\n\
         Connection: close\r\n\r\n"
    );
    let head_bytes = text.as_bytes();
    let head = Head::of(head_bytes, &settings.limits, settings.header_map)
        .map_err(ReadinessFailure::Malformed)?
        // A path that contains an empty line would make two requests.
        .filter(|head| head.len == head_bytes.len())
        .ok_or(ReadinessFailure::NoRequest)?;
    let peer = SocketName::Unix(String::new());
    let conn = ConnInfo::new(peer, local, now);
    let request = Request {
        head_bytes,
        head: &head,
        body: RequestBody::Empty,
        conn: &conn,
        sequence: 0, // The first request of a client has 1.
        forwarded: None,
        queue_wait: Duration::ZERO,
    };
    let reply = app.call(request, &mut Discard).map_err(ReadinessFailure::Failed)?;
    let status = reply.head.status();
    match reply.content {
        Content::Empty | Content::Whole(_) => {}
        Content::File(span) => span.owner.close(),
        Content::Stream(stream) => take(stream).map_err(ReadinessFailure::Failed)?,
    }
    if status < FIRST_FAILURE { Ok(()) } else { Err(ReadinessFailure::Answered(status)) }
}

/// Requests items up to the end or [`BODY_BYTES`], and closes the reply.
fn take<B: AppBody>(stream: Stream<B>) -> Result<(), AppError> {
    let Stream { first, mut rest, .. } = stream;
    let mut taken_bytes = first.map_or(0, |first| first.as_ref().len());
    let mut outcome = Ok(());
    while taken_bytes < BODY_BYTES {
        match rest.pull(&mut Discard) {
            Ok(Some(item)) => taken_bytes += item.as_ref().len(),
            Ok(None) => break,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
    }
    rest.close();
    outcome
}

/// Discards what the application writes.
struct Discard;

impl Outlet for Discard {
    fn write(&mut self, _head: &ResponseHead, _data: &[u8]) -> Result<(), ClientGone> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
