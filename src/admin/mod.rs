//! The admin socket: HTTP/1.1 for operators and probes, served by the supervisor beside its other duties.
//!
//! This module owns the listeners and their few, short connections. It passes on each complete request with an id,
//! and the response may follow later. It never blocks; a slow or silent peer loses its connection. It does not
//! decide what the responses are.
//!
//! | file | owns |
//! |---|---|
//! | `acceptor` | the listeners, and which clients may connect |
//! | `connection` | one request and its response, as a state machine without I/O |
//! | `verb` | the verbs, and the responses to those that change something |
//! | `reload` | the response to a reload, and the clients that wait for it |
//! | `quarantine` | the responses about requests in quarantine |
//! | `readiness` | what `/readyz` requires of workers and accept queue |
//! | `routes` | the routes in `/status` |
//! | `status` | the responses of the probes and of `/status` |
//! | `prometheus` | the text of `/metrics` |
//!
//! Descriptors are non-blocking and close-on-exec, and a child closes its copies. poll(2) in the supervisor's loop
//! says only that some descriptor is ready. A turn then tries all of them, which costs a few system calls for a
//! few connections.

mod acceptor;
pub mod connection;
pub mod prometheus;
pub mod quarantine;
pub mod readiness;
pub mod reload;
pub mod routes;
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
pub use acceptor::{PeerProcess, Trust};
use connection::{Awaits, Connection, Incoming, Received};

/// Identifies a request until it is answered or its peer is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// A complete request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminRequest {
    /// The id by which it is answered.
    pub id: RequestId,
    /// The method. Other methods, and a POST that did not arrive by a unix socket, are refused by `connection`.
    pub method: Method,
    /// The path, without the query.
    pub path: String,
    /// The text after the first `?`, if any.
    pub query: String,
    /// The values of the field Accept, separated by commas.
    pub accept: String,
    /// How far the client is trusted.
    pub trust: Trust,
    /// The client's process, if the kernel knows it.
    pub peer: Option<PeerProcess>,
}

/// The method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// Shows something.
    #[default]
    Get,
    /// Shows something, without the body.
    Head,
    /// Changes something.
    Post,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the fields say it")]
pub struct AdminResponse {
    pub status: u16,
    pub content_type: &'static str,
    pub body: String,
}

impl AdminResponse {
    /// A response of plain text.
    pub fn plain(status: u16, text: &str) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: text.to_owned() }
    }
}

/// Maximum connections per listener. Above it, the oldest connection that has no complete request is closed.
const CONNECTIONS: usize = 64;
/// Maximum requests per turn: a response may take 2 ms, and the supervisor has other duties.
const REQUESTS_PER_TURN: usize = 8;
/// Maximum size of all responses together that their peers have not read yet. Above it, the oldest connections lose
/// theirs. The page of a thousand workers has 5 MB.
const HELD_BYTES: usize = 32 << 20;
/// Size of one read: the longest head, or a part of a body.
const PIECE_BYTES: usize = 16 * 1024;

/// The listeners and their connections.
pub struct Admin {
    acceptor: Acceptor,
    /// The connections in the order of arrival.
    peers: Vec<Peer>,
    next_id: u64,
}

/// A client with its connection.
struct Peer {
    id: RequestId,
    trust: Trust,
    /// An index into the listeners of the acceptor.
    listener: usize,
    socket: OwnedFd,
    connection: Connection,
}

impl Admin {
    /// Binds all addresses. Unix sockets are for the owner only (mode 0600).
    ///
    /// Errors: [`ListenError`]; also for `fd://N`.
    pub fn bind(addresses: &[BindAddress]) -> Result<Self, ListenError> {
        Self::inherit(addresses, InheritedSockets::default())
    }

    /// Binds all addresses, except for those inherited from the predecessor in an upgrade.
    pub fn inherit(
        addresses: &[BindAddress],
        inherited_sockets: InheritedSockets,
    ) -> Result<Self, ListenError> {
        let acceptor = Acceptor::inherit(addresses, inherited_sockets)?;
        Ok(Self { acceptor, peers: Vec::new(), next_id: 0 })
    }

    /// Duplicates of the listeners, for a successor.
    pub fn inherited_sockets(&self) -> io::Result<Vec<InheritedSocket>> {
        self.acceptor.inherited_sockets()
    }

    /// Stops accepting connections, which then wait in the accept queue.
    pub fn close(&mut self) {
        self.acceptor.close();
    }

    /// Hands the listeners over to a successor. Accepted connections are still answered.
    pub fn give_away(&mut self) {
        self.acceptor.give_away();
    }

    /// Takes over the listeners from a predecessor, and accepts connections.
    pub fn open(&mut self) {
        self.acceptor.open();
    }

    /// The addresses for the log; empty without any.
    pub fn descriptions(&self) -> Vec<String> {
        self.acceptor.descriptions()
    }

