//! The agent's address, and a socket that is connected to it. Nothing here blocks.
//!
//! The socket is connected, because only then does the kernel report that no agent is there (udp(7)). The error arrives
//! at once if the address is on this host and the host is not too busy, and one flush late otherwise.
//!
//! There are two state machines. The link is a socket: down, up, or stale, which means up until it is replaced. The
//! lookup, which only names have, is idle or running. While it runs, the link stays in use; its result makes the link
//! stale. New addresses always get a new socket, and thereby a new port, because what a firewall remembers of the old
//! port, such as which of several agents it leads to, may be out of date.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use super::resolver::{Lookup, Progress, Resolve};
use crate::metrics::statsd::Target;
use crate::system::pid::Pid;

/// The time between two lookups.
const REFRESH: Duration = Duration::from_secs(30);
/// The time to the next lookup after a failure, or after a refused datagram.
const RETRY: Duration = Duration::from_secs(5);

/// Why a datagram was not sent.
#[derive(Debug, Error)]
pub(super) enum SendError {
    /// The first lookup still runs.
    #[error("its name has not been looked up yet")]
    Unknown,
    /// The lookup failed.
    #[error("its name cannot be looked up: {0}")]
    NotFound(String),
    /// The socket cannot be made or connected.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The kernel refused a datagram, or the agent's host did.
    #[error("{0}")]
    Refused(io::Error),
    /// The agent's queue is full.
    #[error("the agent does not read its datagrams")]
    Full,
    /// The agent reads too slowly for the remaining time.
    #[error("there is no time left")]
    Late,
}

/// The outcome of sending a datagram.
pub(super) enum Delivery {
    /// The kernel has accepted it, and no error has arrived.
    Accepted,
    /// A queue is full at present.
    Full,
    /// The datagram will not arrive.
    Refused {
        /// The reason.
        error: SendError,
        /// Whether the error may belong to earlier datagrams.
        is_late: bool,
    },
}

/// The way to the agent.
pub(super) struct StatsdSocket {
    destination: Destination,
    link: Link,
}

enum Destination {
    Unix(PathBuf),
    Address(SocketAddr),
    Name(AgentName),
}

enum Link {
    Down,
    /// A connected socket.
    Up(Connection),
    /// A connected socket that is replaced before the next flush.
    Stale(Connection),
}

struct Connection {
    socket: Socket,
    locality: Locality,
}

/// The location of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Locality {
    /// A unix socket, where send(2) itself reports errors.
    UnixPath,
    /// This host, where an error has usually arrived when send(2) returns.
    ThisHost,
    /// Another host, from which errors arrive later.
    OtherHost,
}

struct AgentName {
    host: String,
    port: u16,
    resolve: Resolve,
    lookup_state: LookupState,
    /// The addresses of the last successful lookup; the first one is used.
    addresses: Vec<SocketAddr>,
}

enum LookupState {
    /// The next lookup starts at `until`. The last one started at `since`, and possibly failed.
    Idle { since: Option<Instant>, until: Instant, failure: Option<String> },
    /// A helper process runs the lookup.
    Running { since: Instant, lookup: Lookup },
}

impl StatsdSocket {
    /// Does no I/O yet. A unix path that starts with `@` is an abstract name, as in `--bind`.
    pub(super) fn new(target: &Target, resolve: Resolve, now: Instant) -> Self {
        let destination = match target {
            Target::Unix(path) => Destination::Unix(path.clone()),
            Target::Udp { host, port } => match host.parse::<IpAddr>() {
                Ok(address) => Destination::Address(SocketAddr::new(address, *port)),
                Err(_) => Destination::Name(AgentName {
                    host: host.clone(),
                    port: *port,
                    resolve,
                    lookup_state: LookupState::Idle { since: None, until: now, failure: None },
                    addresses: Vec::new(),
                }),
            },
        };
        Self { destination, link: Link::Down }
    }

