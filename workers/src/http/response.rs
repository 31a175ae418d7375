//! The head of a response, checked as it is built, and its framing decided as it is sent.

use crate::http::date::HttpDate;
use crate::http::head::Version;
use crate::http::status::Status;

/// Status line and fields as the application gave them, checked and encoded; framing, `Date` and
/// `Server` are added when it is sent. Reusable: [`ResponseHead::start`] clears it and keeps its memory.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    _private: (),
}

/// Why a response head of the application's is not sent. One variant a cause; the text is what the
/// application's developer reads.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Placeholder variant.
    #[error("bad response")]
    Bad,
}

/// How the end of a response's body is told (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyFraming {
    /// HEAD, 204, 304: whatever the application yields is thrown away.
    NoBody,
    /// Content-Length: that many bytes are still to come.
    Length(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// The end of the connection.
    UntilClose,
}

/// Whether the connection lives on after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// Kept for further requests.
    KeepAlive,
    /// Closed after the response.
    Close,
}

impl ResponseHead {
    /// Begins anew with a status such as `200 OK`, latin-1 bytes.
    pub fn start(&mut self, _status: &[u8]) -> Result<(), ResponseError> {
        todo!()
    }
    /// Adds one field; name and value in latin-1 bytes.
    pub fn add(&mut self, _name: &[u8], _value: &[u8]) -> Result<(), ResponseError> {
        todo!()
    }
    /// The status; `Status(0)` before [`ResponseHead::start`].
    pub fn status(&self) -> Status {
        todo!()
    }
    /// The application's Content-Length.
    pub fn content_length(&self) -> Option<u64> {
        todo!()
    }

    /// Decides the framing, and encodes the whole head, its empty line included, onto `out`.
    ///
    /// `length` is the length of the body where it is known without a Content-Length of the
    /// application's. `persistence` is what the request, the configuration and the drain allow; the
    /// one returned is what the response says.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, one moment: everything that decides a head"
    )]
    pub fn send(
        &self,
        _out: &mut Vec<u8>,
        _request_is_head: bool,
        _version: Version,
        _length: Option<u64>,
        _persistence: Persistence,
        _date: &HttpDate,
        _server: bool,
    ) -> (ReplyFraming, Persistence) {
        todo!()
    }
}

/// Encodes the whole answer to a refused request: status, Date, Content-Length, `Connection: close`,
/// a one-line text body naming the status (not for HEAD).
pub fn refusal(
    _out: &mut Vec<u8>,
    _status: Status,
    _request_is_head: bool,
    _date: &HttpDate,
    _server: bool,
) {
    todo!()
}

/// Encodes the `chunk-size CRLF` that opens a chunk of `length` bytes (never 0).
pub fn chunk_opening(_out: &mut Vec<u8>, _length: usize) {
    todo!()
}

/// What closes each chunk.
pub const CHUNK_CLOSING: &[u8] = b"\r\n";
/// The last chunk and the empty trailer section.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// The interim response.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
