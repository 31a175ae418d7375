//! A client and a server that talk, with somebody between them who may change what the client sends.

use std::io::{Read, Write};
use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, SupportedProtocolVersion};

use super::super::pieces::Numbers;
use super::ends::{End, Server, client, client_config, deliver, pending};
use super::raw;

/// The key updates that one end may send without data between them.
const MAX_KEY_UPDATES: usize = 20;

/// Limits what a short script can ask for.
const MAX_SENT_BYTES: usize = 256 * 1024;
/// The shortest records that rustls makes.
const SHORT_RECORD_BYTES: usize = 32;

/// One act of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    ClientSends(usize),
    ServerSends(usize),
    ClientUpdatesKeys,
    ClientEnds,
    ServerEnds,
    /// Changes a byte of what the client sends next.
    Changes {
        at: usize,
        by: u8,
    },
}

/// Reads the bytes as a script: whether the session is resumed, whether the client sends short records, and acts.
///
/// Each end reads what the other one has sent, and nothing else; all of it, unless something was changed on the way.
/// That does not depend on cuts.
pub(crate) fn dialog(script: &[u8], version: &'static SupportedProtocolVersion) {
    let Some((first, acts)) = script.split_first() else { return };
    let acts = acts_of(acts);
    let is_changed = acts.iter().any(|act| matches!(act, Act::Changes { by: 1.., .. }));
    for is_cut in [false, true] {
        let max_record_bytes = (first & 2 != 0).then(|| SHORT_RECORD_BYTES + usize::from(*first));
        let config = client_config(version, max_record_bytes);
        let mut talk = Talk::new(&config, first & 1 != 0, script, is_cut);
        talk.run(&acts, is_changed);
        talk.check(is_changed);
    }
}

fn acts_of(mut bytes: &[u8]) -> Vec<Act> {
    let (mut acts, mut updates, mut sent) = (Vec::new(), 0, 0);
    // Each act is an exchange of its own.
    while let ([kind, value, rest @ ..], 0..100) = (bytes, acts.len()) {
        bytes = rest;
        let length = usize::from(*value) * 100 + 1;
        let act = match kind % 6 {
            0 => Act::ClientSends(length),
            1 => Act::ServerSends(length),
            2 => Act::ClientUpdatesKeys,
            3 => Act::ClientEnds,
            4 => Act::ServerEnds,
            _ => {
                let [high, by, rest @ ..] = bytes else { break };
                bytes = rest;
                Act::Changes { at: usize::from(u16::from_be_bytes([*high, *value])), by: *by }
            }
        };
        match act {
            Act::ClientSends(length) => (updates, sent) = (0, sent + length),
            Act::ServerSends(length) => sent += length,
            Act::ClientUpdatesKeys => updates += 1,
            Act::ClientEnds | Act::ServerEnds | Act::Changes { .. } => {}
        }
        if sent > MAX_SENT_BYTES {
            break;
        }
        if updates <= MAX_KEY_UPDATES {
            acts.push(act);
        }
        if act == Act::ServerEnds {
            break; // It reads nothing any more.
        }
    }
    acts
}

struct Talk {
    client: ClientConnection,
    server: Server,
    /// Changes of what the client sends next.
    changes: Vec<(usize, u8)>,
    cuts: Option<Numbers>,
    sent_by_client: Vec<u8>,
    sent_by_server: Vec<u8>,
    received_by_client: Vec<u8>,
    client_has_ended: bool,
    server_has_ended: bool,
}

impl Talk {
    fn new(config: &Arc<ClientConfig>, is_resumed: bool, script: &[u8], is_cut: bool) -> Self {
        let mut talk = Self {
            client: client(config),
            server: Server::new(script.len()),
            changes: Vec::new(),
            cuts: is_cut.then(|| Numbers::of(script, 2)),
            sent_by_client: Vec::new(),
            sent_by_server: Vec::new(),
            received_by_client: Vec::new(),
            client_has_ended: false,
            server_has_ended: false,
        };
        if is_resumed {
            // The client gets a ticket.
            talk.exchange();
            talk.client = client(config);
            talk.server = Server::new(script.len());
        }
        talk
    }

