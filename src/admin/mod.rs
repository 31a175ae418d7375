//! The admin socket: HTTP/1.1 for operators, served by the supervisor between its other duties.
//!
//! Owns its listeners and connections: a few, small, short. A question that was read whole is handed out
//! with a number, and its answer may come later. Never blocks; a peer that is slow or says nothing loses
//! its connection. What the answers are is not decided here.
//!
//! | file | owns |
//! |---|---|
//! | `acceptor` | the listeners, and who may come in |
//! | `connection` | one request and its answer, as a machine without I/O |
//! | `control` | what a question asks for, who may, and what is answered |
//! | `reload` | how a reload's end is told, and who waits for it |
//! | `status` | what the probes and `/status` say |
//! | `prometheus` | the text of `/metrics` |
//!
//! Descriptors are non-blocking and close-on-exec; a worker's child closes what it inherited of them.
//! poll(2), in the supervisor's loop, tells that something can be done, and not what: a turn tries all
//! of it, which is a few system calls for a few connections.

mod acceptor;
mod connection;
pub mod prometheus;
pub mod reload;
pub mod status;
pub mod verb;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Instant, SystemTime};

use arctos_worker::http::HttpDate;
use arctos_worker::shared::fd::{self, Io};
use nix::poll::PollFlags;
use nix::sys::socket::{Shutdown, shutdown};

use crate::listener::{InheritedSocket, InheritedSockets, ListenError};
use crate::system::address::BindAddress;
use crate::system::descriptors::OwnDescriptors;

use acceptor::{Acceptor, Arrival};
pub use acceptor::{Asker, Trust};
use connection::{Awaits, Connection, Heard};

/// Names one question until it is answered or its peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QuestionId(pub u64);

/// A request that was read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// To be given back with the answer.
    pub id: QuestionId,
    /// GET, HEAD, POST: other methods are answered here, and so is a POST that did not come by a unix
    /// socket.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// What follows the first `?`; empty without one.
    pub query: String,
    /// Who asks.
    pub trust: Trust,
    /// Which process asks, if the kernel knows.
    pub asker: Option<Asker>,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Look.
    Get,
    /// Look at the head alone.
    Head,
    /// Do.
    WorkerInit,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Three digits.
    pub status: u16,
    /// Of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

impl Answer {
    /// A few words for a person.
    pub fn plain(status: u16, words: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: words.to_owned() }
    }
}

/// Connections at once of each listener. Above that, the oldest one that is still reading is closed.
const CONNECTIONS: usize = 64;
/// Questions handed out in one turn: an answer may take 2 ms, and the supervisor has other duties.
const QUESTIONS: usize = 8;
/// What is held of all answers together that their peers have not taken; above it those who came first
/// lose theirs. The page of a thousand workers has 5 MB.
const HELD_BYTES: usize = 32 << 20;
/// Read at once: the longest head, and then a piece of a body.
const PIECE_BYTES: usize = 16 * 1024;

/// The socket and its connections.
pub struct Admin {
    acceptor: Acceptor,
    /// In the order of their coming.
    peers: Vec<Peer>,
    next_id: u64,
}

/// One connection.
struct Peer {
    id: QuestionId,
    trust: Trust,
    /// The listener that it came through.
    door: usize,
    socket: OwnedFd,
    connection: Connection,
}

impl Admin {
    /// Binds all addresses: unix sockets for the owner alone (mode 0600), TCP where it is asked for.
    ///
    /// Errors: [`ListenError`]; also for `fd://N`.
    pub fn bind(addresses: &[BindAddress]) -> Result<Self, ListenError> {
        Self::inherit(addresses, InheritedSockets::default())
    }

    /// The same with what was inherited from the server before, in an upgrade.
    pub fn inherit(
        addresses: &[BindAddress],
        inherited_sockets: InheritedSockets,
    ) -> Result<Self, ListenError> {
        let acceptor = Acceptor::inherit(addresses, inherited_sockets)?;
        Ok(Self { acceptor, peers: Vec::new(), next_id: 0 })
    }

    /// Duplicates of its listeners, for a successor.
    pub fn inherited_sockets(&self) -> io::Result<Vec<InheritedSocket>> {
        self.acceptor.inherited_sockets()
    }

    /// Answers nobody who comes from now on, and leaves them in the queue.
    pub fn close(&mut self) {
        self.acceptor.close();
    }

    /// The same for good: the listeners are a successor's. Who was let in is answered.
    pub fn give_away(&mut self) {
        self.acceptor.give_away();
    }

    /// The listeners are this server's alone from now on, and it answers.
    pub fn open(&mut self) {
        self.acceptor.open();
    }

    /// Where it can be reached, for the log; empty when it cannot.
    pub fn descriptions(&self) -> Vec<String> {
        self.acceptor.descriptions()
    }

    /// What an operator may want to know about its sockets, a sentence each, for the log.
    pub fn warnings(&self) -> &[String] {
        self.acceptor.warnings()
    }