    /// When [`StatsdSocket::turn`] is due.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.destination {
            Destination::Unix(_) | Destination::Address(_) => None,
            Destination::Name(name) => match &name.lookup_state {
                LookupState::Idle { until, .. } => Some(*until),
                LookupState::Running { lookup, .. } => lookup.deadline(),
            },
        }
    }

    /// The helper process of the lookup, if one runs.
    pub(super) fn child(&self) -> Option<Pid> {
        match &self.destination {
            Destination::Unix(_) | Destination::Address(_) => None,
            Destination::Name(name) => match &name.lookup_state {
                LookupState::Idle { .. } => None,
                LookupState::Running { lookup, .. } => lookup.pid(),
            },
        }
    }

    /// The descriptor to poll for reading before [`StatsdSocket::turn`].
    pub(super) fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.destination {
            Destination::Unix(_) | Destination::Address(_) => None,
            Destination::Name(name) => match &name.lookup_state {
                LookupState::Idle { .. } => None,
                LookupState::Running { lookup, .. } => lookup.poll_fd(),
            },
        }
    }

    /// Starts and ends lookups. Returns the reason if one failed.
    pub(super) fn turn(&mut self, now: Instant) -> Option<String> {
        let Destination::Name(name) = &mut self.destination else { return None };
        match name.turn(now) {
            Progress::Running => None,
            Progress::Failed(reason) => Some(reason),
            Progress::Found(_) => {
                self.link = match std::mem::replace(&mut self.link, Link::Down) {
                    Link::Down => Link::Down,
                    Link::Up(connection) | Link::Stale(connection) => Link::Stale(connection),
                };
                None
            }
        }
    }

    /// An error that arrived after the last datagram was accepted. It takes the link down.
    pub(super) fn late_error(&mut self, now: Instant) -> Option<SendError> {
        let (Link::Up(connection) | Link::Stale(connection)) = &self.link else { return None };
        // Reading the error fails only if this is not a socket.
        let error = connection.socket.take_error().ok().flatten()?;
        self.take_down(now);
        Some(SendError::Refused(error))
    }

    /// Connects if the link is down or stale. A stale link stays if no new one can be made.
    pub(super) fn connect(&mut self) -> Result<(), SendError> {
        if let Link::Up(_) = self.link {
            return Ok(());
        }
        let connection = match &self.destination {
            Destination::Unix(path) => Connection::to_path(path).map_err(SendError::Connect),
            Destination::Address(address) => {
                Connection::to_address(*address).map_err(SendError::Connect)
            }
            Destination::Name(name) => name.connect(),
        };
        match (connection, &self.link) {
            (Ok(connection), _) => self.link = Link::Up(connection),
            (Err(_), Link::Stale(_) | Link::Up(_)) => {}
            (Err(error), Link::Down) => return Err(error),
        }
        Ok(())
    }

    /// Sends a datagram. A refusal takes the link down.
    pub(super) fn send(&mut self, datagram: &[u8], now: Instant) -> Delivery {
        let (Link::Up(connection) | Link::Stale(connection)) = &self.link else {
            let error = SendError::Connect(io::ErrorKind::NotConnected.into());
            return Delivery::Refused { error, is_late: false };
        };
        let (error, was_sent) = match connection.socket.send(datagram) {
            // An error that has already arrived is read at once.
            Ok(_) => match connection.take_error() {
                Ok(None) => return Delivery::Accepted,
                Ok(Some(error)) | Err(error) => (error, true),
            },
            Err(error) => (error, false),
        };
        if is_full(&error) {
            return Delivery::Full;
        }
        let is_late = match connection.locality {
            Locality::UnixPath => false,
            // The kernel has delivered the previous datagrams late (ksoftirqd), and reports their error instead of
            // sending this one.
            Locality::ThisHost => !was_sent && error.kind() == io::ErrorKind::ConnectionRefused,
            Locality::OtherHost => true,
        };
        self.take_down(now);
        Delivery::Refused { error: SendError::Refused(error), is_late }
    }

    /// Blocks until the socket accepts datagrams again, or the timeout expires.
    pub(super) fn await_room(&self, timeout: Duration) {
        if let Link::Up(connection) | Link::Stale(connection) = &self.link {
            wait(connection.socket.as_fd(), PollFlags::POLLOUT, timeout);
        }
    }

    /// Blocks until a lookup ends, if there is no address without it. Starts one if none runs.
    pub(super) fn await_address(&mut self, deadline: Instant) {
        if let Destination::Name(name) = &mut self.destination
            && name.addresses.is_empty()
        {
            name.look_up_now(Instant::now());
        }
        loop {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            let Destination::Name(name) = &self.destination else { return };
            let LookupState::Running { lookup, .. } = &name.lookup_state else { return };
            if let Some(output) = lookup.poll_fd().filter(|_| name.addresses.is_empty()) {
                wait(output, PollFlags::POLLIN, left);
            }
            // The output may arrive in parts, so this repeats until it ends. The reason of a failure is reported by
            // `connect`, which finds no address.
            let _ = self.turn(now);
            let Destination::Name(name) = &self.destination else { return };
            if left.is_zero() || !name.addresses.is_empty() {
                return;
            }
        }
    }

    /// The number of addresses to try.
    pub(super) fn address_count(&self) -> usize {
        match &self.destination {
            Destination::Unix(_) | Destination::Address(_) => 1,
            Destination::Name(name) => name.addresses.len(),
        }
    }

    pub(super) fn socket(&self) -> Option<&Socket> {
        match &self.link {
            Link::Up(connection) | Link::Stale(connection) => Some(&connection.socket),
            Link::Down => None,
        }
    }

    /// Takes the link down after an error.
    fn take_down(&mut self, now: Instant) {
        self.link = Link::Down;
        if let Destination::Name(name) = &mut self.destination {
            name.refused(now);
        }
    }
}

