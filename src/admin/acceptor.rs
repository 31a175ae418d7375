//! The acceptor of the admin socket: its listeners, and a pause when accept(2) fails.
//!
//! [`Listeners`] binds them, like those for requests: with the same notation, the same check for another server
//! and the same handling of stale paths. This file decides which clients may connect.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use arctos_worker::shared::fd::{Accepted, accept};
use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::socket_name::SocketName;
use arctos_worker::worker::Listener;
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::Mode;
use nix::unistd::Uid;

use crate::config::ListenMode;
use crate::listener::{InheritedSocket, InheritedSockets, ListenError, ListenOptions, Listeners};
use crate::system::address::BindAddress;
use crate::system::descriptors::OwnDescriptors;

/// Length of the accept queue: enough for a few scrapers and an operator.
const BACKLOG: u32 = 64;
/// The first and the longest pause after accept(2) failed, as in workers.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Maximum connections accepted from each listener per turn, so that a flood at one does not block another.
const ACCEPTS_PER_TURN: usize = 8;

/// How far the clients of a listener are trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The client is root or the user of the server; the kernel has checked it.
    Owner,
    /// The client is anything that reaches the address, including a browser on behalf of a web page.
    Anyone,
}

/// The process of a client on a unix socket, as of its connect(2) (SO_PEERCRED of unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerProcess {
    /// The pid; `None` if it is in a namespace that this process cannot see.
    pub pid: Option<i32>,
    /// The user id.
    pub uid: u32,
}

/// The process of the client, if it connected by a unix socket.
pub(super) fn peer_process(trust: Trust, socket: &OwnedFd) -> Option<PeerProcess> {
    match trust {
        Trust::Owner => {
            let peer = getsockopt(socket, sockopt::PeerCredentials).ok()?;
            Some(PeerProcess { pid: Some(peer.pid()).filter(|pid| *pid > 0), uid: peer.uid() })
        }
        Trust::Anyone => None,
    }
}

/// A connection that was just accepted.
pub(super) struct Arrival {
    pub(super) socket: OwnedFd,
    /// An index into the listeners.
    pub(super) listener: usize,
    pub(super) trust: Trust,
}

/// All listeners of the admin socket.
pub(super) struct Acceptor {
    /// The owner of the socket paths, which unlinks them when it is dropped.
    bound: Listeners,
    listeners: Vec<Listener>,
    state: State,
    /// The length of the next pause.
    pause: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Connections are accepted.
    Open,
    /// accept(2) failed, for example without free descriptors. Polling now would only report the same client again.
    Paused { until: Instant },
    /// Another server accepts the connections, during an upgrade.
    Closed,
}

impl Acceptor {
    /// Binds and listens. Socket paths get mode 0600, whatever the umask.
    #[cfg(test)]
    pub(super) fn bind(addresses: &[BindAddress]) -> Result<Self, ListenError> {
        Self::inherit(addresses, InheritedSockets::default())
    }

    /// Binds and listens, except for the sockets inherited from the predecessor in an upgrade.
    pub(super) fn inherit(
        addresses: &[BindAddress],
        inherited_sockets: InheritedSockets,
    ) -> Result<Self, ListenError> {
        for address in addresses {
            match address {
                BindAddress::Fd(number) => return Err(ListenError::AdminFd { number: *number }),
                BindAddress::Tcp { .. } | BindAddress::Unix(_) | BindAddress::Abstract(_) => {}
            }
        }
        let options = ListenOptions {
            reuse_port: false,
            backlog: BACKLOG,
            mode: ListenMode::Shared,
            slots: 1,
            unix_socket_mode: Mode::S_IRUSR | Mode::S_IWUSR,
            user: None,
            group: None,
        };
        let bound =
            Listeners::inherit(addresses, &options, inherited_sockets).map_err(for_admin)?;
        // Shared sockets are the same for each slot.
        let listeners = bound.for_slot(SlotId(0)).map_err(|error| {
            let address = bound.descriptions().join(" ");
            ListenError::Other { address, call: "fcntl(2)", error }
        })?;
        Ok(Self { bound, listeners, state: State::Open, pause: FIRST_PAUSE })
    }

    /// The addresses for the log, with port 0 resolved.
    pub(super) fn descriptions(&self) -> Vec<String> {
        self.bound.descriptions()
    }

    /// Warnings about the sockets for the log.
    pub(super) fn warnings(&self) -> &[String] {
        self.bound.warnings()
    }

