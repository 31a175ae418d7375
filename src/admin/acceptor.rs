//! The admin socket's listeners: bound, accepted from, left alone for a while when that fails.
//!
//! They are bound by [`Listeners`], like those for requests: the same notation, the same probe for
//! another server, the same care for stale paths. Who may connect is decided here.

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

/// Connections that may wait to be accepted: a few scrapers and a person.
const BACKLOG: u32 = 64;
/// First rest after accepting failed, and the longest: as workers rest.
const FIRST_REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Accepted from each listener in one turn: who floods one keeps nobody out of another.
const ARRIVALS: usize = 8;

/// Who has come through a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Root, or who runs the server: the kernel has seen to it.
    Owner,
    /// Anybody who reaches the address; a browser, too, on behalf of a page that it shows.
    Anybody,
}

/// The process at the other end of a unix socket, as it was when it connected (SO_PEERCRED of unix(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its pid; `None` in a namespace that this process does not see.
    pub pid: Option<i32>,
    /// Its user.
    pub uid: u32,
}

/// Who is at the other end of a connection that came through a unix socket.
pub(super) fn asker(trust: Trust, socket: &OwnedFd) -> Option<Asker> {
    match trust {
        Trust::Owner => {
            let peer = getsockopt(socket, sockopt::PeerCredentials).ok()?;
            Some(Asker { pid: Some(peer.pid()).filter(|pid| *pid > 0), uid: peer.uid() })
        }
        Trust::Anybody => None,
    }
}

/// Somebody who has come.
pub(super) struct Arrival {
    pub(super) socket: OwnedFd,
    /// Which listener, by number.
    pub(super) door: usize,
    pub(super) trust: Trust,
}

/// All listeners of the admin socket.
pub(super) struct Acceptor {
    /// Owner of the paths, which its drop unlinks.
    bound: Listeners,
    listeners: Vec<Listener>,
    life: Life,
    /// The next rest.
    rest: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// A connection is awaited.
    Open,
    /// The process is out of descriptors or memory: poll(2) would only say again that somebody waits.
    Resting { until: Instant },
    /// Another server answers, during an upgrade.
    Closed,
}

impl Acceptor {
    /// Binds and listens; paths with mode 0600, whatever the umask.
    #[cfg(test)]
    pub(super) fn bind(addresses: &[BindAddress]) -> Result<Self, ListenError> {
        Self::inherit(addresses, InheritedSockets::default())
    }

    /// The same with what was inherited from the server before, in an upgrade.
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
            Listeners::inherit(addresses, &options, inherited_sockets).map_err(in_our_words)?;
        // A shared socket is the same for each slot.
        let listeners = bound.for_slot(SlotId(0)).map_err(|error| {
            let address = bound.descriptions().join(" ");
            ListenError::Other { address, call: "fcntl(2)", error }
        })?;
        Ok(Self { bound, listeners, life: Life::Open, rest: FIRST_REST })
    }

    /// The addresses for people, port 0 resolved.
    pub(super) fn descriptions(&self) -> Vec<String> {
        self.bound.descriptions()
    }

    /// What an operator may want to know about these sockets.
    pub(super) fn warnings(&self) -> &[String] {
        self.bound.warnings()
    }

    /// The descriptors that a child closes.
    pub(super) fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.bound.list_descriptors(own);
        own.extend(self.listeners.iter().map(|listener| &listener.socket));
    }

    /// Duplicates of all of them, for a successor.
    pub(super) fn inherited_sockets(&self) -> io::Result<Vec<InheritedSocket>> {
        self.bound.inherited_sockets()
    }

    /// Leaves who comes in the queue.
    pub(super) fn close(&mut self) {
        self.life = Life::Closed;
    }

    /// Everything is another server's from now on.
    pub(super) fn give_away(&mut self) {
        self.bound.disown();
        self.close();
        self.listeners.clear();
    }

    /// Everything is this server's from now on, and who is in the queue is let in.
    pub(super) fn open(&mut self) {
        self.bound.own();
        self.life = Life::Open;
    }

    /// What becomes readable when somebody comes; nothing during a rest.
    pub(super) fn awaited(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let listeners = match self.life {
            Life::Open => self.listeners.as_slice(),
            Life::Resting { .. } | Life::Closed => &[],
        };
        listeners.iter().map(|listener| listener.socket.as_fd())
    }

    /// When a rest is over.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self.life {
            Life::Open | Life::Closed => None,
            Life::Resting { until } => Some(until),
        }
    }

    /// Those who have come, [`ARRIVALS`] of each listener at most: more are there in the next turn.
    pub(super) fn accept(&mut self, now: Instant) -> Vec<Arrival> {
        match self.life {
            Life::Closed => return Vec::new(),
            Life::Resting { until } if now < until => return Vec::new(),
            Life::Resting { .. } | Life::Open => self.life = Life::Open,
        }
        let mut come = Vec::new();
        for (door, listener) in self.listeners.iter().enumerate() {
            for _ in 0..ARRIVALS {
                match accept(listener.socket.as_fd()) {
                    Accepted::Connection(socket, _) => {
                        self.rest = FIRST_REST;
                        // Closed at once otherwise, without a word.
                        if is_welcome(&listener.name, &socket) {
                            come.push(Arrival { socket, door, trust: trust(&listener.name) });
                        }
                    }
                    Accepted::Nobody => break,
                    Accepted::Exhausted(_) | Accepted::Failed(_) => {
                        self.life = Life::Resting { until: now + self.rest };
                        self.rest = (self.rest * 2).min(LONGEST_REST);
                        return come;
                    }
                }
            }
        }
        come
    }
}