impl fmt::Display for StatsdSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.destination {
            Destination::Unix(path) => write!(f, "unix://{}", path.display()),
            Destination::Address(address) => write!(f, "{address}"),
            Destination::Name(name) => write!(f, "{}:{}", name.host, name.port),
        }
    }
}

impl AgentName {
    /// Starts a lookup unless one runs.
    fn look_up_now(&mut self, now: Instant) {
        if let LookupState::Idle { until, .. } = &mut self.lookup_state {
            *until = now;
            // The reason of a failure is reported by `connect`, which finds no address.
            let _ = self.turn(now);
        }
    }

    fn turn(&mut self, now: Instant) -> Progress {
        match &mut self.lookup_state {
            LookupState::Idle { until, .. } if now < *until => Progress::Running,
            LookupState::Idle { .. } => {
                match Lookup::start(self.resolve, &self.host, self.port, now) {
                    Ok(lookup) => {
                        self.lookup_state = LookupState::Running { since: now, lookup };
                        Progress::Running
                    }
                    Err(error) => self.failed(now, now, error.to_string()),
                }
            }
            LookupState::Running { since, lookup } => {
                let since = *since;
                match lookup.turn(now) {
                    Progress::Running => Progress::Running,
                    Progress::Failed(reason) => self.failed(since, now, reason),
                    Progress::Found(addresses) => {
                        self.found(&addresses);
                        let until = now + REFRESH;
                        self.lookup_state =
                            LookupState::Idle { since: Some(since), until, failure: None };
                        Progress::Found(addresses)
                    }
                }
            }
        }
    }

    fn failed(&mut self, since: Instant, now: Instant, reason: String) -> Progress {
        let (since, until) = (Some(since), now + RETRY);
        self.lookup_state = LookupState::Idle { since, until, failure: Some(reason.clone()) };
        Progress::Failed(reason)
    }

    /// Takes over new addresses, and keeps using the current one if it is among them.
    fn found(&mut self, addresses: &[SocketAddr]) {
        let used = self.addresses.first().copied();
        self.addresses = addresses.to_vec();
        let position = self.addresses.iter().position(|address| Some(*address) == used);
        self.addresses.rotate_left(position.unwrap_or(0));
    }

    /// Connects to the first address that can be connected to.
    fn connect(&self) -> Result<Connection, SendError> {
        let mut error = match &self.lookup_state {
            LookupState::Idle { failure: Some(reason), .. } => SendError::NotFound(reason.clone()),
            LookupState::Idle { failure: None, .. } | LookupState::Running { .. } => {
                SendError::Unknown
            }
        };
        for address in &self.addresses {
            match Connection::to_address(*address) {
                Ok(connection) => return Ok(connection),
                Err(reason) => error = SendError::Connect(reason),
            }
        }
        Err(error)
    }

    /// Switches to the next address after a refusal, and looks up the name again soon. `localhost` may have two
    /// addresses and an agent at only one of them.
    fn refused(&mut self, now: Instant) {
        if !self.addresses.is_empty() {
            self.addresses.rotate_left(1);
        }
        if let LookupState::Idle { since, until, .. } = &mut self.lookup_state {
            let soon = since.map_or(now, |since| now.max(since + RETRY));
            *until = soon.min(*until);
        }
    }
}

impl Connection {
    fn to_path(path: &Path) -> io::Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => {
                let name = [b"\0", name].concat();
                SockAddr::unix(std::ffi::OsStr::from_bytes(&name))?
            }
            None => SockAddr::unix(path)?,
        };
        Ok(Self { socket: connected(Domain::UNIX, &address)?, locality: Locality::UnixPath })
    }

    fn to_address(address: SocketAddr) -> io::Result<Self> {
        let socket = connected(Domain::for_address(address), &address.into())?;
        let own = socket.local_addr()?.as_socket().map(|own| own.ip());
        let is_here = address.ip().is_loopback() || own == Some(address.ip());
        Ok(Self {
            socket,
            locality: if is_here { Locality::ThisHost } else { Locality::OtherHost },
        })
    }

    /// The error that has arrived for what was sent.
    fn take_error(&self) -> io::Result<Option<io::Error>> {
        #[cfg(test)]
        super::tests::refusals::await_refusal(&self.socket);
        self.socket.take_error()
    }
}

