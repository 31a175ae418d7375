//! The load generator: a connection sends the next write once the responses to its last one are complete.
//!
//! It polls without a pause. If it slept, the server's send(2) would have to wake it, which on a virtual machine is an
//! interrupt of another processor that costs microseconds. The server would pay for it with every response, unless it
//! holds responses back to send them at once.

use std::io::{self, Read};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use crate::histogram::Histogram;
use crate::response::{GOOD, Size};
use crate::workload::Workload;

/// When the load ends.
#[derive(Clone, Copy)]
pub(crate) enum Extent {
    /// After a fixed time.
    Time {
        /// The time before the measurement.
        warm_up: Duration,
        /// The duration of the measurement.
        measured: Duration,
    },
    /// After this number of requests, all of which are counted.
    Requests(u64),
}

/// What the generator does until there is an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It asks again, without a pause.
    Polling,
    /// It sleeps, as a client or a proxy does.
    Sleeping,
}

/// The results.
pub(crate) struct Report {
    /// Complete responses within the measurement.
    pub requests: u64,
    /// The duration of the measurement.
    pub measured: Duration,
    /// Complete responses in total.
    pub requests_in_all: u64,
    /// Connections that ended or failed before their response was complete, and responses that differ from the first.
    pub errors: u64,
    /// Requests without a response after [`LAST_RESPONSE_TIMEOUT`].
    pub unanswered: u64,
    /// The latency of each write, from its first byte to the end of its last response.
    pub latencies: Histogram,
    /// The part of the measurement in which this program had something to do.
    pub busy: Duration,
}

/// Time limit for the last responses, in case the server loses requests.
const LAST_RESPONSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Number of errors after which the load is aborted.
const MOST_ERRORS: u64 = 1000;

#[derive(Clone, Copy)]
enum Phase {
    WarmUp { until: Instant },
    Measuring { since: Instant },
    Draining { until: Instant },
}

#[derive(Clone, Copy)]
enum State {
    /// No response is expected.
    Idle,
    /// The rest of a write waits for EPOLLOUT, for room in the socket or for the connection to be established.
    Sending { write: usize, sent_bytes: usize, since: Instant },
    /// `missing_bytes` of the responses are missing.
    Receiving { missing_bytes: usize, since: Instant },
    /// The response is complete, but the server has not closed the connection yet.
    Closing,
}

struct Connection {
    socket: Socket,
    state: State,
}

struct Generator<'load> {
    server: SocketAddr,
    workload: &'load Workload,
    /// Size of the responses to one write.
    answer_bytes: usize,
    /// Whether the server closes the connection after each response.
    closes: bool,
    epoll: Epoll,
    waiting: Waiting,
    connections: Vec<Connection>,
    next_write: usize,
    /// Number of requests that may still be sent.
    left: Option<u64>,
    buffer: Vec<u8>,
    phase: Phase,
    report: Report,
}

/// Sends `workload` to `server` over `connections` connections. All responses have the size `size`.
pub(crate) fn run(
    server: SocketAddr,
    workload: &Workload,
    connections: usize,
    (extent, waiting): (Extent, Waiting),
    size: Size,
) -> io::Result<Report> {
    let now = Instant::now();
    let report = Report {
        requests: 0,
        measured: Duration::ZERO,
        requests_in_all: 0,
        errors: 0,
        unanswered: 0,
        latencies: Histogram::new(),
        busy: Duration::ZERO,
    };
    let mut generator = Generator {
        server,
        workload,
        answer_bytes: size.wire_bytes * workload.requests_per_write,
        closes: workload.closes || size.closes,
        waiting,
        epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
        connections: Vec::new(),
        next_write: 0,
        left: None,
        buffer: vec![0; 256 * 1024],
        phase: Phase::WarmUp { until: now },
        report,
    };
    for key in 0..connections {
        let socket = generator.open(key)?;
        generator.connections.push(Connection { socket, state: State::Idle });
    }
    let now = Instant::now();
    generator.phase = match extent {
        Extent::Time { warm_up, .. } => Phase::WarmUp { until: now + warm_up },
        Extent::Requests(count) => {
            generator.left = Some(count);
            Phase::Measuring { since: now }
        }
    };
    generator.work(extent)?;
    Ok(generator.report)
}