    /// Warnings about the sockets for the log, one sentence each.
    pub fn warnings(&self) -> &[String] {
        self.acceptor.warnings()
    }

    /// Adds the descriptors that a child closes.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.acceptor.list_descriptors(own);
        own.extend(self.peers.iter().map(|peer| &peer.socket));
    }

    /// The descriptors to poll before [`Admin::turn`].
    pub fn poll_fds(&self) -> Vec<(BorrowedFd<'_>, PollFlags)> {
        let acceptor = self.acceptor.poll_fds().map(|listener| (listener, PollFlags::POLLIN));
        let peers = self.peers.iter().filter_map(|peer| {
            let flags = match peer.connection.awaits() {
                Awaits::Bytes | Awaits::Response => PollFlags::POLLIN,
                Awaits::Room => PollFlags::POLLOUT,
                Awaits::Nothing => return None,
            };
            Some((peer.socket.as_fd(), flags))
        });
        acceptor.chain(peers).collect()
    }

    /// When [`Admin::turn`] is due even if no descriptor is ready.
    pub fn next_deadline(&self) -> Option<Instant> {
        let peers = self.peers.iter().filter_map(|peer| peer.connection.deadline());
        peers.chain(self.acceptor.next_deadline()).min()
    }

    /// Accepts, reads, writes and closes late connections. Returns the complete requests, those of the oldest
    /// connections first. Requests above the limit follow in the next turn.
    pub fn turn(&mut self, now: Instant) -> Vec<AdminRequest> {
        let mut requests = Vec::new();
        for peer in &mut self.peers {
            if requests.len() >= REQUESTS_PER_TURN {
                break;
            }
            requests.extend(peer.turn(now));
        }
        self.remove_closed();
        for arrival in self.acceptor.accept(now) {
            let peer = self.admit(arrival, now);
            // Its request has usually arrived already.
            if requests.len() < REQUESTS_PER_TURN {
                requests.extend(peer.and_then(|peer| peer.turn(now)));
            }
        }
        self.remove_closed();
        requests
    }

    /// Whether a client still waits for the response to this request, as of the last turn.
    pub fn is_waiting(&self, id: RequestId) -> bool {
        self.peers.iter().any(|peer| peer.id == id && peer.connection.awaits() == Awaits::Response)
    }

    /// Responds to a request; nothing happens if its peer is gone.
    pub fn respond(&mut self, id: RequestId, response: &AdminResponse) {
        let now = Instant::now();
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            peer.connection.respond(response, &date(), now);
            peer.send(now);
        }
        self.limit_held(id);
        self.remove_closed();
    }

    /// Gives up on who does not take an answer, where that is too much together; not on `newest`.
    fn limit_held(&mut self, newest: RequestId) {
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

    /// Adds a connection. If its listener has too many, the oldest of them without a complete request is closed, so
    /// that a flood from outside never displaces the owner's connections. A connection that waits for its response,
    /// or is being sent one, is kept.
    fn admit(&mut self, arrival: Arrival, now: Instant) -> Option<&mut Peer> {
        let Arrival { socket, listener, trust } = arrival;
        if self.peers.iter().filter(|peer| peer.listener == listener).count() >= CONNECTIONS {
            let is_idle = |peer: &Peer| {
                peer.listener == listener && peer.connection.awaits() == Awaits::Bytes
            };
            let oldest = self.peers.iter().position(is_idle)?;
            self.peers.remove(oldest);
        }
        let id = RequestId(self.next_id);
        self.next_id += 1;
        self.peers.push(Peer {
            id,
            trust,
            listener,
            socket,
            connection: Connection::new(trust, now),
        });
        self.peers.last_mut()
    }

    fn remove_closed(&mut self) {
        self.peers.retain(|peer| peer.connection.awaits() != Awaits::Nothing);
    }
}

impl Peer {
    /// Does what is possible without blocking. Returns the request once it is complete.
    fn turn(&mut self, now: Instant) -> Option<AdminRequest> {
        self.connection.tick(now);
        match self.connection.awaits() {
            Awaits::Bytes | Awaits::Response => self.receive(now),
            Awaits::Room => {
                self.send(now);
                None
            }
            Awaits::Nothing => None,
        }
    }

    fn receive(&mut self, now: Instant) -> Option<AdminRequest> {
        let mut buffer = [0; PIECE_BYTES];
        match fd::receive(self.socket.as_fd(), &mut buffer) {
            Io::Bytes(count) => match self.connection.receive(&buffer[..count]) {
                Received::Request(Incoming { method, path, query, accept }) => {
                    let (id, trust) = (self.id, self.trust);
                    let peer = acceptor::peer_process(trust, &self.socket);
                    Some(AdminRequest { id, method, path, query, accept, trust, peer })
                }
                Received::Refusal(response) => {
                    self.connection.respond(&response, &date(), now);
                    self.send(now);
                    None
                }
                Received::Nothing => None,
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
                        // Ignored: a dead connection has nothing to shut down.
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
