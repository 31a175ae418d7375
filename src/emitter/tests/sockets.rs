//! Tests with real sockets on loopback and real helper processes; time is an argument.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};

use arctos_worker::shared::log::LogFormat;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::NamedTempFile;

use super::refusals::{agent_that_closes, await_error, close};
use super::*;

const INTERVAL: Duration = Duration::from_secs(2);

/// An emitter with its scoreboard, its log and its clock.
struct Setup {
    fixture: Fixture,
    emitter: Emitter,
    log: NamedTempFile,
    now: Instant,
}

impl Setup {
    fn new(statsd: &Statsd) -> Self {
        Self::resolving(statsd, resolver::resolve)
    }

    fn resolving(statsd: &Statsd, resolve: Resolve) -> Self {
        let file = NamedTempFile::new().unwrap();
        let log = Log::new(Level::Debug, LogFormat::Text, file.reopen().unwrap().into());
        let now = Instant::now();
        let emitter = Emitter::resolving(statsd, log, resolve, now);
        Self { fixture: Fixture::new(), emitter, log: file, now }
    }

    fn turn(&mut self) {
        if self.emitter.begins_flush(self.now) {
            self.fixture.read();
        }
        let Fixture { totals, gauges, scoreboard } = &self.fixture;
        self.emitter.turn(totals, gauges, &scoreboard.header().counters, self.now);
    }

    /// Lets one interval pass, and takes the turns that are due.
    fn flush(&mut self) {
        self.now += INTERVAL;
        self.turn();
        while let FlushState::Sending { resume } = self.emitter.state {
            self.now = resume;
            self.turn();
        }
    }

    /// Flushes for long enough that an agent counts as reachable again.
    fn settle(&mut self) {
        let end = self.now + SETTLED + 2 * INTERVAL;
        while self.now < end {
            self.flush();
        }
    }

    fn finish(&mut self, timeout: Duration) {
        let counters = self.fixture.counters();
        let (totals, gauges) = self.fixture.read();
        self.emitter.finish(totals, gauges, counters, timeout);
    }

    /// Takes turns until the running lookup has ended.
    fn finish_lookup(&mut self) {
        while let Some(output) = self.emitter.poll_fd() {
            let mut fds = [PollFd::new(output, PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PollTimeout::from(30_000_u16)), Ok(1), "the lookup runs");
            self.turn();
        }
    }

    /// The log lines with this event.
    fn logged(&self, event: &str) -> Vec<String> {
        let text = fs::read_to_string(self.log.path()).unwrap();
        let lines = text.lines().filter(|line| line.split(' ').any(|field| field == event));
        lines.map(str::to_owned).collect()
    }

    /// Asserts that `req.done` arrived completely.
    fn assert_received(&self, received: &[String], n: u64) {
        assert_eq!(done(&sums(received)), n);
    }

    fn count(&self, n: u64) {
        self.fixture.worker(0).counters.add(Counter::ReqDone, n);
    }
}

fn udp(address: SocketAddr) -> Target {
    Target::Udp { host: address.ip().to_string(), port: address.port() }
}

fn sink() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// The sums of counters by name and tags.
type Sums = BTreeMap<String, u64>;

const DROPPED: &str = "arctos.statsd.dropped|#zone:x,app:y";

fn sums(received: &[String]) -> Sums {
    counted(received.iter().flat_map(|datagram| datagram.lines()))
}

/// The `req.done` of all workers.
fn done(sums: &Sums) -> u64 {
    let done = sums.iter().filter(|(name, _)| name.starts_with("arctos.req.done"));
    done.map(|(_, n)| n).sum()
}

/// Receives until the condition holds, and then everything else that has arrived. Datagrams may be delayed
/// ([`super::refusals`]).
fn receive_until(agent: &UdpSocket, received: &mut Vec<String>, is_all: impl Fn(&Sums) -> bool) {
    loop {
        received.extend(drain(|buffer| agent.recv(buffer)));
        if is_all(&sums(received)) {
            return;
        }
        await_datagram(agent);
    }
}

/// Receives the datagrams with `n` of `req.done`.
fn received(agent: &UdpSocket, n: u64) -> Vec<String> {
    let mut received = Vec::new();
    receive_until(agent, &mut received, |sums| done(sums) >= n);
    received
}

