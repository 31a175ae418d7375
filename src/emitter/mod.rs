//! Sends metrics to a statsd agent: deltas and gauges become lines, and lines become datagrams.
//!
//! Nothing here blocks, and nothing starts a thread. A delta counts as sent once the kernel has accepted its datagram.
//! Until then it is part of the next flush.
//!
//! | file | owns |
//! |---|---|
//! | `collector` | the totals and gauges of a server, for the agent and for the admin socket |
//! | `format` | the format of lines, written by cadence |
//! | `distribution` | the values that represent a distribution |
//! | `packer` | lines to datagrams |
//! | `baseline` | the totals that were sent already |
//! | `compose` | the content of a flush |
//! | `in_flight` | the datagrams of a flush |
//! | `socket` | the agent's address and the socket |
//! | `series` | application metrics as lines |
//! | `source` | where the sums in a line come from |
//! | `unsent` | the totals that were not sent |
//! | `resolver` | name lookup in a helper process |
//!
//! Some losses cannot be detected: datagrams that a remote host drops silently, and datagrams that an agent had not
//! read when it died.
mod baseline;
pub mod collector;
mod compose;
mod distribution;
pub mod format;
mod in_flight;
mod packer;
mod resolver;
mod series;
mod socket;
mod source;
#[cfg(test)]
mod tests;
mod unsent;

use std::os::fd::BorrowedFd;
use std::thread;
use std::time::{Duration, Instant};

use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::scoreboard::{Counter, Counters};

use crate::metrics::statsd::{Statsd, Target};
use crate::metrics::{CarriedTotals, Gauges, Totals};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;
use compose::Composer;
use in_flight::InFlight;
use resolver::Resolve;
use socket::{Delivery, SendError, StatsdSocket};

/// Maximum size of a UDP datagram: what IPv6 and some further headers leave of the 1500 bytes of Ethernet. Statsd
/// clients use the same limit.
const UDP_BYTES: usize = 1432;
/// Maximum size of a datagram on a unix socket: that of DogStatsD's clients, and of its agent's buffer.
const UNIX_BYTES: usize = 8192;
/// Datagrams per burst: the usual receive buffer of a UDP socket (208 KB) holds about 90 of them.
const UDP_BURST: usize = 32;
/// Datagrams per burst: a unix socket holds 10 by default (net.unix.max_dgram_qlen).
const UNIX_BURST: usize = 8;
/// The pause between two bursts.
const PAUSE: Duration = Duration::from_millis(10);
/// How long flushes must succeed before the agent counts as reachable again. Otherwise an agent that comes and goes,
/// or that reads too slowly, would fill the log.
const SETTLED: Duration = Duration::from_secs(10);

/// Sends the metrics of a server to its agent.
pub struct Emitter {
    log: Log,
    interval: Duration,
    burst: usize,
    composer: Composer,
    in_flight: InFlight,
    socket: StatsdSocket,
    agent: AgentState,
    /// When the next flush begins.
    due: Instant,
    state: FlushState,
}

/// The state of the agent as the log reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AgentState {
    /// The agent is reachable, as far as this process knows.
    Reachable,
    /// A flush failed.
    Unreachable,
    /// Flushes succeed again; a late error may still arrive.
    Recovering { since: Instant },
}

/// The progress of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FlushState {
    /// No flush is running.
    Idle,
    /// A burst was sent, and the next one follows.
    Sending { resume: Instant },
}

/// The outcome of a burst.
enum Burst {
    /// The whole flush was accepted.
    Over,
    /// There are more datagrams.
    More,
    /// A queue is full.
    Full,
    /// The next datagram was refused.
    Refused { error: SendError, is_late: bool },
}

impl Emitter {
    /// Does no I/O yet; the first flush is due one interval after `now`.
    pub fn new(statsd: Statsd, log: Log, now: Instant) -> Self {
        Self::resolving(&statsd, log, resolver::resolve, now)
    }

    fn resolving(statsd: &Statsd, log: Log, resolve: Resolve, now: Instant) -> Self {
        let (limit_bytes, burst) = match statsd.target {
            Target::Udp { .. } => (UDP_BYTES, UDP_BURST),
            Target::Unix(_) => (UNIX_BYTES, UNIX_BURST),
        };
        Self {
            log,
            interval: statsd.interval,
            burst,
            composer: Composer::new(statsd, limit_bytes),
            in_flight: InFlight::new(),
            socket: StatsdSocket::new(&statsd.target, resolve, now),
            agent: AgentState::Reachable,
            due: now + statsd.interval,
            state: FlushState::Idle,
        }
    }