    fn run(&mut self, acts: &[Act], is_changed: bool) {
        for act in acts {
            match *act {
                Act::Changes { at, by } => {
                    self.changes.push((at, by));
                    continue;
                }
                Act::ClientSends(length) if !self.client_has_ended => {
                    let data = vec![length as u8; length];
                    let is_sent = self.client.writer().write_all(&data).is_ok();
                    assert!(is_sent || is_changed);
                    if is_sent {
                        self.sent_by_client.extend(data);
                    }
                }
                Act::ServerSends(length) => {
                    // The first exchange is the handshake.
                    self.exchange();
                    let data = vec![length as u8; length];
                    let is_sent = self.server.send(&data);
                    assert!(is_sent || is_changed);
                    if is_sent {
                        self.sent_by_server.extend(data);
                    }
                }
                Act::ClientUpdatesKeys if !self.client_has_ended => {
                    // TLS 1.2 has no such message, and there is none in a handshake.
                    let _ = self.client.refresh_traffic_keys();
                }
                Act::ClientEnds => {
                    self.exchange();
                    self.client.send_close_notify();
                    self.client_has_ended = true;
                }
                Act::ServerEnds => {
                    self.exchange();
                    self.server.close();
                    self.server_has_ended = true;
                    let answer = std::mem::take(&mut self.server.outgoing);
                    self.give_client(&answer);
                    return;
                }
                Act::ClientSends(_) | Act::ClientUpdatesKeys => {}
            }
            self.exchange();
        }
        self.exchange();
    }

    /// Passes on what both ends have to send, until there is nothing more.
    fn exchange(&mut self) {
        loop {
            let mut bytes = pending(&mut self.client);
            let is_hello = self.server.is_handshaking() && bytes.first() == Some(&22);
            let mut is_changed = false;
            for (at, by) in std::mem::take(&mut self.changes) {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= by;
                    is_changed = true;
                }
            }
            if is_hello && is_changed {
                raw(&bytes);
            }
            for piece in split(&bytes, self.cuts.as_mut()) {
                self.server.receive(piece);
            }
            let answer = std::mem::take(&mut self.server.outgoing);
            self.give_client(&answer);
            if bytes.is_empty() && answer.is_empty() {
                return;
            }
        }
    }

    fn give_client(&mut self, records: &[u8]) {
        // If it refuses something, its alert is what it sends next.
        for piece in split(records, self.cuts.as_mut()) {
            deliver(&mut self.client, piece);
            let mut room = [0; 4096];
            while let Ok(count @ 1..) = self.client.reader().read(&mut room) {
                self.received_by_client.extend_from_slice(&room[..count]);
            }
        }
    }

    fn check(mut self, is_changed: bool) {
        let client_has_ended = self.client_has_ended;
        if is_changed {
            assert!(self.sent_by_client.starts_with(&self.server.plaintext));
            assert!(self.sent_by_server.starts_with(&self.received_by_client));
            return;
        }
        assert!(self.sent_by_client == self.server.plaintext, "what the client sent");
        assert!(self.sent_by_server == self.received_by_client, "what the server sent");
        assert_eq!(self.server.end, if client_has_ended { End::Ended } else { End::Open });
        let state = self.client.process_new_packets().expect("an unbroken session");
        assert_eq!(state.peer_has_closed(), self.server_has_ended);
    }
}

/// Cuts the bytes at a few places.
fn split<'a>(bytes: &'a [u8], numbers: Option<&mut Numbers>) -> Vec<&'a [u8]> {
    let Some(numbers) = numbers else { return vec![bytes] };
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        let most = if numbers.below(2) == 0 { 30 } else { rest.len() };
        let (piece, behind) = rest.split_at(1 + numbers.below(most.min(rest.len())));
        pieces.push(piece);
        rest = behind;
    }
    pieces
}
