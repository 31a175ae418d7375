//! The records of a client of TLS. The first byte says what the others are:
//!
//! | first byte | the others |
//! |---|---|
//! | 0, 1 | records that the client encrypts after a handshake, with TLS 1.3 and 1.2: see [`sealed`] |
//! | 2, 3 | what both ends do, and what somebody between them changes: see [`dialog`] |
//! | other, such as the type of a record | with the first: what a client sends from the start, in plaintext |
//!
//! Both ends draw random numbers, so two sessions are compared by what does not depend on them: the plaintext, how a
//! session ends, and the types of the records that the server sends.

mod dialog;
mod ends;
mod sealed;

use rustls::version::{TLS12, TLS13};

use super::pieces::{cuts, pieces};
use ends::Server;

/// Sends the bytes to a session, however they are cut.
///
/// Cuts change nothing. Each byte of plaintext is one that the client has sent. What breaks the protocol ends the
/// session with an alert, and the session holds no more than it may.
pub fn tls(bytes: &[u8]) {
    match bytes.split_first() {
        Some((0, records)) => sealed::sealed(records, &TLS13),
        Some((1, records)) => sealed::sealed(records, &TLS12),
        Some((2, script)) => dialog::dialog(script, &TLS13),
        Some((3, script)) => dialog::dialog(script, &TLS12),
        Some(_) | None => raw(bytes),
    }
}

/// Gives the bytes to new sessions as they are. No handshake can be completed without knowing the session's keys.
fn raw(bytes: &[u8]) {
    let run = |ends: &[usize]| {
        let mut server = Server::new(bytes.len());
        for piece in pieces(bytes, ends) {
            server.receive(piece);
        }
        assert!(server.is_handshaking());
        server.outcome()
    };
    let whole = run(&[bytes.len()]);
    assert_eq!(whole.plaintext, b"");
    for ends in cuts(bytes) {
        assert_eq!(run(&ends), whole, "cut at {ends:?}");
    }
}