    /// When [`Emitter::turn`] is due.
    pub fn next_deadline(&self) -> Instant {
        let own = match self.state {
            FlushState::Idle => self.due,
            FlushState::Sending { resume } => resume,
        };
        self.socket.next_deadline().map_or(own, |deadline| deadline.min(own))
    }

    /// Whether a flush begins at the next [`Emitter::turn`], which then needs fresh totals and gauges.
    pub fn begins_flush(&self, now: Instant) -> bool {
        self.state == FlushState::Idle && now >= self.due
    }

    /// The descriptor to poll for reading before [`Emitter::turn`].
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.socket.poll_fd()
    }

    /// The helper process of a name lookup, if one runs.
    pub fn child(&self) -> Option<Pid> {
        self.socket.child()
    }

    /// Adds the descriptors that a child closes.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.extend(self.socket.poll_fd());
        own.extend(self.socket.socket());
    }

    /// Does what is due: a flush, a burst of one, or the end of a name lookup. Datagrams that were not accepted are
    /// counted in `counters`.
    pub fn turn(&mut self, totals: &Totals, gauges: &Gauges, counters: &Counters, now: Instant) {
        if let Some(error) = self.socket.turn(now) {
            // The current address stays in use, so this matters only if there is none.
            self.log(Level::Debug, "statsd.lookup_failed", Some(&error));
        }
        match self.state {
            FlushState::Sending { resume } if now < resume => {}
            FlushState::Sending { .. } => self.continue_flush(counters, now),
            FlushState::Idle if now < self.due => {}
            FlushState::Idle => {
                self.due = next_due(self.due, self.interval, now);
                match self.begin_flush(totals, gauges, counters, now) {
                    Ok(()) => self.continue_flush(counters, now),
                    Err(error) => self.abandon_flush(&error, counters),
                }
            }
        }
    }

    /// Sends the last flush at once, within `timeout`.
    pub fn finish(
        &mut self,
        totals: &Totals,
        gauges: &Gauges,
        counters: &Counters,
        timeout: Duration,
    ) {
        let deadline = Instant::now() + timeout;
        self.socket.await_address(deadline);
        // A name may have several addresses, with an agent at only one of them. The current socket may also lead to
        // an agent that is gone, and a new socket to its successor.
        let attempts = self.socket.address_count().max(1) + 1;
        for attempt in 1..=attempts {
            let is_last = attempt == attempts;
            let failure = match self.begin_flush(totals, gauges, counters, Instant::now()) {
                Ok(()) => self.send_all(counters, deadline),
                Err(error) => Some(error),
            };
            match failure {
                None => return,
                Some(SendError::Refused(_)) if !is_last => {}
                Some(error) => {
                    let count = self.in_flight.discard();
                    counters.add(Counter::StatsdDropped, count);
                    let target = self.socket.to_string();
                    let pairs = [
                        ("target", Value::Text(&target)),
                        ("datagrams", Value::Number(i64::try_from(count).unwrap_or(i64::MAX))),
                        ("error", Value::Display(&error)),
                    ];
                    self.log.line(Level::Warning, "statsd.last_flush_cut", &pairs);
                    return;
                }
            }
        }
    }

    /// The totals that were not accepted, after [`Emitter::finish`].
    pub fn unsent(&mut self, totals: &Totals) -> CarriedTotals {
        // If the agent is on this host, the error for a missing agent has arrived by now.
        if self.socket.late_error(Instant::now()).is_some() {
            self.in_flight.roll_back();
        }
        let is_per_worker = self.composer.is_per_worker();
        unsent::unsent(totals, self.in_flight.baselines_mut(), is_per_worker)
    }

    /// Checks for a late error of the last flush, and composes the next one. The order matters, because the next flush
    /// contains again what was lost.
    fn begin_flush(
        &mut self,
        totals: &Totals,
        gauges: &Gauges,
        counters: &Counters,
        now: Instant,
    ) -> Result<(), SendError> {
        match (self.socket.late_error(now), self.agent) {
            (Some(error), _) => {
                counters.add(Counter::StatsdDropped, self.in_flight.roll_back());
                self.log_failure(&error);
            }
            (None, AgentState::Recovering { since })
                if now.saturating_duration_since(since) >= SETTLED =>
            {
                self.agent = AgentState::Reachable;
                self.log(Level::Info, "statsd.reachable", None);
            }
            (
                None,
                AgentState::Reachable | AgentState::Unreachable | AgentState::Recovering { .. },
            ) => {}
        }
        let Self { composer, in_flight, .. } = self;
        in_flight.load(|baselines| composer.compose(totals, gauges, baselines));
        self.socket.connect()
    }

    /// Sends a burst, and schedules the next one.
    fn continue_flush(&mut self, counters: &Counters, now: Instant) {
        let mut burst = self.burst(now);
        // `localhost` may have two addresses and an agent at only one of them, which is no failure.
        for _ in 1..self.socket.address_count() {
            let is_refused = matches!(burst, Burst::Refused { is_late: false, .. });
            if !is_refused || self.in_flight.has_accepted() || self.socket.connect().is_err() {
                break;
            }
            burst = self.burst(now);
        }
        match burst {
            Burst::Over => {
                self.state = FlushState::Idle;
                if self.agent == AgentState::Unreachable && self.in_flight.has_accepted() {
                    self.agent = AgentState::Recovering { since: now };
                }
            }
            Burst::More => self.state = FlushState::Sending { resume: now + PAUSE },
            Burst::Full => self.abandon_flush(&SendError::Full, counters),
            Burst::Refused { error, is_late } => {
                if is_late {
                    counters.add(Counter::StatsdDropped, self.in_flight.roll_back());
                }
                self.abandon_flush(&error, counters);
            }
        }
    }

    /// Sends as many datagrams as the agent's socket certainly holds.
    fn burst(&mut self, now: Instant) -> Burst {
        for _ in 0..self.burst {
            let Some(datagram) = self.in_flight.next() else { return Burst::Over };
            match self.socket.send(datagram.as_bytes(), now) {
                Delivery::Accepted => self.in_flight.accept(),
                Delivery::Full => return Burst::Full,
                Delivery::Refused { error, is_late } => return Burst::Refused { error, is_late },
            }
        }
        if self.in_flight.next().is_some() { Burst::More } else { Burst::Over }
    }

    /// Sends all bursts. Returns the error that stopped it, if any.
    fn send_all(&mut self, counters: &Counters, deadline: Instant) -> Option<SendError> {
        loop {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            match self.burst(now) {
                Burst::Over => return None,
                Burst::Full | Burst::More if left.is_zero() => return Some(SendError::Late),
                Burst::Full => self.socket.await_room(left),
                Burst::More => {}
                Burst::Refused { error, is_late } => {
                    if is_late {
                        counters.add(Counter::StatsdDropped, self.in_flight.roll_back());
                    }
                    return Some(error);
                }
            }
            thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
        }
    }

    /// Drops the rest of a flush; its content becomes part of the next one.
    fn abandon_flush(&mut self, error: &SendError, counters: &Counters) {
        counters.add(Counter::StatsdDropped, self.in_flight.discard());
        self.state = FlushState::Idle;
        self.log_failure(error);
    }

    /// Logs the first of several failures.
    fn log_failure(&mut self, error: &SendError) {
        if self.agent == AgentState::Reachable {
            self.log(Level::Warning, "statsd.unreachable", Some(&error.to_string()));
        }
        self.agent = AgentState::Unreachable;
    }

    fn log(&self, level: Level, event: &str, error: Option<&str>) {
        let target = self.socket.to_string();
        let mut pairs = vec![("target", Value::Text(&target))];
        pairs.extend(error.map(|error| ("error", Value::Text(error))));
        self.log.line(level, event, &pairs);
    }
}

/// The first multiple of `interval` after `due` that lies in the future. So flushes neither drift nor pile up after a
/// suspension.
fn next_due(due: Instant, interval: Duration, now: Instant) -> Instant {
    let late = now.saturating_duration_since(due).as_nanos();
    let into = late % interval.as_nanos().max(1);
    now + interval - Duration::from_nanos(u64::try_from(into).unwrap_or(0))
}
