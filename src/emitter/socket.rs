//! The way to the agent: its address and a socket that is connected to it. Nothing here waits.
//!
//! Connected, because only then does the kernel tell that nobody is there (udp(7)): it answers at once
//! when the agent's place is this host and this host is not too busy, and one flush late otherwise.
//!
//! Two lives. The link is a socket: down, up, or stale, which is up until there is a new one. The search,
//! for names alone, is a lookup that runs or rests. While it runs, the link is used as ever; what it
//! finds makes the link stale. A new address list always gets a new socket, and with it a new port: what
//! a firewall remembers of the old one, such as which of several agents it leads to, may be out of date.

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

/// From one lookup to the next.
const REFRESH: Duration = Duration::from_secs(30);
/// The same, after a failure, or when nobody was there.
const RETRY: Duration = Duration::from_secs(5);

/// Why nothing can be sent.
#[derive(Debug, Error)]
pub(super) enum CarrierError {
    /// The first lookup has not ended.
    #[error("its name has not been looked up yet")]
    Unknown,
    /// It has, with nothing.
    #[error("its name cannot be looked up: {0}")]
    NotFound(String),
    /// No socket, or none that can be connected.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The kernel did not take a datagram, or heard that the agent did not.
    #[error("{0}")]
    Refused(io::Error),
    /// The agent's queue is full.
    #[error("it does not read what it is sent")]
    Full,
    /// It reads too slowly for what time there is.
    #[error("there is no time left")]
    Late,
}

/// What came of one datagram.
pub(super) enum Delivery {
    /// The kernel has it, and knows of nothing bad.
    Accepted,
    /// Not now: a queue is full.
    Full,
    /// It will not arrive.
    Refused {
        /// Why.
        error: CarrierError,
        /// The error is, or may be, that of datagrams before it.
        is_late: bool,
    },
}

/// See the module.
pub(super) struct StatsdSocket {
    destination: Destination,
    link: Link,
}

enum Destination {
    Unix(PathBuf),
    Address(SocketAddr),
    Name(Name),
}

enum Link {
    /// No socket.
    Down,
    /// A connected one.
    Up(Line),
    /// The same, to be replaced before the next flush.
    Stale(Line),
}

struct Line {
    socket: Socket,
    distance: Distance,
}

/// Where the other end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distance {
    /// A unix socket: send(2) itself finds it.
    Path,
    /// On this host: what comes back is there when send(2) returns, as a rule.
    Here,
    /// On another one: an error takes its time.
    Away,
}

struct Name {
    host: String,
    port: u16,
    resolve: Resolve,
    search: Search,
    /// What the last successful lookup found; first the one to use.
    addresses: Vec<SocketAddr>,
}

enum Search {
    /// The next one starts at `until`; the last one started at `since`, and failed for a reason or not.
    Resting { since: Option<Instant>, until: Instant, failure: Option<String> },
    /// A child looks it up.
    Running { since: Instant, lookup: Lookup },
}

impl StatsdSocket {
    /// Does nothing yet.
    ///
    /// A unix path that starts with `@` is an abstract name, as in `--bind`.
    pub(super) fn new(target: &Target, resolve: Resolve, now: Instant) -> Self {
        let destination = match target {
            Target::Unix(path) => Destination::Unix(path.clone()),
            Target::Udp { host, port } => match host.parse::<IpAddr>() {
                Ok(address) => Destination::Address(SocketAddr::new(address, *port)),
                Err(_) => Destination::Name(Name {
                    host: host.clone(),
                    port: *port,
                    resolve,
                    search: Search::Resting { since: None, until: now, failure: None },
                    addresses: Vec::new(),
                }),
            },
        };
        Self { destination, link: Link::Down }
    }