    /// Adds the descriptors that a child closes.
    pub(super) fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.bound.list_descriptors(own);
        own.extend(self.listeners.iter().map(|listener| &listener.socket));
    }

    /// Duplicates of all listeners, for a successor.
    pub(super) fn inherited_sockets(&self) -> io::Result<Vec<InheritedSocket>> {
        self.bound.inherited_sockets()
    }

    /// Stops accepting, and leaves clients in the accept queue.
    pub(super) fn close(&mut self) {
        self.state = State::Closed;
    }

    /// Hands all listeners over to another server.
    pub(super) fn give_away(&mut self) {
        self.bound.disown();
        self.close();
        self.listeners.clear();
    }

    /// Takes over all listeners, and accepts the clients in their queues.
    pub(super) fn open(&mut self) {
        self.bound.own();
        self.state = State::Open;
    }

    /// The listeners to poll; none during a pause.
    pub(super) fn poll_fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listeners = match self.state {
            State::Open => self.listeners.as_slice(),
            State::Paused { .. } | State::Closed => &[],
        };
        listeners.iter().map(|listener| listener.socket.as_fd())
    }

    /// When a pause ends.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Open | State::Closed => None,
            State::Paused { until } => Some(until),
        }
    }

    /// Accepts at most [`ACCEPTS_PER_TURN`] connections of each listener; more follow in the next turn.
    pub(super) fn accept(&mut self, now: Instant) -> Vec<Arrival> {
        match self.state {
            State::Closed => return Vec::new(),
            State::Paused { until } if now < until => return Vec::new(),
            State::Paused { .. } | State::Open => self.state = State::Open,
        }
        let mut arrivals = Vec::new();
        for (index, listener) in self.listeners.iter().enumerate() {
            for _ in 0..ACCEPTS_PER_TURN {
                match accept(listener.socket.as_fd()) {
                    Accepted::Connection { socket, .. } => {
                        self.pause = FIRST_PAUSE;
                        // Otherwise the connection is closed at once, without a response.
                        if may_connect(&listener.name, &socket) {
                            let trust = trust(&listener.name);
                            arrivals.push(Arrival { socket, listener: index, trust });
                        }
                    }
                    Accepted::Empty => break,
                    Accepted::Exhausted(_) | Accepted::Failed(_) => {
                        self.state = State::Paused { until: now + self.pause };
                        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                        return arrivals;
                    }
                }
            }
        }
        arrivals
    }
}

fn trust(name: &SocketName) -> Trust {
    match name {
        SocketName::Unix(_) => Trust::Owner,
        SocketName::Inet(_) => Trust::Anyone,
    }
}

/// Whether the client may use the socket. Every process of the network namespace can connect to an abstract name,
/// which has no owner and no mode, so its user is checked here. A path is protected by its mode, and TCP is open to
/// every host that reaches the address.
fn may_connect(name: &SocketName, socket: &OwnedFd) -> bool {
    match name {
        SocketName::Unix(name) if name.starts_with('@') => {
            getsockopt(socket, sockopt::PeerCredentials)
                .is_ok_and(|peer| is_owner(Uid::from_raw(peer.uid()), Uid::effective()))
        }
        SocketName::Unix(_) | SocketName::Inet(_) => true,
    }
}

/// Whether the user is root or the user of the server.
fn is_owner(peer: Uid, own: Uid) -> bool {
    peer.is_root() || peer == own
}

/// Adapts an error to the admin socket, which cannot be shared.
fn for_admin(error: ListenError) -> ListenError {
    match error {
        ListenError::InUse { address } => ListenError::AdminInUse { address },
        ListenError::Repeated { .. }
        | ListenError::Twice { .. }
        | ListenError::Unresolved { .. }
        | ListenError::AdminInUse { .. }
        | ListenError::AdminFd { .. }
        | ListenError::NotShared { .. }
        | ListenError::Forbidden { .. }
        | ListenError::NotHere { .. }
        | ListenError::PathTooLong { .. }
        | ListenError::Directory { .. }
        | ListenError::Occupied { .. }
        | ListenError::NotOpen { .. }
        | ListenError::NotASocket { .. }
        | ListenError::NotListening { .. }
        | ListenError::Replaced { .. }
        | ListenError::Other { .. } => error,
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{Shutdown, shutdown};

    use super::*;

    #[test]
    fn pauses_grow_while_accept_keeps_failing() {
        let mut acceptor = Acceptor::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        assert_eq!(acceptor.poll_fds().count(), 1);
        // From now on accept(2) fails with EINVAL, while poll(2) reports the listener as readable.
        shutdown(acceptor.listeners[0].socket.as_raw_fd(), Shutdown::Read).unwrap();
        let mut now = Instant::now();
        for pause in [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis) {
            assert!(acceptor.accept(now).is_empty());
            assert_eq!(acceptor.next_deadline(), Some(now + pause));
            assert_eq!(acceptor.poll_fds().count(), 0);
            assert!(acceptor.accept(now + pause / 2).is_empty());
            assert_eq!(acceptor.next_deadline(), Some(now + pause));
            now += pause;
        }
    }

    #[test]
    fn a_closed_acceptor_leaves_clients_in_the_accept_queue() {
        let mut acceptor = Acceptor::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let SocketName::Inet(address) = acceptor.listeners[0].name else { panic!("no TCP") };
        acceptor.close();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let now = Instant::now();
        assert_eq!(acceptor.poll_fds().count(), 0);
        assert!(acceptor.accept(now).is_empty());
        acceptor.open();
        assert_eq!(acceptor.poll_fds().count(), 1);
        assert_eq!(acceptor.accept(now).len(), 1);
        acceptor.give_away();
        assert_eq!(acceptor.poll_fds().count(), 0);
    }

    #[test]
    fn an_abstract_socket_is_for_root_and_the_user_of_the_server() {
        let (root, own, other) = (Uid::from_raw(0), Uid::from_raw(7), Uid::from_raw(8));
        assert!(is_owner(root, own));
        assert!(is_owner(own, own));
        assert!(!is_owner(other, own));
        assert!(!is_owner(own, root));
    }
}