impl Generator<'_> {
    fn work(&mut self, extent: Extent) -> io::Result<()> {
        for key in 0..self.connections.len() {
            self.begin(key, Instant::now())?;
        }
        let mut events = vec![EpollEvent::empty(); 256];
        let mut now = Instant::now();
        loop {
            let count = match self.waiting {
                Waiting::Polling => self.epoll.wait(&mut events, EpollTimeout::ZERO)?,
                Waiting::Sleeping => {
                    let count = self.epoll.wait(&mut events, 50_u8)?;
                    now = Instant::now(); // The time before was slept.
                    count
                }
            };
            for event in &events[..count] {
                self.turn(event.data() as usize)?;
            }
            let began = std::mem::replace(&mut now, Instant::now());
            if count > 0 && matches!(self.phase, Phase::Measuring { .. }) {
                self.report.busy += now - began;
            }
            if self.is_over(extent, now) {
                return Ok(());
            }
        }
    }

    /// Enters the next phase when it is due.
    fn is_over(&mut self, extent: Extent, now: Instant) -> bool {
        match self.phase {
            Phase::WarmUp { until } => {
                if now >= until {
                    self.phase = Phase::Measuring { since: now };
                }
                false
            }
            Phase::Measuring { since } => {
                let enough = match extent {
                    Extent::Time { measured, .. } => now >= since + measured,
                    Extent::Requests(_) => self.unanswered() == 0,
                };
                if enough || self.report.errors >= MOST_ERRORS {
                    self.report.measured = now - since;
                    self.phase = Phase::Draining { until: now + LAST_RESPONSE_TIMEOUT };
                }
                false
            }
            Phase::Draining { until } => {
                self.report.unanswered = self.unanswered();
                self.report.unanswered == 0 || now >= until
            }
        }
    }

    fn unanswered(&self) -> u64 {
        let writes =
            self.connections.iter().filter(|connection| connection.state.is_awaited()).count();
        (writes * self.workload.requests_per_write) as u64
    }

    fn open(&self, key: usize) -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        socket.set_tcp_nodelay(true)?;
        match socket.connect(&self.server.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
                return Err(error);
            }
            Ok(()) | Err(_) => {}
        }
        self.epoll.add(&socket, EpollEvent::new(EpollFlags::EPOLLIN, key as u64))?;
        Ok(socket)
    }

    fn turn(&mut self, key: usize) -> io::Result<()> {
        match self.connections[key].state {
            // Everything is sent, and the server closes the connection.
            State::Idle => Ok(self.epoll.delete(&self.connections[key].socket)?),
            State::Sending { write, sent_bytes, since } => self.send(key, write, sent_bytes, since),
            State::Receiving { missing_bytes, since } => self.receive(key, missing_bytes, since),
            State::Closing => match self.connections[key].socket.read(&mut self.buffer) {
                Ok(0) => self.replace(key),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Ok(_) | Err(_) => self.fail(key),
            },
        }
    }

    /// Sends the next write, unless the load has ended.
    fn begin(&mut self, key: usize, now: Instant) -> io::Result<()> {
        self.connections[key].state = State::Idle;
        if matches!(self.phase, Phase::Draining { .. }) {
            return Ok(());
        }
        if let Some(left) = &mut self.left {
            let Some(fewer) = left.checked_sub(self.workload.requests_per_write as u64) else {
                return Ok(());
            };
            *left = fewer;
        }
        let write = self.next_write;
        self.next_write = (write + 1) % self.workload.writes.len();
        self.send(key, write, 0, now)
    }

    fn send(
        &mut self,
        key: usize,
        write: usize,
        sent_bytes: usize,
        since: Instant,
    ) -> io::Result<()> {
        let connection = &mut self.connections[key];
        let unsent = &self.workload.writes[write][sent_bytes..];
        let sent = match connection.socket.send(unsent) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return self.fail(key), // counted as an error of the server
        };
        let was_blocked = matches!(connection.state, State::Sending { .. });
        let is_blocked = sent < unsent.len();
        connection.state = if is_blocked {
            State::Sending { write, sent_bytes: sent_bytes + sent, since }
        } else {
            State::Receiving { missing_bytes: self.answer_bytes, since }
        };
        if is_blocked != was_blocked {
            let wanted = if is_blocked { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
            self.epoll.modify(&connection.socket, &mut EpollEvent::new(wanted, key as u64))?;
        }
        Ok(())
    }

    fn receive(&mut self, key: usize, missing_bytes: usize, since: Instant) -> io::Result<()> {
        let count = match self.connections[key].socket.read(&mut self.buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return self.fail(key), // counted as an error of the server
        };
        let is_first = missing_bytes == self.answer_bytes;
        let head = &self.buffer[..count.min(GOOD.len())];
        if count == 0 || count > missing_bytes || (is_first && !GOOD.starts_with(head)) {
            return self.fail(key);
        }
        let missing_bytes = missing_bytes - count;
        if missing_bytes > 0 {
            self.connections[key].state = State::Receiving { missing_bytes, since };
            return Ok(());
        }
        let now = Instant::now();
        let requests = self.workload.requests_per_write as u64;
        self.report.requests_in_all += requests;
        if matches!(self.phase, Phase::Measuring { .. }) {
            self.report.requests += requests;
            self.report.latencies.add(now - since);
        }
        if self.closes {
            self.connections[key].state = State::Closing;
            return Ok(());
        }
        self.begin(key, now)
    }

    /// Counts an error, and continues with a new connection.
    fn fail(&mut self, key: usize) -> io::Result<()> {
        self.report.errors += 1;
        self.connections[key].state = State::Idle;
        if self.report.errors < MOST_ERRORS {
            return self.replace(key);
        }
        Ok(self.epoll.delete(&self.connections[key].socket)?)
    }

    fn replace(&mut self, key: usize) -> io::Result<()> {
        let now = Instant::now();
        self.connections[key].socket = self.open(key)?;
        self.begin(key, now)
    }
}

impl State {
    /// Whether a response is still expected.
    fn is_awaited(self) -> bool {
        match self {
            Self::Sending { .. } | Self::Receiving { .. } => true,
            Self::Idle | Self::Closing => false,
        }
    }
}
