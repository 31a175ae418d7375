//! The interface between the event loop and what answers requests: the trait [`Application`] and its values.
//!
//! The WSGI bridge is one implementation; tests have others in plain Rust. Nothing here names Python, a socket or
//! a process.

use std::num::NonZeroU128;
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::body_memory::BodyMemory;
use crate::connection::ConnInfo;
use crate::http::{Forwarded, Head, ResponseHead};
use crate::spool::Spool;

/// Answers requests, one at a time.
pub trait Application {
    /// The rest of a reply, which produces its items one by one.
    type Body: AppBody;

    /// Answers one complete request.
    ///
    /// The implementation produces the first item of the reply before this returns, so that a failure at the first
    /// item still becomes a 500. `outlet` takes what the application sends by WSGI's `write()`. The implementation
    /// logs its failures itself: the error only says that there was one.
    fn call(
        &mut self,
        request: Request<'_>,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Self::Body>, AppError>;

    /// Memory for the body of a request that arrives in several reads. If its length `is_known`, all of it is reserved
    /// early.
    fn body_memory(_is_known: bool) -> Box<dyn BodyMemory>
    where
        Self: Sized,
    {
        Box::new(Vec::new())
    }

    /// The application's own identifier of this request, if it has one. The loop asks for it before
    /// [`Application::call`], and only if the access log writes it.
    fn request_id<'a>(&'a mut self, _request: &Request<'a>) -> Option<&'a [u8]> {
        None
    }

    /// The route that the application has named for the request of the latest call. The loop asks for it after each
    /// [`Application::call`].
    fn route(&self) -> Option<&str> {
        None
    }

    /// The trace that the request of the latest call belongs to, if it is sampled. The loop asks for it after each
    /// [`Application::call`].
    fn sampled_trace(&self) -> Option<NonZeroU128> {
        None
    }

    /// Passes the variables of the environ that the access log wants to `keep`, in the order of
    /// [`crate::settings::Wanted::variables`]: those of the latest call, each with its value in UTF-8. The loop asks for
    /// them after [`Application::call`], and only if there are any.
    fn variables(&self, _keep: &mut dyn FnMut(Option<&[u8]>)) {}

    /// Runs `wait`, which sleeps in epoll_wait(2), while the interpreter's lock is released.
    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T;

    /// Called once, when everything is ready to serve and before the worker reports that.
    ///
    /// Errors: why the application cannot serve after all, for a person.
    fn ready(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Whether a signal handler that ran inside of a call requested a shutdown, which
    /// [`Application::run_signal_handlers`] then returns. The loop asks after each connection, so this has to be
    /// cheap.
    fn has_shutdown_request(&self) -> bool {
        false
    }

    /// From now on, keeps what goes wrong in the application for a person to read, until
    /// [`Application::take_failures`].
    fn keep_failures(&mut self) {}

    /// What was kept since then, usually tracebacks; empty if nothing was.
    fn take_failures(&mut self) -> String {
        String::new()
    }

    /// Lets the interpreter run its deferred signal handlers. The loop calls this at most once per turn, after a
    /// signal woke the process.
    fn run_signal_handlers(&mut self) -> ShutdownRequest {
        ShutdownRequest::None
    }
}

/// Whether the interpreter's signal handlers requested the loop to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownRequest {
    /// They did not.
    None,
    /// They did: replies under way are finished, and no further request is begun.
    Exit,
}

/// One complete request: its head, its body and its connection.
pub struct Request<'a> {
    /// The bytes of the head.
    pub head_bytes: &'a [u8],
    /// The parsed head: offsets into `head_bytes`.
    pub head: &'a Head,
    /// The decoded body.
    pub body: RequestBody<'a>,
    /// The connection.
    pub conn: &'a ConnInfo,
    /// What trusted proxies say about the request.
    pub forwarded: Option<&'a Forwarded>,
    /// The number of this request in this worker; unique together with the worker's identity.
    pub sequence: u64,
    /// How long the request waited in the kernel and in the loop before this call.
    pub queue_wait: Duration,
}

/// The decoded, complete body of a request.
pub enum RequestBody<'a> {
    /// There is no body, or an empty one.
    Empty,
    /// The body arrived together with the head, and still lies in the loop's buffer.
    Slice(&'a [u8]),
    /// The body arrived in several reads, and is rewound to its first byte.
    Spooled(Spool),
}

/// The reply to one request.
pub struct Reply<'a, B: AppBody> {
    /// Status and header fields as the application gave them, already checked.
    pub head: &'a ResponseHead,
    /// The body.
    pub content: Content<B>,
}

/// The body of a reply.
pub enum Content<B: AppBody> {
    /// No bytes, and nothing left to produce.
    Empty,
    /// The whole body, and nothing left to produce or to close.
    Whole(B::Chunk),
    /// Items that the application produces one by one.
    Stream(Stream<B>),
    /// A file for sendfile(2).
    File(FileSpan<B>),
}

/// A body that the application produces item by item.
pub struct Stream<B: AppBody> {
    /// The first non-empty item, if there is one yet.
    pub first: Option<B::Chunk>,
    /// The rest, which is produced only once the kernel has taken the first item.
    pub rest: B,
    /// The length of the whole body in bytes, if the iterable itself says so (one item).
    pub length: Option<u64>,
}

/// A body that is a regular file or a part of one.
pub struct FileSpan<B: AppBody> {
    /// The open file.
    pub file: OwnedFd,
    /// The first byte to send.
    pub offset: u64,
    /// The number of bytes to send.
    pub length: u64,
    /// The owner of the file on the application's side. It is closed, but never produces items.
    pub owner: B,
}

/// The items of a reply after the first.
pub trait AppBody {
    /// One item. The worker holds it until the kernel has taken it.
    type Chunk: AsRef<[u8]>;

    /// The next non-empty item; `None` at the end. Never called again after `None` or an error.
    fn pull(&mut self, outlet: &mut dyn Outlet) -> Result<Option<Self::Chunk>, AppError>;

    /// Ends the reply. The loop calls this exactly once, whether the reply was sent completely or not. The
    /// implementation logs its failures itself.
    fn close(self);
}

/// Takes the bytes of WSGI's `write()` while the application runs.
pub trait Outlet {
    /// Sends `data`, after `head` if that was not sent yet: as much as the socket takes at once, and the rest
    /// before anything that follows.
    fn write(&mut self, head: &ResponseHead, data: &[u8]) -> Result<(), ClientGone>;
}

/// The peer has closed or reset the connection, or the reply has ended already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct ClientGone;

/// Why the reply is missing or incomplete. The application's side has logged it together with the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
    /// The application or its iterator raised an exception.
    #[error("the application raised")]
    Raised,
    /// The application raised after it was interrupted, because it exceeded its time limit.
    #[error("the application exceeded its time limit")]
    TimedOut,
    /// The application returned, or ended its items, without calling `start_response`.
    #[error("the application never called start_response")]
    NotStarted,
    /// The application gave something that PEP 3333 does not allow.
    #[error("the application broke PEP 3333")]
    Invalid,
    /// The client left while the application wrote.
    #[error("the client is gone")]
    ClientGone,
    /// The request body could not be read back from its temporary file.
    #[error("the request body is unreadable")]
    BodyLost,
}