    /// When [`StatsdSocket::turn`] has something to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.destination {
            Destination::Unix(_) | Destination::Address(_) => None,
            Destination::Name(name) => match &name.search {
                Search::Resting { until, .. } => Some(*until),
                Search::Running { lookup, .. } => lookup.deadline(),
            },
        }
    }

    /// The child that looks the name up, if one is at work.
    pub(super) fn child(&self) -> Option<Pid> {
        match &self.destination {
            Destination::Unix(_) | Destination::Address(_) => None,
            Destination::Name(name) => match &name.search {
                Search::Resting { .. } => None,
                Search::Running { lookup, .. } => lookup.pid(),
            },
        }
    }

    /// Becomes readable when [`StatsdSocket::turn`] has something to do.
    pub(super) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        match &self.destination {
            Destination::Unix(_) | Destination::Address(_) => None,
            Destination::Name(name) => match &name.search {
                Search::Resting { .. } => None,
                Search::Running { lookup, .. } => lookup.awaited(),
            },
        }
    }

    /// Starts lookups and hears their ends; why one has failed.
    pub(super) fn turn(&mut self, now: Instant) -> Option<String> {
        let Destination::Name(name) = &mut self.destination else { return None };
        match name.turn(now) {
            Progress::Running => None,
            Progress::Failed(why) => Some(why),
            Progress::Found(_) => {
                self.link = match std::mem::replace(&mut self.link, Link::Down) {
                    Link::Down => Link::Down,
                    Link::Up(line) | Link::Stale(line) => Link::Stale(line),
                };
                None
            }
        }
    }

    /// An error that came after the last datagram was accepted. The link is down then.
    pub(super) fn late_error(&mut self, now: Instant) -> Option<CarrierError> {
        let (Link::Up(line) | Link::Stale(line)) = &self.link else { return None };
        // Reading it fails only if this is no socket.
        let error = line.socket.take_error().ok().flatten()?;
        self.fall(now);
        Some(CarrierError::Refused(error))
    }

    /// Connects, where there is no link or it is stale. A stale one stays if there is no better one.
    pub(super) fn connect(&mut self) -> Result<(), CarrierError> {
        if let Link::Up(_) = self.link {
            return Ok(());
        }
        let line = match &self.destination {
            Destination::Unix(path) => Line::to_path(path).map_err(CarrierError::Connect),
            Destination::Address(address) => {
                Line::to_address(*address).map_err(CarrierError::Connect)
            }
            Destination::Name(name) => name.connect(),
        };
        match (line, &self.link) {
            (Ok(line), _) => self.link = Link::Up(line),
            (Err(_), Link::Stale(_) | Link::Up(_)) => {}
            (Err(error), Link::Down) => return Err(error),
        }
        Ok(())
    }

    /// Hands over one datagram. After a refusal the link is down.
    pub(super) fn send(&mut self, datagram: &[u8], now: Instant) -> Delivery {
        let (Link::Up(line) | Link::Stale(line)) = &self.link else {
            let error = CarrierError::Connect(io::ErrorKind::NotConnected.into());
            return Delivery::Refused { error, is_late: false };
        };
        let (error, was_sent) = match line.socket.send(datagram) {
            // What came back at once is read at once; that there is nothing to read is what counts.
            Ok(_) => match line.answer() {
                Ok(None) => return Delivery::Accepted,
                Ok(Some(error)) | Err(error) => (error, true),
            },
            Err(error) => (error, false),
        };
        if is_full(&error) {
            return Delivery::Full;
        }
        let is_late = match line.distance {
            Distance::Path => false,
            // The kernel has handed the last datagrams over late (ksoftirqd), and their answer is found
            // where this one should have been sent.
            Distance::Here => !was_sent && error.kind() == io::ErrorKind::ConnectionRefused,
            Distance::Away => true,
        };
        self.fall(now);
        Delivery::Refused { error: CarrierError::Refused(error), is_late }
    }

    /// Waits until the socket takes datagrams again.
    pub(super) fn await_room(&self, patience: Duration) {
        if let Link::Up(line) | Link::Stale(line) = &self.link {
            wait(line.socket.as_fd(), PollFlags::POLLOUT, patience);
        }
    }

    /// Waits for a lookup, where there is no link without it; for one that starts now, if none runs.
    pub(super) fn await_address(&mut self, deadline: Instant) {
        if let Destination::Name(name) = &mut self.destination
            && name.addresses.is_empty()
        {
            name.ask_now(Instant::now());
        }
        loop {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            let Destination::Name(name) = &self.destination else { return };
            let Search::Running { lookup, .. } = &name.search else { return };
            if let Some(words) = lookup.awaited().filter(|_| name.addresses.is_empty()) {
                wait(words, PollFlags::POLLIN, left);
            }
            // More than once: it has ended when its words have, and those may come in parts. Why one
            // has failed is said by who finds no address.
            let _ = self.turn(now);
            let Destination::Name(name) = &self.destination else { return };
            if left.is_zero() || !name.addresses.is_empty() {
                return;
            }
        }
    }

    /// How many addresses there are to try.
    pub(super) fn address_count(&self) -> usize {
        match &self.destination {
            Destination::Unix(_) | Destination::Address(_) => 1,
            Destination::Name(name) => name.addresses.len(),
        }
    }

    /// What datagrams are sent through at present.
    pub(super) fn socket(&self) -> Option<&Socket> {
        match &self.link {
            Link::Up(line) | Link::Stale(line) => Some(&line.socket),
            Link::Down => None,
        }
    }

    /// The link was of no use.
    fn fall(&mut self, now: Instant) {
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

impl Name {
    /// Ends a rest.
    fn ask_now(&mut self, now: Instant) {
        if let Search::Resting { until, .. } = &mut self.search {
            *until = now;
            // Why it has failed is said by who finds no address.
            let _ = self.turn(now);
        }
    }

    fn turn(&mut self, now: Instant) -> Progress {
        match &mut self.search {
            Search::Resting { until, .. } if now < *until => Progress::Running,
            Search::Resting { .. } => {
                match Lookup::start(self.resolve, &self.host, self.port, now) {
                    Ok(lookup) => {
                        self.search = Search::Running { since: now, lookup };
                        Progress::Running
                    }
                    Err(error) => self.failed(now, now, error.to_string()),
                }
            }
            Search::Running { since, lookup } => {
                let since = *since;
                match lookup.turn(now) {
                    Progress::Running => Progress::Running,
                    Progress::Failed(why) => self.failed(since, now, why),
                    Progress::Found(addresses) => {
                        self.found(&addresses);
                        let until = now + REFRESH;
                        self.search = Search::Resting { since: Some(since), until, failure: None };
                        Progress::Found(addresses)
                    }
                }
            }
        }
    }

    fn failed(&mut self, since: Instant, now: Instant, why: String) -> Progress {
        let (since, until) = (Some(since), now + RETRY);
        self.search = Search::Resting { since, until, failure: Some(why.clone()) };
        Progress::Failed(why)
    }

    /// The address in use goes on being used, if it is still one.
    fn found(&mut self, addresses: &[SocketAddr]) {
        let used = self.addresses.first().copied();
        self.addresses = addresses.to_vec();
        let place = self.addresses.iter().position(|address| Some(*address) == used);
        self.addresses.rotate_left(place.unwrap_or(0));
    }

    /// To the first address that can be connected to.
    fn connect(&self) -> Result<Line, CarrierError> {
        let mut error = match &self.search {
            Search::Resting { failure: Some(why), .. } => CarrierError::NotFound(why.clone()),
            Search::Resting { failure: None, .. } | Search::Running { .. } => CarrierError::Unknown,
        };
        for address in &self.addresses {
            match Line::to_address(*address) {
                Ok(line) => return Ok(line),
                Err(why) => error = CarrierError::Connect(why),
            }
        }
        Err(error)
    }

    /// Nobody was there: the next one is tried, and soon it is asked who is. `localhost` may have two
    /// addresses and an agent on one.
    fn refused(&mut self, now: Instant) {
        if !self.addresses.is_empty() {
            self.addresses.rotate_left(1);
        }
        if let Search::Resting { since, until, .. } = &mut self.search {
            let soon = since.map_or(now, |since| now.max(since + RETRY));
            *until = soon.min(*until);
        }
    }
}

impl Line {
    fn to_path(path: &Path) -> io::Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => {
                let name = [b"\0", name].concat();
                SockAddr::unix(std::ffi::OsStr::from_bytes(&name))?
            }
            None => SockAddr::unix(path)?,
        };
        Ok(Self { socket: connected(Domain::UNIX, &address)?, distance: Distance::Path })
    }

    fn to_address(address: SocketAddr) -> io::Result<Self> {
        let socket = connected(Domain::for_address(address), &address.into())?;
        let own = socket.local_addr()?.as_socket().map(|own| own.ip());
        let is_here = address.ip().is_loopback() || own == Some(address.ip());
        Ok(Self { socket, distance: if is_here { Distance::Here } else { Distance::Away } })
    }

    /// The error that has come back for what was sent.
    fn answer(&self) -> io::Result<Option<io::Error>> {
        #[cfg(test)]
        super::tests::refusals::await_refusal(&self.socket);
        self.socket.take_error()
    }
}

