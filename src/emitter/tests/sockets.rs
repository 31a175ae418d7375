//! Real sockets on loopback, real children; time is an argument.

use std::fs;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};

use arctos_worker::shared::log::LogFormat;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tempfile::NamedTempFile;

use super::refusals::await_answer;
use super::*;

const INTERVAL: Duration = Duration::from_secs(2);

/// An emitter, its scene, its log and its clock.
struct Stage {
    scene: Snapshot,
    emitter: Emitter,
    log: NamedTempFile,
    now: Instant,
}

impl Stage {
    fn new(statsd: &Statsd) -> Self {
        Self::resolving(statsd, resolver::resolve)
    }

    fn resolving(statsd: &Statsd, resolve: Resolve) -> Self {
        let file = NamedTempFile::new().unwrap();
        let log = Log::new(Level::Debug, LogFormat::Text, file.reopen().unwrap().into());
        let now = Instant::now();
        let emitter = Emitter::resolving(statsd, log, resolve, now);
        Self { scene: Snapshot::new(), emitter, log: file, now }
    }

    fn turn(&mut self) {
        if self.emitter.begins_flush(self.now) {
            self.scene.read();
        }
        let Snapshot { totals, gauges, scoreboard } = &self.scene;
        self.emitter.turn(totals, gauges, &scoreboard.header().counters, self.now);
    }

    /// One interval passes, and what is due in it happens.
    fn flush(&mut self) {
        self.now += INTERVAL;
        self.turn();
        while let Pace::Sending { resume } = self.emitter.pace {
            self.now = resume;
            self.turn();
        }
    }

    /// Flushes for long enough that an agent counts as back.
    fn settle(&mut self) {
        let end = self.now + SETTLED + 2 * INTERVAL;
        while self.now < end {
            self.flush();
        }
    }

    fn finish(&mut self, patience: Duration) {
        let counters = self.scene.counters();
        let (totals, gauges) = self.scene.read();
        self.emitter.finish(totals, gauges, counters, patience);
    }

    /// Turns until the running lookup has ended.
    fn hear_lookup(&mut self) {
        while let Some(words) = self.emitter.awaited() {
            let mut fds = [PollFd::new(words, PollFlags::POLLIN)];
            assert_eq!(poll(&mut fds, PollTimeout::from(30_000_u16)), Ok(1), "it is running");
            self.turn();
        }
    }

    /// The log's lines with this event.
    fn logged(&self, event: &str) -> Vec<String> {
        let text = fs::read_to_string(self.log.path()).unwrap();
        let lines = text.lines().filter(|line| line.split(' ').any(|word| word == event));
        lines.map(str::to_owned).collect()
    }

    /// What arrives is what was counted of `req.done`.
    fn assert_told(&self, received: &[String], n: u64) {
        assert_eq!(done(&sums(received)), n);
    }

