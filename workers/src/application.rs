//! The seam between the event loop and what answers requests: the trait [`Application`] and the
//! values that pass through it.
//!
//! The WSGI bridge is one implementation; tests have others, in plain Rust. Nothing here names
//! Python, a socket or a process.

use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::connection::ConnInfo;
use crate::http::{Head, ResponseHead};
use crate::spool::Spool;

/// What answers requests, one at a time.
pub trait Application {
    /// The rest of a reply, asked for its items one by one.
    type Body: AppBody;

    /// Answers one whole request.
    ///
    /// The first item of the reply has been asked for when this returns, so that an application
    /// which fails at once still gets its 500. `outlet` takes what the application sends through
    /// WSGI's `write()`. The implementation logs its own failures: the error only says that there
    /// was one.
    fn call(
        &mut self,
        request: Request<'_>,
        outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, Self::Body>, AppError>;

    /// The identifier that the application knows this request by, if it knows one; asked for before
    /// [`Application::call`], and only where it is logged.
    fn request_id<'a>(&'a mut self, _request: &Request<'a>) -> Option<&'a [u8]> {
        None
    }

    /// Runs `wait`, a sleep in poll(2), with the interpreter's lock given up around it.
    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T;

    /// Called once, when all is there to serve and before anybody is told so.
    ///
    /// Errors: why it cannot serve after all, for a person.
    fn ready(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// Whether a signal handler that ran inside of a call requested a shutdown, which
    /// [`Application::run_signal_handlers`] then returns. The loop asks after each connection, so this has to be
    /// cheap.
    fn has_shutdown_request(&self) -> bool {
        false
    }

    /// From here on, what goes wrong in the application is kept for a person to read, until
    /// [`Application::take_failures`].
    fn keep_failures(&mut self) {}

    /// What was kept: tracebacks as a rule; empty where nothing went wrong, or nobody told of it.
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

/// One whole request: its head, its body and whom it came from.
pub struct Request<'a> {
    /// The bytes that `head` points into.
    pub head_bytes: &'a [u8],
    /// The parsed head, in offsets into `head_bytes`.
    pub head: &'a Head,
    /// The decoded body.
    pub body: RequestBody<'a>,
    /// The connection.
    pub conn: &'a ConnInfo,
    /// Number of this request in this worker; unique together with the worker's identity.
    pub sequence: u64,
    /// How long the request waited in the kernel and the loop before this call, where known.
    pub queue_wait: Duration,
}

/// The decoded body of a request, whole.
pub enum RequestBody<'a> {
    /// No body, or one of no bytes.
    Empty,
    /// It arrived together with its head and still lies in the loop's buffer.
    Slice(&'a [u8]),
    /// It was gathered from several reads; rewound to its first byte.
    Spooled(Spool),
}

/// The answer to one request.
pub struct Reply<'a, B: AppBody> {
    /// Status and fields as the application gave them, checked.
    pub head: &'a ResponseHead,
    /// What follows the head.
    pub content: Content<B>,
}

/// What follows the head of a reply.
pub enum Content<B: AppBody> {
    /// No bytes, and nothing left to ask for.
    Empty,
    /// The whole body, and nothing left to ask for or to close.
    Whole(B::Chunk),
    /// Items that come one by one.
    Stream(Stream<B>),
    /// A file for sendfile(2).
    File(FileSpan<B>),
}

/// A body that is asked for item by item.
pub struct Stream<B: AppBody> {
    /// The first non-empty item, if there is one yet.
    pub first: Option<B::Chunk>,
    /// The rest, asked for only when the first has been handed to the kernel.
    pub rest: B,
    /// Length of the whole body in bytes where the iterable itself tells it (one item).
    pub length: Option<u64>,
}

/// A regular file, or a part of one, as a body.
pub struct FileSpan<B: AppBody> {
    /// The open file.
    pub file: OwnedFd,
    /// First byte to send.
    pub offset: u64,
    /// Bytes to send.
    pub length: u64,
    /// Owner of the file on the application's side: only closed, never asked for items.
    pub owner: B,
}

/// The items of a reply after the first.
pub trait AppBody {
    /// One item. Held until the kernel has taken it, so it should be cheap to keep.
    type Chunk: AsRef<[u8]>;

    /// The next non-empty item; `None` at the end. Never called again after `None` or an error.
    fn pull(&mut self, outlet: &mut dyn Outlet) -> Result<Option<Self::Chunk>, AppError>;

    /// Ends the reply: called exactly once, whether it was sent whole or not. Logs its own failure.
    fn close(self);
}

/// Where WSGI's `write()` puts its bytes while the application runs.
pub trait Outlet {
    /// Sends `data`, preceded by `head` if that is not out yet: at once what the socket takes, the
    /// rest before anything later.
    fn write(&mut self, head: &ResponseHead, data: &[u8]) -> Result<(), ClientGone>;
}

/// The peer has closed or reset the connection, or the reply was already ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client is gone")]
pub struct ClientGone;

/// Why there is no (more) reply. The application's side has logged it, with the request named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppError {
    /// It raised, or its iterator did.
    #[error("the application raised")]
    Raised,
    /// It returned, or ended its items, without calling start_response.
    #[error("the application never called start_response")]
    NotStarted,
    /// It gave something that PEP 3333 does not allow.
    #[error("the application broke PEP 3333")]
    Invalid,
    /// The client went away while the application wrote.
    #[error("the client is gone")]
    ClientGone,
    /// The request's body could not be handed over (temporary file unreadable).
    #[error("the request body is unreadable")]
    BodyLost,
}
