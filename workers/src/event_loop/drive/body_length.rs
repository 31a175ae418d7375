//! Bodies that do not have the length that the application promised. The log names the request.

use crate::connection::{Connection, ItemFate};
use crate::shared::log::{Level, Log, Value};

/// A method and a path.
pub(super) type RequestLine<'a> = (&'a [u8], &'a [u8]);

/// Ends the response if an item was not wanted, because then no further one is. Logs bytes that were dropped, or that
/// nobody is left to send.
#[inline]
pub(super) fn note_fate<C: AsRef<[u8]>>(
    conn: &mut Connection<C>,
    fate: ItemFate,
    log: &Log,
    request: RequestLine<'_>,
) {
    match fate {
        ItemFate::Queued => note_missing(conn, log, request),
        ItemFate::Unwanted => conn.end_items(),
        ItemFate::Overlong => {
            note_surplus(log, request);
            conn.end_items();
        }
    }
}

/// Logs that the application gave more than its Content-Length.
#[cold]
pub(super) fn note_surplus(log: &Log, request: RequestLine<'_>) {
    log.line(Level::Warning, "response.longer_than_content_length", &named(request));
}

/// Logs that the application gave less than its Content-Length, if its body has ended that way. The connection is
/// going to be closed abruptly.
#[inline]
pub(super) fn note_missing<C: AsRef<[u8]>>(
    conn: &Connection<C>,
    log: &Log,
    request: RequestLine<'_>,
) {
    let missing_bytes = conn.missing_bytes();
    if missing_bytes > 0 {
        log_missing(log, request, missing_bytes);
    }
}

#[cold]
fn log_missing(log: &Log, request: RequestLine<'_>, missing_bytes: u64) {
    let [method, path] = named(request);
    let missing = i64::try_from(missing_bytes).unwrap_or(i64::MAX);
    let pairs = [method, path, ("missing_bytes", Value::Number(missing))];
    log.line(Level::Warning, "response.shorter_than_content_length", &pairs);
}

/// Logs that a file became shorter while it was sent. The connection is going to be closed abruptly.
#[cold]
pub(super) fn note_truncated(log: &Log, request: RequestLine<'_>) {
    log.line(Level::Warning, "response.file_truncated", &named(request));
}

fn named<'a>((method, path): RequestLine<'a>) -> [(&'static str, Value<'a>); 2] {
    [("method", Value::Bytes(method)), ("path", Value::Bytes(path))]
}