    fn count(&self, n: u64) {
        self.scene.worker(0).counters.add(Counter::ReqDone, n);
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

/// Sums of counters by name and tags.
type Sums = BTreeMap<String, u64>;

const DROPPED: &str = "arctos.statsd.dropped|#zone:x,app:y";

fn sums(received: &[String]) -> Sums {
    counted(received.iter().flat_map(|datagram| datagram.lines()))
}

/// Everybody's `req.done`.
fn done(sums: &Sums) -> u64 {
    let done = sums.iter().filter(|(name, _)| name.starts_with("arctos.req.done"));
    done.map(|(_, n)| n).sum()
}

/// Receives until that is true, and what is there besides. What was sent may still be on its way
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

/// The datagrams that say so much of `req.done`.
fn told(agent: &UdpSocket, n: u64) -> Vec<String> {
    let mut received = Vec::new();
    receive_until(agent, &mut received, |sums| done(sums) >= n);
    received
}

/// How many datagrams have come, at least as many as are expected.
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
    assert_eq!(poll(&mut fds, PollTimeout::from(30_000_u16)), Ok(1), "nothing comes");
}

/// Everything that is there.
fn drain(receive: impl Fn(&mut [u8]) -> io::Result<usize>) -> Vec<String> {
    let mut buffer = [0; 65536];
    let mut all = Vec::new();
    while let Ok(n) = receive(&mut buffer) {
        all.push(String::from_utf8(buffer[..n].to_vec()).unwrap());
    }
    all
}

#[test]
fn an_agent_that_comes_late_or_again_misses_nothing_and_is_told_of_once() {
    let (agent, address) = sink();
    drop(agent);
    let mut stage = Stage::new(&Statsd { target: udp(address), ..tagged() });
    for _ in 0..3 {
        stage.count(5);
        stage.flush();
    }
    assert_eq!(stage.scene.dropped(), 3);
    let agent = UdpSocket::bind(address).unwrap();
    agent.set_nonblocking(true).unwrap();
    stage.settle();
    let mut received = told(&agent, 15);
    stage.assert_told(&received, 15);
    drop(agent);
    stage.count(2);
    stage.flush();
    let agent = UdpSocket::bind(address).unwrap();
    agent.set_nonblocking(true).unwrap();
    stage.flush();
    stage.count(1);
    stage.settle();
    receive_until(&agent, &mut received, |sums| done(sums) == 18 && sums.get(DROPPED) == Some(&4));
    stage.assert_told(&received, 18);
    // The drops are counted, and told like anything else.
    assert_eq!(sums(&received)[DROPPED], 4);
    assert_eq!(stage.logged("statsd.unreachable").len(), 2);
    assert!(stage.logged("statsd.unreachable")[0].contains(&address.to_string()));
    assert_eq!(stage.logged("statsd.reachable").len(), 2);
}

#[test]
fn an_agent_that_comes_and_goes_is_one_line_until_it_stays() {
    let (agent, address) = sink();
    drop(agent);
    let mut stage = Stage::new(&Statsd { target: udp(address), ..tagged() });
    for _ in 0..20 {
        stage.count(1);
        stage.flush();
        let agent = UdpSocket::bind(address).unwrap();
        stage.flush();
        drop(agent);
    }
    assert_eq!(stage.logged("statsd.unreachable").len(), 1);
    assert_eq!(stage.logged("statsd.reachable").len(), 0);
    let _agent = UdpSocket::bind(address).unwrap();
    stage.count(1);
    stage.settle();
    assert_eq!(stage.logged("statsd.unreachable").len(), 1);
    assert_eq!(stage.logged("statsd.reachable").len(), 1);
}

#[test]
fn what_turns_out_to_be_lost_one_flush_late_is_sent_again() {
    let (agent, address) = sink();
    let mut stage = Stage::new(&Statsd { target: udp(address), ..tagged() });
    stage.count(5);
    stage.flush();
    stage.assert_told(&told(&agent, 5), 5);
    stage.count(7);
    stage.flush();
    await_datagram(&agent);
    drop(agent); // Unread.
    // Another host's answer comes when nobody looks, as that to this datagram does.
    let socket = stage.emitter.socket.socket().unwrap();
    socket.send(b"x").unwrap();
    await_answer(socket); // A datagram that is still on its way would find the next agent.
    let agent = UdpSocket::bind(address).unwrap();
    agent.set_nonblocking(true).unwrap();
    stage.flush();
    stage.assert_told(&told(&agent, 7), 7);
    assert_eq!(stage.scene.dropped(), 1);
    assert_eq!(stage.logged("statsd.unreachable").len(), 1);
}

#[test]
fn an_answer_of_this_host_that_is_late_takes_back_what_was_sent_before_it() {
    let (agent, address) = sink();
    let mut stage = Stage::new(&Statsd { target: udp(address), ..tagged() });
    count_a_lot(&stage.scene, 40); // All of it fits into the agent's receive buffer.
    stage.now += INTERVAL;
    stage.turn();
    assert_eq!(datagrams(&agent, UDP_BURST), UDP_BURST);
    drop(agent); // What it has read dies with it.
    // The answer to the burst's last datagram, as far as the emitter can tell.
    let socket = stage.emitter.socket.socket().unwrap();
    socket.send(b"x").unwrap();
    await_answer(socket);
    let agent = UdpSocket::bind(address).unwrap();
    agent.set_nonblocking(true).unwrap();
    stage.flush();
    stage.flush();
    stage.assert_told(&told(&agent, 40), 40);
}

#[test]
fn an_agent_of_ipv6_is_reached_where_there_is_ipv6() {
    let Ok(agent) = UdpSocket::bind("[::1]:0") else { return };
    agent.set_nonblocking(true).unwrap();
    let mut stage = Stage::new(&Statsd { target: udp(agent.local_addr().unwrap()), ..tagged() });
    stage.count(3);
    stage.flush();
    stage.assert_told(&told(&agent, 3), 3);
}

/// A flush of more datagrams than the queue of a unix socket holds.
fn count_a_lot(scene: &Snapshot, slots: u16) {
    for slot in 0..slots {
        for counter in Counter::ALL {
            scene.worker(slot).counters.inc(counter);
        }
    }
}

#[test]
fn a_unix_agent_that_does_not_read_gets_the_rest_when_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let agent = UnixDatagram::bind(&path).unwrap();
    agent.set_nonblocking(true).unwrap();
    let mut stage = Stage::new(&Statsd { target: Target::Unix(path), ..tagged() });
    // The agent's queue may hold hundreds, so several flushes.
    let mut lots = 0;
    while stage.scene.dropped() == 0 {
        lots += 1;
        count_a_lot(&stage.scene, 80);
        stage.flush();
    }
    let mut received = drain(|buffer| agent.recv(buffer));
    assert!(received.iter().all(|datagram| datagram.len() <= UNIX_BYTES));
    while stage.logged("statsd.reachable").is_empty() {
        stage.flush();
        received.extend(drain(|buffer| agent.recv(buffer)));
    }
    stage.assert_told(&received, 80 * lots);
    assert_eq!(stage.logged("statsd.unreachable").len(), 1);
}