/// The number of datagrams that have arrived, at least as many as expected.
fn datagrams(agent: &UdpSocket, expected: usize) -> usize {
    let mut count = 0;
    while count < expected {
        await_datagram(agent);
        count += drain(|buffer| agent.recv(buffer)).len();
    }
    count
}

fn await_datagram(agent: &UdpSocket) {
    let mut fds = [PollFd::new(agent.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(30_000_u16)), Ok(1), "nothing arrives");
}

/// Receives everything that has arrived.
fn drain(receive: impl Fn(&mut [u8]) -> io::Result<usize>) -> Vec<String> {
    let mut buffer = [0; 65536];
    let mut all = Vec::new();
    while let Ok(n) = receive(&mut buffer) {
        all.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
    }
    all
}

#[test]
fn an_agent_that_starts_late_or_restarts_misses_nothing() {
    let (agent, address) = agent_that_closes();
    close(agent);
    let mut setup = Setup::new(&Statsd { target: udp(address), ..tagged() });
    for _ in 0..3 {
        setup.count(5);
        setup.flush();
    }
    assert_eq!(setup.fixture.dropped(), 3);
    let agent = UdpSocket::bind(address).unwrap();
    agent.set_nonblocking(true).unwrap();
    setup.settle();
    let mut received = received(&agent, 15);
    setup.assert_received(&received, 15);
    close(agent);
    setup.count(2);
    setup.flush();
    let agent = UdpSocket::bind(address).unwrap();
    agent.set_nonblocking(true).unwrap();
    setup.flush();
    setup.count(1);
    setup.settle();
    receive_until(&agent, &mut received, |sums| done(sums) == 18 && sums.get(DROPPED) == Some(&4));
    setup.assert_received(&received, 18);
    // The dropped datagrams are counted, and sent like any other counter.
    assert_eq!(sums(&received)[DROPPED], 4);
    assert_eq!(setup.logged("statsd.unreachable").len(), 2);
    assert!(setup.logged("statsd.unreachable")[0].contains(&address.to_string()));
    assert_eq!(setup.logged("statsd.reachable").len(), 2);
}

#[test]
fn an_agent_that_comes_and_goes_is_logged_once_until_it_stays() {
    let (agent, address) = agent_that_closes();
    close(agent);
    let mut setup = Setup::new(&Statsd { target: udp(address), ..tagged() });
    for _ in 0..20 {
        setup.count(1);
        setup.flush();
        let agent = UdpSocket::bind(address).unwrap();
        setup.flush();
        close(agent);
    }
    assert_eq!(setup.logged("statsd.unreachable").len(), 1);
    assert_eq!(setup.logged("statsd.reachable").len(), 0);
    let _agent = UdpSocket::bind(address).unwrap();
    setup.count(1);
    setup.settle();
    assert_eq!(setup.logged("statsd.unreachable").len(), 1);
    assert_eq!(setup.logged("statsd.reachable").len(), 1);
}

#[test]
fn a_flush_that_turns_out_to_be_lost_is_sent_again() {
    let (agent, address) = agent_that_closes();
    let mut setup = Setup::new(&Statsd { target: udp(address), ..tagged() });
    setup.count(5);
    setup.flush();
    setup.assert_received(&received(&agent, 5), 5);
    setup.count(7);
    setup.flush();
    await_datagram(&agent);
    close(agent); // Its datagrams stay unread.
    // The error from another host arrives between two flushes, as the one for this datagram does.
    let socket = setup.emitter.socket.socket().unwrap();
    socket.send(b"x").unwrap();
    await_error(socket); // A delayed datagram would reach the next agent.
    let agent = UdpSocket::bind(address).unwrap();
    agent.set_nonblocking(true).unwrap();
    setup.flush();
    setup.assert_received(&received(&agent, 7), 7);
    assert_eq!(setup.fixture.dropped(), 1);
    assert_eq!(setup.logged("statsd.unreachable").len(), 1);
}