    /// The descriptors that a child closes.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.acceptor.list_descriptors(own);
        own.extend(self.peers.iter().map(|peer| &peer.socket));
    }

    /// What [`Admin::turn`] waits for.
    pub fn awaited(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let acceptor = self.acceptor.awaited().map(|door| (door, PollFlags::POLLIN));
        let peers = self.peers.iter().filter_map(|peer| {
            let flags = match peer.connection.awaits() {
                Awaits::Bytes | Awaits::Answer => PollFlags::POLLIN,
                Awaits::Room => PollFlags::POLLOUT,
                Awaits::Nothing => return None,
            };
            Some((peer.socket.as_fd(), flags))
        });
        acceptor.chain(peers).collect()
    }

    /// When [`Admin::turn`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let peers = self.peers.iter().filter_map(|peer| peer.connection.deadline());
        peers.chain(self.acceptor.next_deadline()).min()
    }

    /// Accepts, reads, writes, gives up on who is late; what was asked, oldest connections first. Who is
    /// not heard in this turn is in the next.
    pub fn turn(&mut self, now: Instant) -> Vec<Question> {
        let mut questions = Vec::new();
        for peer in &mut self.peers {
            if questions.len() >= QUESTIONS {
                break;
            }
            questions.extend(peer.turn(now));
        }
        self.sweep();
        for arrival in self.acceptor.accept(now) {
            let peer = self.admit(arrival, now);
            // Its request is there already, as a rule.
            if questions.len() < QUESTIONS {
                questions.extend(peer.and_then(|peer| peer.turn(now)));
            }
        }
        self.sweep();
        questions
    }

    /// Whether somebody still waits for the answer to this question, as far as the last turn could tell.
    pub fn is_waiting(&self, id: QuestionId) -> bool {
        self.peers.iter().any(|peer| peer.id == id && peer.connection.awaits() == Awaits::Answer)
    }

    /// Answers a question; nothing happens when its peer has gone.
    pub fn answer(&mut self, id: QuestionId, answer: Answer) {
        let now = Instant::now();
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            peer.connection.answer(&answer, &date(), now);
            peer.send(now);
        }
        self.limit_held(id);
        self.sweep();
    }

    /// Gives up on who does not take an answer, where that is too much together; not on `newest`.
    fn limit_held(&mut self, newest: QuestionId) {
        let held = self.peers.iter().map(|peer| peer.connection.outgoing().len());
        let mut excess_bytes = held.sum::<usize>().saturating_sub(HELD_BYTES);
        for peer in self.peers.iter_mut().filter(|peer| peer.id != newest) {
            let held_bytes = peer.connection.outgoing().len();
            if excess_bytes > 0 && held_bytes > 0 {
                peer.connection.close();
                excess_bytes = excess_bytes.saturating_sub(held_bytes);
            }
        }
    }

    /// Gives a place to who has come, if need be that of who came through the same listener and has said
    /// nothing for longest: a flood from outside takes no place from the owner. Who waits for an answer,
    /// or is being sent one, keeps its place.
    fn admit(&mut self, arrival: Arrival, now: Instant) -> Option<&mut Peer> {
        let Arrival { socket, door, trust } = arrival;
        if self.peers.iter().filter(|peer| peer.door == door).count() >= CONNECTIONS {
            let gives_way =
                |peer: &Peer| peer.door == door && peer.connection.awaits() == Awaits::Bytes;
            let oldest = self.peers.iter().position(gives_way)?;
            self.peers.remove(oldest);
        }
        let id = QuestionId(self.next_id);
        self.next_id += 1;
        self.peers.push(Peer { id, trust, door, socket, connection: Connection::new(trust, now) });
        self.peers.last_mut()
    }

    fn sweep(&mut self) {
        self.peers.retain(|peer| peer.connection.awaits() != Awaits::Nothing);
    }
}

impl Peer {
    /// Does what can be done without waiting; what was asked.
    fn turn(&mut self, now: Instant) -> Option<Question> {
        self.connection.tick(now);
        match self.connection.awaits() {
            Awaits::Bytes | Awaits::Answer => self.receive(now),
            Awaits::Room => {
                self.send(now);
                None
            }
            Awaits::Nothing => None,
        }
    }

    fn receive(&mut self, now: Instant) -> Option<Question> {
        let mut buffer = [0; PIECE_BYTES];
        match fd::receive(self.socket.as_fd(), &mut buffer) {
            Io::Bytes(count) => match self.connection.receive(&buffer[..count]) {
                Heard::Question { method, path, query } => {
                    let (id, trust) = (self.id, self.trust);
                    let asker = acceptor::asker(trust, &self.socket);
                    Some(Question { id, method, path, query, trust, asker })
                }
                Heard::Refusal(answer) => {
                    self.connection.answer(&answer, &date(), now);
                    self.send(now);
                    None
                }
                Heard::Nothing => None,
            },
            Io::Blocked => None,
            Io::Ended | Io::Failed => {
                self.connection.close();
                None
            }
        }
    }

    fn send(&mut self, now: Instant) {
        while self.connection.awaits() == Awaits::Room {
            match fd::send(self.socket.as_fd(), [self.connection.outgoing(), &[], &[]]) {
                Io::Bytes(count) => {
                    if self.connection.sent(count, now) {
                        // Ignored: a connection that is dead has nothing to shut down.
                        let _ = shutdown(self.socket.as_raw_fd(), Shutdown::Write);
                    }
                }
                Io::Blocked => return,
                Io::Ended | Io::Failed => self.connection.close(),
            }
        }
    }
}

fn date() -> HttpDate {
    HttpDate::at(SystemTime::now())
}

#[cfg(test)]
mod tests;