#[test]
fn a_unix_agent_that_was_started_again_is_connected_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let mut stage = Stage::new(&Statsd { target: Target::Unix(path.clone()), ..tagged() });
    stage.count(1);
    stage.flush(); // ENOENT
    let mut received = Vec::new();
    for _ in 0..2 {
        let agent = UnixDatagram::bind(&path).unwrap();
        agent.set_nonblocking(true).unwrap();
        stage.count(1);
        stage.flush();
        received.extend(drain(|buffer| agent.recv(buffer)));
        drop(agent);
        fs::remove_file(&path).unwrap();
        stage.count(1);
        stage.flush(); // ECONNREFUSED
    }
    let agent = UnixDatagram::bind(&path).unwrap();
    agent.set_nonblocking(true).unwrap();
    stage.flush();
    received.extend(drain(|buffer| agent.recv(buffer)));
    stage.assert_told(&received, 5);
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
    let mut stage = Stage::new(&Statsd { target, ..tagged() });
    stage.count(4);
    stage.flush();
    stage.assert_told(&drain(|buffer| agent.recv(buffer)), 4);
}

#[test]
fn a_name_is_looked_up_and_its_second_address_tried() {
    let (agent, address) = sink();
    let target = Target::Udp { host: "localhost".to_owned(), port: address.port() };
    let mut stage = Stage::new(&Statsd { target, ..tagged() });
    assert_eq!(stage.emitter.next_deadline(), stage.now);
    stage.turn();
    stage.hear_lookup();
    stage.count(6);
    // `::1` may be the first, where nobody listens.
    stage.flush();
    stage.flush();
    stage.assert_told(&told(&agent, 6), 6);
    assert_eq!(stage.logged("statsd.lookup_failed").len(), 0);
}