#[test]
fn a_late_error_of_this_host_rolls_back_earlier_datagrams() {
    let (agent, address) = agent_that_closes();
    let mut setup = Setup::new(&Statsd { target: udp(address), ..tagged() });
    count_a_lot(&setup.fixture, 40); // All of it fits into the agent's receive buffer.
    setup.now += INTERVAL;
    setup.turn();
    assert_eq!(datagrams(&agent, UDP_BURST), UDP_BURST);
    close(agent); // The datagrams that it has read are lost with it.
    // To the emitter this looks like the error for the last datagram of the burst.
    let socket = setup.emitter.socket.socket().unwrap();
    socket.send(b"x").unwrap();
    await_error(socket);
    let agent = UdpSocket::bind(address).unwrap();
    agent.set_nonblocking(true).unwrap();
    setup.flush();
    setup.flush();
    setup.assert_received(&received(&agent, 40), 40);
}

#[test]
fn an_agent_is_reached_over_ipv6() {
    let Ok(agent) = UdpSocket::bind("[::1]:0") else { return };
    agent.set_nonblocking(true).unwrap();
    let mut setup = Setup::new(&Statsd { target: udp(agent.local_addr().unwrap()), ..tagged() });
    setup.count(3);
    setup.flush();
    setup.assert_received(&received(&agent, 3), 3);
}

/// Counts enough for more datagrams than the queue of a unix socket holds.
fn count_a_lot(fixture: &Fixture, slots: u16) {
    for slot in 0..slots {
        for counter in Counter::ALL {
            fixture.worker(slot).counters.inc(counter);
        }
    }
}

#[test]
fn a_slow_unix_agent_gets_the_rest_later() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let agent = UnixDatagram::bind(&path).unwrap();
    agent.set_nonblocking(true).unwrap();
    let mut setup = Setup::new(&Statsd { target: Target::Unix(path), ..tagged() });
    // The agent's queue may hold hundreds, so several flushes.
    let mut lots = 0;
    while setup.fixture.dropped() == 0 {
        lots += 1;
        count_a_lot(&setup.fixture, 80);
        setup.flush();
    }
    let mut received = drain(|buffer| agent.recv(buffer));
    assert!(received.iter().all(|datagram| datagram.len() <= UNIX_BYTES));
    while setup.logged("statsd.reachable").is_empty() {
        setup.flush();
        received.extend(drain(|buffer| agent.recv(buffer)));
    }
    setup.assert_received(&received, 80 * lots);
    assert_eq!(setup.logged("statsd.unreachable").len(), 1);
}

#[test]
fn a_restarted_unix_agent_is_connected_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let mut setup = Setup::new(&Statsd { target: Target::Unix(path.clone()), ..tagged() });
    setup.count(1);
    setup.flush(); // ENOENT
    let mut received = Vec::new();
    for _ in 0..2 {
        let agent = UnixDatagram::bind(&path).unwrap();
        agent.set_nonblocking(true).unwrap();
        setup.count(1);
        setup.flush();
        received.extend(drain(|buffer| agent.recv(buffer)));
        drop(agent);
        fs::remove_file(&path).unwrap();
        setup.count(1);
        setup.flush(); // ECONNREFUSED
    }
    let agent = UnixDatagram::bind(&path).unwrap();
    agent.set_nonblocking(true).unwrap();
    setup.flush();
    received.extend(drain(|buffer| agent.recv(buffer)));
    setup.assert_received(&received, 5);
}

#[test]
fn an_abstract_name_is_written_with_an_at_sign() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    let name = format!("arctos-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let agent = UnixDatagram::bind_addr(&address).unwrap();
    agent.set_nonblocking(true).unwrap();
    let target = Target::Unix(format!("@{name}").into());
    let mut setup = Setup::new(&Statsd { target, ..tagged() });
    setup.count(4);
    setup.flush();
    setup.assert_received(&drain(|buffer| agent.recv(buffer)), 4);
}

#[test]
fn a_name_is_looked_up_and_its_second_address_is_tried() {
    let (agent, address) = sink();
    let target = Target::Udp { host: "localhost".to_owned(), port: address.port() };
    let mut setup = Setup::new(&Statsd { target, ..tagged() });
    assert_eq!(setup.emitter.next_deadline(), setup.now);
    setup.turn();
    setup.finish_lookup();
    setup.count(6);
    // `::1` may be the first address, where no agent listens.
    setup.flush();
    setup.flush();
    setup.assert_received(&received(&agent, 6), 6);
    assert_eq!(setup.logged("statsd.lookup_failed").len(), 0);
}

