//! The smallest application, which answers `ok`, and a client that waits for that answer.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use arctos_worker::application::{AppBody, AppError, Application, Content, Outlet, Reply, Request};
use arctos_worker::http::ResponseHead;

pub(crate) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// Answers every request with `ok`.
#[derive(Default)]
pub(crate) struct OkApplication {
    delay: Duration,
    head: ResponseHead,
}

impl OkApplication {
    /// An application whose every call takes `delay`.
    pub(crate) fn with_delay(delay: Duration) -> Self {
        Self { delay, head: ResponseHead::default() }
    }
}

/// The iterator of an application that never answers with one.
pub(crate) struct NoItems;

impl AppBody for NoItems {
    type Chunk = Vec<u8>;

    fn pull(&mut self, _outlet: &mut dyn Outlet) -> Result<Option<Vec<u8>>, AppError> {
        Ok(None)
    }

    fn close(self) {}
}

impl Application for OkApplication {
    type Body = NoItems;

    fn call(
        &mut self,
        _request: Request<'_>,
        _outlet: &mut dyn Outlet,
    ) -> Result<Reply<'_, NoItems>, AppError> {
        thread::sleep(self.delay);
        self.head.start(b"200 OK").map_err(|_| AppError::Invalid)?;
        Ok(Reply { head: &self.head, content: Content::Whole(b"ok".to_vec()) })
    }

    fn unlocked<T: Send>(&self, wait: impl FnOnce() -> T + Send) -> T {
        wait()
    }
}

/// Sends `request` and waits for its answer; false if the connection ends first.
pub(crate) fn is_answered(client: &mut TcpStream, request: &[u8]) -> bool {
    client.write_all(request).expect("the request is sent");
    has_answer(client)
}

/// Waits for an answer, after which nothing else arrives; false if the connection ends first.
pub(crate) fn has_answer(client: &mut TcpStream) -> bool {
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"\r\n\r\nok") {
        match client.read(&mut piece) {
            Ok(0) => return false,
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}