#[test]
fn where_nobody_is_at_a_names_first_address_the_others_are_tried_at_once() {
    let (agent, address) = sink();
    let resolve: Resolve =
        |_, port| Ok([2, 3, 1].map(|host| SocketAddr::from(([127, 0, 0, host], port))).to_vec());
    let target = Target::Udp { host: "agent.test".to_owned(), port: address.port() };
    let mut stage = Stage::resolving(&Statsd { target, ..tagged() }, resolve);
    stage.turn();
    stage.hear_lookup();
    stage.count(3);
    stage.flush();
    stage.assert_told(&told(&agent, 3), 3);
    assert_eq!(stage.logged("statsd.unreachable").len(), 0);
    drop(agent);
    stage.count(1);
    stage.flush();
    assert_eq!(stage.logged("statsd.unreachable").len(), 1, "nobody is anywhere");
}

#[test]
fn a_lookup_that_hangs_is_killed_and_holds_up_nothing() {
    let hang: Resolve = |_, _| loop {
        nix::unistd::pause();
    };
    let target = Target::Udp { host: "nowhere.test".to_owned(), port: 9 };
    let mut stage = Stage::resolving(&Statsd { target, ..tagged() }, hang);
    stage.turn();
    assert!(stage.emitter.awaited().is_some());
    assert!(stage.emitter.child().is_some_and(crate::process::fork::wait::is_child));
    stage.count(1);
    stage.flush();
    stage.flush();
    assert!(stage.logged("statsd.unreachable")[0].contains("has not been looked up yet"));
    stage.flush(); // Six seconds: it is killed.
    stage.hear_lookup();
    assert!(stage.logged("statsd.lookup_failed")[0].contains("no answer in 5s"));
    assert_eq!(stage.logged("statsd.unreachable").len(), 1);
    // The next one does not start at once.
    assert_eq!(stage.emitter.socket.next_deadline(), Some(stage.now + Duration::from_secs(5)));
}

#[test]
fn while_a_name_cannot_be_looked_up_again_its_address_goes_on_being_used() {
    let (agent, address) = sink();
    // A child sees what stood here when it was forked.
    static IS_GONE: AtomicBool = AtomicBool::new(false);
    let resolve: Resolve = |_, port| match IS_GONE.load(Ordering::SeqCst) {
        false => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
        true => Err(io::Error::other("no such host")),
    };
    let mut stage = Stage::resolving(
        &Statsd {
            target: Target::Udp { host: "agent.test".to_owned(), port: address.port() },
            ..tagged()
        },
        resolve,
    );
    stage.turn();
    stage.hear_lookup();
    stage.count(1);
    stage.flush();
    stage.assert_told(&told(&agent, 1), 1);
    IS_GONE.store(true, Ordering::SeqCst);
    stage.now += Duration::from_secs(30);
    stage.turn();
    stage.hear_lookup();
    assert_eq!(stage.logged("statsd.lookup_failed").len(), 1);
    stage.count(2);
    stage.flush();
    let received = told(&agent, 2);
    stage.assert_told(&received, 2);
    assert_eq!(stage.logged("statsd.unreachable").len(), 0);
}

#[test]
fn a_long_flush_is_sent_in_bursts() {
    let (agent, address) = sink();
    let mut stage = Stage::new(&Statsd { target: udp(address), ..tagged() });
    count_a_lot(&stage.scene, 80);
    stage.now += INTERVAL;
    stage.turn();
    assert_eq!(datagrams(&agent, UDP_BURST), UDP_BURST);
    assert_eq!(stage.emitter.next_deadline(), stage.now + PAUSE);
    stage.turn(); // Too early.
    assert_eq!(drain(|buffer| agent.recv(buffer)).len(), 0);
    stage.now += PAUSE;
    stage.turn();
    assert_eq!(datagrams(&agent, UDP_BURST), UDP_BURST);
    assert!(!stage.emitter.begins_flush(stage.now + 2 * INTERVAL), "one is on its way");
}