#[test]
fn after_a_refusal_the_other_addresses_are_tried_at_once() {
    let (agent, address) = agent_that_closes();
    // The name holds the agent's address. Nothing listens at the other two, which only this process uses.
    let resolve: Resolve = |name, port| {
        let ip: Ipv4Addr = name.strip_prefix("agent.").unwrap().parse().unwrap();
        let [first, second, third, last] = ip.octets();
        Ok([100, 101, 0].map(|more| ([first, second, third, last + more], port).into()).to_vec())
    };
    let target = Target::Udp { host: format!("agent.{}", address.ip()), port: address.port() };
    let mut setup = Setup::resolving(&Statsd { target, ..tagged() }, resolve);
    setup.turn();
    setup.finish_lookup();
    setup.count(3);
    setup.flush();
    setup.assert_received(&received(&agent, 3), 3);
    assert_eq!(setup.logged("statsd.unreachable").len(), 0);
    close(agent);
    setup.count(1);
    setup.flush();
    assert_eq!(setup.logged("statsd.unreachable").len(), 1, "no address has an agent");
}

#[test]
fn a_lookup_that_hangs_is_killed_and_delays_nothing() {
    let hang: Resolve = |_, _| loop {
        nix::unistd::pause();
    };
    let target = Target::Udp { host: "nowhere.test".to_owned(), port: 9 };
    let mut setup = Setup::resolving(&Statsd { target, ..tagged() }, hang);
    setup.turn();
    assert!(setup.emitter.poll_fd().is_some());
    assert!(setup.emitter.child().is_some_and(crate::process::fork::wait::is_child));
    setup.count(1);
    setup.flush();
    setup.flush();
    assert!(setup.logged("statsd.unreachable")[0].contains("has not been looked up yet"));
    setup.flush(); // After six seconds the lookup is killed.
    setup.finish_lookup();
    assert!(setup.logged("statsd.lookup_failed")[0].contains("no answer in 5s"));
    assert_eq!(setup.logged("statsd.unreachable").len(), 1);
    // The next lookup does not start at once.
    assert_eq!(setup.emitter.socket.next_deadline(), Some(setup.now + Duration::from_secs(5)));
}

#[test]
fn the_current_address_stays_in_use_while_lookups_fail() {
    let (agent, address) = sink();
    // The helper process sees the value at the time of its fork.
    static IS_GONE: AtomicBool = AtomicBool::new(false);
    let resolve: Resolve = |_, port| match IS_GONE.load(Ordering::SeqCst) {
        false => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
        true => Err(io::Error::other("no such host")),
    };
    let mut setup = Setup::resolving(
        &Statsd {
            target: Target::Udp { host: "agent.test".to_owned(), port: address.port() },
            ..tagged()
        },
        resolve,
    );
    setup.turn();
    setup.finish_lookup();
    setup.count(1);
    setup.flush();
    setup.assert_received(&received(&agent, 1), 1);
    IS_GONE.store(true, Ordering::SeqCst);
    setup.now += Duration::from_secs(30);
    setup.turn();
    setup.finish_lookup();
    assert_eq!(setup.logged("statsd.lookup_failed").len(), 1);
    setup.count(2);
    setup.flush();
    let received = received(&agent, 2);
    setup.assert_received(&received, 2);
    assert_eq!(setup.logged("statsd.unreachable").len(), 0);
}

#[test]
fn a_long_flush_is_sent_in_bursts() {
    let (agent, address) = sink();
    let mut setup = Setup::new(&Statsd { target: udp(address), ..tagged() });
    count_a_lot(&setup.fixture, 80);
    setup.now += INTERVAL;
    setup.turn();
    assert_eq!(datagrams(&agent, UDP_BURST), UDP_BURST);
    assert_eq!(setup.emitter.next_deadline(), setup.now + PAUSE);
    setup.turn(); // Too early.
    assert_eq!(drain(|buffer| agent.recv(buffer)).len(), 0);
    setup.now += PAUSE;
    setup.turn();
    assert_eq!(datagrams(&agent, UDP_BURST), UDP_BURST);
    assert!(!setup.emitter.begins_flush(setup.now + 2 * INTERVAL), "a flush is running");
}

