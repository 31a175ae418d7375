//! Sends the rest of a response that is a file, whoever has begun it.

use super::body_length::note_truncated;
use super::{FILE_BYTES, WorkerContext};
use crate::application::AppBody;
use crate::event_loop::client::Client;
use crate::event_loop::file_transfer::Presence;
use crate::http::Piece;
use crate::shared::fd::Io;
use crate::shared::scoreboard::Counter;

/// Queues the next part of a response with several parts of a file. Ends any other response.
pub(super) fn next_part<B: AppBody>(client: &mut Client<B>) {
    let piece = client.transfer().and_then(|transfer| {
        transfer.start_part();
        transfer.further.as_mut()?.next_piece()
    });
    let conn = client.conn_mut();
    match piece {
        Some(Piece::Part { text, range }) => {
            conn.push_bytes(&text);
            conn.push_file_part(range.offset, range.length);
        }
        Some(Piece::Closing(text)) => {
            conn.push_bytes(&text);
            conn.end_items();
        }
        None => conn.end_items(),
    }
}

/// What became of the next piece of a file.
pub(super) enum Sent {
    /// This many bytes were sent.
    Bytes(usize),
    /// The socket takes nothing more.
    Blocked,
    /// The disk has to be read first.
    AwaitsDisk,
    /// The response ended abruptly.
    Aborted,
}

/// Sends the next piece of a file.
pub(super) fn send_file<B: AppBody>(
    client: &mut Client<B>,
    context: &WorkerContext,
    offset: u64,
    length: u64,
) -> Sent {
    let counters = &context.entry.counters;
    let length = length.min(FILE_BYTES);
    let (transfer, conn, transport) = match client.transfer_and_conn() {
        Some(parts) => parts,
        None => {
            client.conn_mut().fail(&context.rules());
            return Sent::Aborted;
        }
    };
    let length = match transfer.look(offset, length, context.clock.now()) {
        Presence::Awaited => return Sent::AwaitsDisk,
        Presence::Here { length } => length,
    };
    match transport.send_file(transfer.file(), offset, length) {
        Io::Bytes(count) => {
            counters.add(Counter::BytesOut, count as u64);
            if !transport.is_encrypted() {
                counters.add(Counter::RespSendfileBytes, count as u64);
            }
            conn.wrote_file(count as u64, counters);
            client.progressed();
            Sent::Bytes(count)
        }
        Io::Blocked => Sent::Blocked,
        // The file was truncated meanwhile, so the response cannot be completed.
        Io::Ended => {
            conn.fail(&context.rules());
            if let Some(record) = client.record() {
                note_truncated(&context.log, (record.method(), record.path()));
            }
            Sent::Aborted
        }
        Io::Failed => {
            conn.failed(counters);
            Sent::Aborted
        }
    }
}