fn trust(name: &SocketName) -> Trust {
    match name {
        SocketName::Unix(_) => Trust::Owner,
        SocketName::Inet(_) => Trust::Anybody,
    }
}

/// An abstract name has no owner and no mode: everybody in the network namespace can connect to it, so
/// the kernel is asked who it is. A path has its mode, and TCP is open to whom it is bound for.
fn is_welcome(name: &SocketName, socket: &OwnedFd) -> bool {
    match name {
        SocketName::Unix(name) if name.starts_with('@') => {
            getsockopt(socket, sockopt::PeerCredentials)
                .is_ok_and(|peer| may_enter(Uid::from_raw(peer.uid()), Uid::effective()))
        }
        SocketName::Unix(_) | SocketName::Inet(_) => true,
    }
}

/// Root, and who runs the server.
fn may_enter(peer: Uid, own: Uid) -> bool {
    peer.is_root() || peer == own
}

/// The admin socket cannot be shared.
fn in_our_words(error: ListenError) -> ListenError {
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
        | ListenError::Folder { .. }
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
    fn accepting_rests_for_longer_and_longer_while_it_fails() {
        let mut acceptor = Acceptor::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        assert_eq!(acceptor.awaited().count(), 1);
        // accept(2) is EINVAL from now on, and poll(2) says that there is something.
        shutdown(acceptor.listeners[0].socket.as_raw_fd(), Shutdown::Read).unwrap();
        let mut now = Instant::now();
        for rest in [100, 200, 400, 800, 1000, 1000].map(Duration::from_millis) {
            assert!(acceptor.accept(now).is_empty());
            assert_eq!(acceptor.next_deadline(), Some(now + rest));
            assert_eq!(acceptor.awaited().count(), 0);
            assert!(acceptor.accept(now + rest / 2).is_empty());
            assert_eq!(acceptor.next_deadline(), Some(now + rest));
            now += rest;
        }
    }

    /// Who comes while nobody is let in is not turned away.
    #[test]
    fn doors_that_are_closed_keep_who_comes_in_the_queue() {
        let mut acceptor = Acceptor::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let SocketName::Inet(address) = acceptor.listeners[0].name else { panic!("no TCP") };
        acceptor.close();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let now = Instant::now();
        assert_eq!(acceptor.awaited().count(), 0);
        assert!(acceptor.accept(now).is_empty());
        acceptor.open();
        assert_eq!(acceptor.awaited().count(), 1);
        assert_eq!(acceptor.accept(now).len(), 1);
        acceptor.give_away();
        assert_eq!(acceptor.awaited().count(), 0);
    }

    #[test]
    fn an_abstract_socket_is_for_root_and_for_who_runs_the_server() {
        let (root, own, other) = (Uid::from_raw(0), Uid::from_raw(7), Uid::from_raw(8));
        assert!(may_enter(root, own));
        assert!(may_enter(own, own));
        assert!(!may_enter(other, own));
        assert!(!may_enter(own, root));
    }
}