#[test]
fn flushes_neither_drift_nor_pile_up() {
    let (agent, address) = sink();
    let mut setup = Setup::new(&Statsd { target: udp(address), ..tagged() });
    let start = setup.now;
    setup.count(1);
    setup.now = start + INTERVAL + Duration::from_millis(3);
    setup.turn();
    assert_eq!(setup.emitter.next_deadline(), start + 2 * INTERVAL);
    setup.now = start + Duration::from_millis(61_500); // The process was suspended.
    setup.turn();
    assert_eq!(setup.emitter.next_deadline(), start + Duration::from_secs(62));
    assert!(!setup.emitter.begins_flush(setup.now));
    assert_eq!(datagrams(&agent, 1), 1);
}

#[test]
fn the_last_flush_is_sent_at_once() {
    // All of it fits into the agent's receive buffer.
    let (agent, address) = sink();
    let mut setup = Setup::new(&Statsd { target: udp(address), ..tagged() });
    count_a_lot(&setup.fixture, 40);
    setup.now += INTERVAL;
    setup.turn(); // The first burst; the rest is part of the last flush.
    count_a_lot(&setup.fixture, 40);
    let mut received = drain(|buffer| agent.recv(buffer));
    setup.finish(Duration::from_secs(30));
    receive_until(&agent, &mut received, |sums| done(sums) == 80);
    setup.assert_received(&received, 80);
    assert!(received.iter().all(|datagram| datagram.len() <= UDP_BYTES));
}

#[test]
fn the_last_flush_waits_for_a_first_lookup() {
    let (agent, address) = sink();
    let target = Target::Udp { host: "localhost".to_owned(), port: address.port() };
    let mut setup = Setup::new(&Statsd { target, ..tagged() });
    setup.turn();
    setup.count(8);
    setup.finish(Duration::from_secs(30));
    setup.assert_received(&received(&agent, 8), 8);
    assert_eq!(setup.logged("statsd.last_flush_cut").len(), 0);
}

#[test]
fn the_last_flush_looks_up_an_unknown_name_once_more() {
    let (agent, address) = sink();
    static IS_THERE: AtomicBool = AtomicBool::new(false);
    let resolve: Resolve = |_, port| match IS_THERE.load(Ordering::SeqCst) {
        true => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
        false => Err(io::Error::other("no such host")),
    };
    let target = Target::Udp { host: "agent.test".to_owned(), port: address.port() };
    let mut setup = Setup::resolving(&Statsd { target, ..tagged() }, resolve);
    setup.turn();
    setup.finish_lookup();
    assert_eq!(setup.logged("statsd.lookup_failed").len(), 1);
    IS_THERE.store(true, Ordering::SeqCst);
    setup.count(8);
    setup.finish(Duration::from_secs(30));
    setup.assert_received(&received(&agent, 8), 8);
}

#[test]
fn the_last_flush_waits_for_an_agent_only_while_it_reads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("agent.sock");
    let agent = UnixDatagram::bind(&path).unwrap();
    let fill = |setup: &mut Setup| {
        let dropped = setup.fixture.dropped();
        while setup.fixture.dropped() == dropped {
            count_a_lot(&setup.fixture, 80);
            setup.flush();
        }
    };
    let mut setup = Setup::new(&Statsd { target: Target::Unix(path), ..tagged() });
    fill(&mut setup);
    setup.finish(Duration::from_millis(1));
    assert!(setup.logged("statsd.last_flush_cut")[0].contains("there is no time left"));
    agent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let counted: u64 =
        setup.fixture.totals.slots().map(|(_, totals)| totals.count(Counter::ReqDone)).sum();
    let reader = std::thread::spawn(move || {
        let mut received = Vec::new();
        let mut buffer = [0; 65536];
        loop {
            let n = agent.recv(&mut buffer).unwrap();
            if buffer[..n] == *b"end" {
                return received;
            }
            received.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
        }
    });
    setup.finish(Duration::from_secs(30));
    let end = UnixDatagram::unbound().unwrap();
    end.send_to(b"end", directory.path().join("agent.sock")).unwrap();
    setup.assert_received(&reader.join().unwrap(), counted);
    assert_eq!(setup.logged("statsd.last_flush_cut").len(), 1);
}