/// A datagram socket, non-blocking and close-on-exec.
fn connected(domain: Domain, address: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), None)?;
    socket.connect(address)?;
    Ok(socket)
}

/// EAGAIN and ENOBUFS: the way is good, and full.
fn is_full(error: &io::Error) -> bool {
    let full = [nix::libc::EAGAIN, nix::libc::ENOBUFS];
    error.raw_os_error().is_some_and(|number| full.contains(&number))
}

fn wait(fd: BorrowedFd<'_>, flags: PollFlags, patience: Duration) {
    let ms = u16::try_from(patience.as_millis()).unwrap_or(u16::MAX);
    // Whether it is ready is seen by who tries; EINTR costs a part of the patience.
    let _ = poll(&mut [PollFd::new(fd, flags)], PollTimeout::from(ms));
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn never(_: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn carrier(host: &str, port: u16) -> StatsdSocket {
        let target = Target::Udp { host: host.to_owned(), port };
        StatsdSocket::new(&target, never, Instant::now())
    }

    fn nobody() -> SocketAddr {
        UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn literals_need_no_lookup_and_names_one_at_once() {
        for (host, shown) in [("127.0.0.1", "127.0.0.1:8125"), ("::1", "[::1]:8125")] {
            let carrier = carrier(host, 8125);
            assert_eq!(carrier.next_deadline(), None);
            assert_eq!(carrier.to_string(), shown);
        }
        let carrier = carrier("agent.test", 8125);
        assert!(carrier.next_deadline().is_some());
        assert_eq!(carrier.to_string(), "agent.test:8125");
    }

    #[test]
    fn an_error_from_this_host_is_that_of_its_datagram_and_one_from_afar_may_be_older() {
        for (distance, expected) in [(Distance::Here, false), (Distance::Away, true)] {
            let mut carrier = carrier("127.0.0.1", nobody().port());
            carrier.connect().unwrap();
            let Link::Up(line) = &mut carrier.link else { panic!("it is connected") };
            assert_eq!(line.distance, Distance::Here);
            line.distance = distance;
            let Delivery::Refused { is_late, .. } = carrier.send(b"x", Instant::now()) else {
                panic!("nobody is there")
            };
            assert_eq!(is_late, expected);
            assert!(matches!(carrier.link, Link::Down));
        }
    }

    fn name(addresses: &[SocketAddr], search: Search) -> Name {
        let addresses = addresses.to_vec();
        Name { host: "agent.test".to_owned(), port: 8125, resolve: never, search, addresses }
    }

    #[test]
    fn the_address_in_use_is_kept_while_it_is_one_and_left_when_nobody_is_there() {
        let now = Instant::now();
        let addresses = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let [first, second, third] = addresses;
        let search = Search::Resting { since: Some(now), until: now + REFRESH, failure: None };
        let mut name = name(&[first, second], search);
        name.refused(now + Duration::from_secs(1));
        assert_eq!(name.addresses, [second, first]);
        let Search::Resting { until, .. } = name.search else { panic!("no lookup runs") };
        assert_eq!(until, now + RETRY, "soon, and not at once");
        name.found(&[first, third, second]);
        assert_eq!(name.addresses[0], second);
        name.found(&[third, first]);
        assert_eq!(name.addresses[0], third);
    }

    #[test]
    fn new_addresses_get_a_new_socket_and_the_old_one_serves_until_then() {
        let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let now = Instant::now();
        let search = Search::Resting { since: Some(now), until: now + REFRESH, failure: None };
        let destination = Destination::Name(name(&[agent.local_addr().unwrap()], search));
        let mut carrier = StatsdSocket { destination, link: Link::Down };
        carrier.connect().unwrap();
        let Link::Up(line) = std::mem::replace(&mut carrier.link, Link::Down) else {
            panic!("it is connected")
        };
        let port = |carrier: &StatsdSocket| carrier.socket().unwrap().local_addr().unwrap();
        carrier.link = Link::Stale(line);
        let old = port(&carrier);
        assert!(matches!(carrier.send(b"x", now), Delivery::Accepted));
        carrier.connect().unwrap();
        assert!(matches!(carrier.link, Link::Up(_)));
        assert_ne!(port(&carrier).as_socket(), old.as_socket());
    }
}