#[test]
fn flushes_do_not_drift_and_do_not_come_in_bursts() {
    let (agent, address) = sink();
    let mut stage = Stage::new(&Statsd { target: udp(address), ..tagged() });
    let start = stage.now;
    stage.count(1);
    stage.now = start + INTERVAL + Duration::from_millis(3);
    stage.turn();
    assert_eq!(stage.emitter.next_deadline(), start + 2 * INTERVAL);
    stage.now = start + Duration::from_millis(61_500); // It was suspended.
    stage.turn();
    assert_eq!(stage.emitter.next_deadline(), start + Duration::from_secs(62));
    assert!(!stage.emitter.begins_flush(stage.now));
    assert_eq!(datagrams(&agent, 1), 1);
}

#[test]
fn the_last_flush_goes_out_at_once_whatever_is_due() {
    // All of it fits into the agent's receive buffer.
    let (agent, address) = sink();
    let mut stage = Stage::new(&Statsd { target: udp(address), ..tagged() });
    count_a_lot(&stage.scene, 40);
    stage.now += INTERVAL;
    stage.turn(); // The first burst; the rest is part of the last flush.
    count_a_lot(&stage.scene, 40);
    let mut received = drain(|buffer| agent.recv(buffer));
    stage.finish(Duration::from_secs(30));
    receive_until(&agent, &mut received, |sums| done(sums) == 80);
    stage.assert_told(&received, 80);
    assert!(received.iter().all(|datagram| datagram.len() <= UDP_BYTES));
}

#[test]
fn the_last_flush_waits_for_a_first_lookup() {
    let (agent, address) = sink();
    let target = Target::Udp { host: "localhost".to_owned(), port: address.port() };
    let mut stage = Stage::new(&Statsd { target, ..tagged() });
    stage.turn();
    stage.count(8);
    stage.finish(Duration::from_secs(30));
    stage.assert_told(&told(&agent, 8), 8);
    assert_eq!(stage.logged("statsd.last_flush_cut").len(), 0);
}

#[test]
fn the_last_flush_asks_once_more_for_a_name_that_was_not_found() {
    let (agent, address) = sink();
    static IS_THERE: AtomicBool = AtomicBool::new(false);
    let resolve: Resolve = |_, port| match IS_THERE.load(Ordering::SeqCst) {
        true => Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))]),
        false => Err(io::Error::other("no such host")),
    };
    let target = Target::Udp { host: "agent.test".to_owned(), port: address.port() };
    let mut stage = Stage::resolving(&Statsd { target, ..tagged() }, resolve);
    stage.turn();
    stage.hear_lookup();
    assert_eq!(stage.logged("statsd.lookup_failed").len(), 1);
    IS_THERE.store(true, Ordering::SeqCst);
    stage.count(8);
    stage.finish(Duration::from_secs(30));
    stage.assert_told(&told(&agent, 8), 8);
}

#[test]
fn the_last_flush_waits_for_an_agent_that_reads_and_gives_up_on_one_that_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let agent = UnixDatagram::bind(&path).unwrap();
    let fill = |stage: &mut Stage| {
        let dropped = stage.scene.dropped();
        while stage.scene.dropped() == dropped {
            count_a_lot(&stage.scene, 80);
            stage.flush();
        }
    };
    let mut stage = Stage::new(&Statsd { target: Target::Unix(path), ..tagged() });
    fill(&mut stage);
    stage.finish(Duration::from_millis(1));
    assert!(stage.logged("statsd.last_flush_cut")[0].contains("there is no time left"));
    agent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let counted: u64 =
        stage.scene.totals.slots().map(|(_, totals)| totals.count(Counter::ReqDone)).sum();
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
    stage.finish(Duration::from_secs(30));
    let end = UnixDatagram::unbound().unwrap();
    end.send_to(b"end", folder.path().join("agent.sock")).unwrap();
    stage.assert_told(&reader.join().unwrap(), counted);
    assert_eq!(stage.logged("statsd.last_flush_cut").len(), 1);
}
