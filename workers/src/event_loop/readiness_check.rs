//! The request that a worker makes to its own application before it says that it is ready
//! (`--reload-check`).
//!
//! It goes through the parser and [`Application::call`] like any other, but through no connection: so no
//! counter, no access log and no client knows of it. How long it may take is the boot timeout's business,
//! which is the supervisor's.

use std::time::{Duration, Instant};

use crate::application::{
    AppBody, AppError, Application, ClientGone, Content, Outlet, Request, RequestBody, Stream,
};
use crate::connection::ConnInfo;
use crate::http::{Head, HeadError, HeadScan, Parsed, ResponseHead, Status};
use crate::settings::Settings;
use crate::shared::socket_name::SocketName;

/// A longer body is not asked for to its end: by then it is clear that the application answers.
const BODY_BYTES: usize = 1 << 20;
/// Statuses from here on say that the server is at fault.
const FIRST_FAILURE: Status = Status(500);

/// Why a worker is not ready after all. Displays as what comes after the request's name in a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadinessFailure {
    /// The path is not one: the request would have another shape.
    #[error("is not one request")]
    NoRequest,
    /// The parser refuses the request.
    #[error("is no request: {0}")]
    Malformed(HeadError),
    /// A status that says that the server is at fault.
    #[error("was answered {} {}", .0.0, .0.reason())]
    Answered(Status),
    /// The application gave no answer, or did not end it; its side has reported why.
    #[error("failed: {0}")]
    Failed(AppError),
}

/// Makes the request `GET path` and takes the answer to its end. `local` is the address that the
/// application should think it came to.
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
    let mut head = Head::new();
    let parsed =
        head.parse(head_bytes, &mut HeadScan::default(), &settings.limits, settings.header_map);
    match parsed {
        // A path with an empty line in it would make two requests.
        Ok(Parsed::Complete) if head.len == head_bytes.len() => {}
        Ok(Parsed::Complete | Parsed::Incomplete) => return Err(ReadinessFailure::NoRequest),
        Err(error) => return Err(ReadinessFailure::Malformed(error)),
    }
    let peer = SocketName::Unix(String::new());
    let conn = ConnInfo { peer, local, listener: 0, accepted: now, served: 0 };
    let request = Request {
        head_bytes,
        head: &head,
        body: RequestBody::Empty,
        conn: &conn,
        sequence: 0, // The first of a client has 1.
        queue_wait: Duration::ZERO,
    };
    let reply = app.call(request, &mut Nowhere).map_err(ReadinessFailure::Failed)?;
    let status = reply.head.status();
    match reply.content {
        Content::Empty | Content::Whole(_) => {}
        Content::File(span) => span.owner.close(),
        Content::Stream(stream) => take(stream).map_err(ReadinessFailure::Failed)?,
    }
    if status < FIRST_FAILURE { Ok(()) } else { Err(ReadinessFailure::Answered(status)) }
}

/// Asks for items up to the end or [`BODY_BYTES`], and closes.
fn take<B: AppBody>(stream: Stream<B>) -> Result<(), AppError> {
    let Stream { first, mut rest, .. } = stream;
    let mut taken_bytes = first.map_or(0, |first| first.as_ref().len());
    let mut outcome = Ok(());
    while taken_bytes < BODY_BYTES {
        match rest.pull(&mut Nowhere) {
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

/// Takes what the application writes, and keeps nothing.
struct Nowhere;

impl Outlet for Nowhere {
    fn write(&mut self, _head: &ResponseHead, _data: &[u8]) -> Result<(), ClientGone> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