/// A connected datagram socket, non-blocking and close-on-exec.
fn connected(domain: Domain, address: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), None)?;
    socket.connect(address)?;
    Ok(socket)
}

/// Whether the error means that a queue is full (EAGAIN or ENOBUFS).
fn is_full(error: &io::Error) -> bool {
    let full = [nix::libc::EAGAIN, nix::libc::ENOBUFS];
    error.raw_os_error().is_some_and(|number| full.contains(&number))
}

fn wait(fd: BorrowedFd<'_>, flags: PollFlags, timeout: Duration) {
    let ms = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
    // Ignored: the caller tries again anyway. EINTR only shortens the wait.
    let _ = poll(&mut [PollFd::new(fd, flags)], PollTimeout::from(ms));
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;
    use crate::emitter::tests::refusals::{agent_that_closes, close};

    fn never(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn socket(host: &str, port: u16) -> StatsdSocket {
        let target = Target::Udp { host: host.to_owned(), port };
        StatsdSocket::new(&target, never, Instant::now())
    }

    fn unused_address() -> SocketAddr {
        let (agent, address) = agent_that_closes();
        close(agent);
        address
    }

    #[test]
    fn literal_addresses_need_no_lookup_and_names_need_one_at_once() {
        for (host, shown) in [("127.0.0.1", "127.0.0.1:8125"), ("::1", "[::1]:8125")] {
            let socket = socket(host, 8125);
            assert_eq!(socket.next_deadline(), None);
            assert_eq!(socket.to_string(), shown);
        }
        let socket = socket("agent.test", 8125);
        assert!(socket.next_deadline().is_some());
        assert_eq!(socket.to_string(), "agent.test:8125");
    }

    #[test]
    fn an_error_from_another_host_may_belong_to_earlier_datagrams() {
        for (locality, expected) in [(Locality::ThisHost, false), (Locality::OtherHost, true)] {
            let address = unused_address();
            let mut socket = socket(&address.ip().to_string(), address.port());
            socket.connect().unwrap();
            let Link::Up(connection) = &mut socket.link else { panic!("it is connected") };
            assert_eq!(connection.locality, Locality::ThisHost);
            connection.locality = locality;
            let Delivery::Refused { is_late, .. } = socket.send(b"x", Instant::now()) else {
                panic!("no agent is there")
            };
            assert_eq!(is_late, expected);
            assert!(matches!(socket.link, Link::Down));
        }
    }

    fn name(addresses: &[SocketAddr], lookup_state: LookupState) -> AgentName {
        let addresses = addresses.to_vec();
        AgentName {
            host: "agent.test".to_owned(),
            port: 8125,
            resolve: never,
            lookup_state,
            addresses,
        }
    }

    #[test]
    fn the_current_address_is_kept_until_it_refuses_or_disappears() {
        let now = Instant::now();
        let addresses = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let [first, second, third] = addresses;
        let lookup_state =
            LookupState::Idle { since: Some(now), until: now + REFRESH, failure: None };
        let mut name = name(&[first, second], lookup_state);
        name.refused(now + Duration::from_secs(1));
        assert_eq!(name.addresses, [second, first]);
        let LookupState::Idle { until, .. } = name.lookup_state else { panic!("no lookup runs") };
        assert_eq!(until, now + RETRY, "soon, but not at once");
        name.found(&[first, third, second]);
        assert_eq!(name.addresses[0], second);
        name.found(&[third, first]);
        assert_eq!(name.addresses[0], third);
    }

    #[test]
    fn the_old_socket_is_used_until_new_addresses_get_a_new_one() {
        let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let now = Instant::now();
        let lookup_state =
            LookupState::Idle { since: Some(now), until: now + REFRESH, failure: None };
        let destination = Destination::Name(name(&[agent.local_addr().unwrap()], lookup_state));
        let mut socket = StatsdSocket { destination, link: Link::Down };
        socket.connect().unwrap();
        let Link::Up(connection) = std::mem::replace(&mut socket.link, Link::Down) else {
            panic!("it is connected")
        };
        let port = |socket: &StatsdSocket| socket.socket().unwrap().local_addr().unwrap();
        socket.link = Link::Stale(connection);
        let old = port(&socket);
        assert!(matches!(socket.send(b"x", now), Delivery::Accepted));
        socket.connect().unwrap();
        assert!(matches!(socket.link, Link::Up(_)));
        assert_ne!(port(&socket).as_socket(), old.as_socket());
    }
}
