//! Sends every file of `tests/wire` to a running worker: whole, byte by byte, and cut in two at every place.
//!
//! The tests compare what the application receives, what the client receives and what the worker counts with
//! the expectation beside each file.

use std::thread;

use arctos_worker::shared::scoreboard::Counter;
use arctos_worker::worker::WorkerExit;

use crate::support::conversation::{Conversation, Pace};
use crate::support::corpus::{Case, End, Peer, load};
use crate::support::echo::Echo;
use crate::support::server::Server;

/// Files of fewer bytes are sent in lockstep: the worker has read each byte before the next is sent.
const LOCKSTEP_LIMIT_BYTES: usize = 300;

/// Number of workers that share the longest test, which takes half a million connections.
const TRIAL_COUNT: usize = 4;

/// A worker, and the counts that it should have reached.
struct Trial {
    server: Server,
    accepted: u64,
    answered: u64,
    refused: u64,
    closed: u64,
    differences: Vec<String>,
}

impl Trial {
    /// Starts a worker to which clients from 127.0.0.1 are this peer.
    fn start(peer: Peer) -> Self {
        let server = Server::start(peer.settings(), Echo::default);
        Self { server, accepted: 0, answered: 0, refused: 0, closed: 0, differences: Vec::new() }
    }

    fn send(&mut self, case: &Case, pieces: &[&[u8]], pace: Pace) {
        self.accepted += 1;
        self.answered += case.requests.len() as u64;
        self.refused += u64::from(matches!(case.end, End::Refused(_)));
        self.closed += u64::from(case.end == End::Closed);
        if let Err(difference) = Conversation::open(&self.server, case).run(pieces, pace) {
            let first = pieces.first().map_or(0, |piece| piece.len());
            let count = pieces.len();
            let name = &case.name;
            self.differences
                .push(format!("{name} ({count} pieces, the first of {first} bytes): {difference}"));
        }
    }

    /// Stops the worker, which must have nothing left to do, and checks the invariants of its counters.
    fn finish(self) {
        let differences = &self.differences[..self.differences.len().min(40)];
        assert!(
            differences.is_empty(),
            "{} differences:\n{}",
            self.differences.len(),
            differences.join("\n")
        );
        let counters = &self.server.entry().counters;
        assert_eq!(self.server.stop(), WorkerExit::Done);
        let count = |counter| counters.get(counter);
        let [accepted, read, done, refused] = [
            Counter::ConnAcceptSuccess,
            Counter::ReqSuccessRead,
            Counter::ReqDone,
            Counter::ReqErrorParse,
        ]
        .map(count);
        let [kept, closed, sent, cut] = [
            Counter::RespDoneKeepalive,
            Counter::RespConnClose,
            Counter::RespDone,
            Counter::RespAborted,
        ]
        .map(count);
        let [gone, failed, aborted] =
            [Counter::ReqErrorClientDisconnected, Counter::ReqErrorRead, Counter::ReqAborted]
                .map(count);
        assert_eq!(accepted, self.accepted, "conn.accept.success");
        assert_eq!(read, self.answered, "req.success.read");
        assert_eq!(refused, self.refused, "req.error.parse");
        assert_eq!(accepted, closed + cut + aborted, "AS = SC + SX + RX");
        assert_eq!(read + refused, done, "RR + EP = RD");
        assert_eq!(gone + failed, aborted, "CD + ER = RX");
        assert_eq!(sent, kept + closed, "SD = SK + SC");
        assert_eq!(done, sent + cut, "RD = SD + SX");
        assert_eq!(failed, self.closed, "ER");
        assert_eq!([cut, count(Counter::ReqErrorInternal)], [0; 2], "SX, EI");
        assert_eq!(count(Counter::ConnAcceptError), 0, "conn.accept.error");
        assert_eq!(count(Counter::RespStatus2xx), read, "resp.status.2xx");
    }
}

#[test]
fn each_file_sent_whole_is_answered_as_expected() {
    for peer in Peer::ALL {
        let mut trial = Trial::start(peer);
        for case in load().iter().filter(|case| case.peer == peer) {
            trial.send(case, &[&case.bytes], Pace::AtOnce);
        }
        trial.finish();
    }
}

#[test]
fn each_file_sent_byte_by_byte_is_answered_as_expected() {
    for peer in Peer::ALL {
        let mut trial = Trial::start(peer);
        for case in load().iter().filter(|case| case.peer == peer) {
            let pace =
                if case.bytes.len() < LOCKSTEP_LIMIT_BYTES { Pace::Lockstep } else { Pace::AtOnce };
            trial.send(case, &case.bytes.chunks(1).collect::<Vec<_>>(), pace);
        }
        trial.finish();
    }
}

#[test]
fn each_file_sent_in_two_pieces_is_answered_as_expected() {
    let cases = &load();
    thread::scope(|scope| {
        for part in 0..TRIAL_COUNT {
            scope.spawn(move || {
                for peer in Peer::ALL {
                    let mut trial = Trial::start(peer);
                    let sent = cases.iter().filter(|case| case.peer == peer);
                    for case in sent.skip(part).step_by(TRIAL_COUNT) {
                        for at in 1..case.bytes.len() {
                            let (first, second) = case.bytes.split_at(at);
                            trial.send(case, &[first, second], Pace::Lockstep);
                        }
                    }
                    trial.finish();
                }
            });
        }
    });
}
