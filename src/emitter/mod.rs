//! Sends what the totals has gained to a statsd daemon: deltas and gauges to lines, lines to datagrams.
//!
//! Nothing here ever entries, and nothing starts a thread. What a datagram carried counts as sent when the
//! kernel has accepted it, and not before; until then it is part of the next flush.
//!
//! | file | owns |
//! |---|---|
//! | `lines` | how a line looks, by cadence |
//! | `spread` | which values stand for a distribution |
//! | `packer` | lines to datagrams |
//! | `baseline` | what has been sent already |
//! | `compose` | what a flush says |
//! | `in_flight` | a flush on its way |
//! | `socket` | address and socket |
//! | `unsent` | what was counted and not sent |
//! | `lookup` | a name's addresses, asked for in a child |
//!
//! What is lost all the same: what was accepted by an agent's host that answers nothing, or by an agent
//! that died before it read it.
mod baseline;
pub mod collector;
mod compose;
mod distribution;
mod format;
mod in_flight;
mod packer;
mod resolver;
mod socket;
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
use socket::{CarrierError, Delivery, StatsdSocket};

/// What IPv6 leaves of the 1500 bytes of Ethernet when there are some further headers on the way, and
/// what statsd's clients keep to.
const UDP_BYTES: usize = 1432;
/// What DogStatsD's clients keep to on unix sockets, and its agent's buffer.
const UNIX_BYTES: usize = 8192;
/// So many at once: the 208 KB of a UDP socket's usual receive buffer hold about 90 of them.
const UDP_BURST: usize = 32;
/// So many: unix(7) sockets hold 10 (net.unix.max_dgram_qlen) where nobody has raised it.
const UNIX_BURST: usize = 8;
/// Between two bursts.
const PAUSE: Duration = Duration::from_millis(10);
/// An agent is back when nothing has failed for so long: one that comes and goes, or that reads too
/// slowly, would fill the log.
const SETTLED: Duration = Duration::from_secs(10);

/// Sends metrics.
pub struct Emitter {
    log: Log,
    interval: Duration,
    burst: usize,
    composer: Composer,
    in_flight: InFlight,
    socket: StatsdSocket,
    agent: Agent,
    /// When a flush begins.
    due: Instant,
    pace: Pace,
}

/// Whether the agent is there, as far as the log has been told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Agent {
    /// It is, or nobody knows better.
    Reachable,
    /// A flush failed since.
    Unreachable,
    /// Flushes have been accepted again; an error may yet come.
    Recovering { since: Instant },
}

/// Where a flush stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// There is none.
    Idle,
    /// A burst was sent, and the next one is due.
    Sending { resume: Instant },
}

/// How a burst ended.
enum Burst {
    /// The flush is over, all of it accepted.
    Over,
    /// There is more to send.
    More,
    /// A queue is full.
    Full,
    /// The next datagram was refused.
    Refused { error: CarrierError, is_late: bool },
}

impl Emitter {
    /// Does nothing yet: the first flush is due one interval after `now`.
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
            agent: Agent::Reachable,
            due: now + statsd.interval,
            pace: Pace::Idle,
        }
    }

    /// When [`Emitter::turn`] has something to do.
    pub fn next_deadline(&self) -> Instant {
        let own = match self.pace {
            Pace::Idle => self.due,
            Pace::Sending { resume } => resume,
        };
        self.socket.next_deadline().map_or(own, |deadline| deadline.min(own))
    }

    /// Whether a flush begins at the next [`Emitter::turn`], which then wants a fresh totals and gauges.
    pub fn begins_flush(&self, now: Instant) -> bool {
        self.pace == Pace::Idle && now >= self.due
    }

    /// Something that becomes readable when [`Emitter::turn`] has something to do.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.socket.awaited()
    }

    /// A child that looks a name up.
    pub fn child(&self) -> Option<Pid> {
        self.socket.child()
    }

    /// The descriptors that a child closes.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.extend(self.socket.awaited());
        own.extend(self.socket.socket());
    }

    /// Does what is due: a flush, a piece of one, the end of a name's lookup. `counters` is where datagrams
    /// that were not accepted are counted.
    pub fn turn(&mut self, totals: &Totals, gauges: &Gauges, counters: &Counters, now: Instant) {
        if let Some(why) = self.socket.turn(now) {
            // The address in use goes on being used: it is news only where there is none.
            self.tell(Level::Debug, "statsd.lookup_failed", Some(&why));
        }
        match self.pace {
            Pace::Sending { resume } if now < resume => {}
            Pace::Sending { .. } => self.go_on(counters, now),
            Pace::Idle if now < self.due => {}
            Pace::Idle => {
                self.due = next_due(self.due, self.interval, now);
                match self.begin(totals, gauges, counters, now) {
                    Ok(()) => self.go_on(counters, now),
                    Err(error) => self.lose(&error, counters),
                }
            }
        }
    }

    /// The last flush, all of it at once. Takes no longer than `patience`.
    pub fn finish(
        &mut self,
        totals: &Totals,
        gauges: &Gauges,
        counters: &Counters,
        patience: Duration,
    ) {
        let deadline = Instant::now() + patience;
        self.socket.await_address(deadline);
        // A name may have an address where nobody listens, and another one; and the socket of the last
        // flush may lead to a daemon that has gone, and a new one to its successor.
        let attempts = self.socket.address_count().max(1) + 1;
        for attempt in 1..=attempts {
            let is_last = attempt == attempts;
            let cut = match self.begin(totals, gauges, counters, Instant::now()) {
                Ok(()) => self.send_all(counters, deadline),
                Err(error) => Some(error),
            };
            match cut {
                None => return,
                Some(CarrierError::Refused(_)) if !is_last => {}
                Some(error) => {
                    let count = self.in_flight.give_up();
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

    /// What was counted and has not been accepted, after [`Emitter::finish`].
    pub fn unsent(&mut self, totals: &Totals) -> CarriedTotals {
        // On this host the news that nobody listens is there by now.
        if self.socket.late_error(Instant::now()).is_some() {
            self.in_flight.take_back();
        }
        let is_per_worker = self.composer.is_per_worker();
        unsent::unsent(totals, self.in_flight.baselines_mut(), is_per_worker)
    }

    /// Hears what became of the last flush, and composes the next one: in this order, because what was
    /// lost is in it again.
    fn begin(
        &mut self,
        totals: &Totals,
        gauges: &Gauges,
        counters: &Counters,
        now: Instant,
    ) -> Result<(), CarrierError> {
        match (self.socket.late_error(now), self.agent) {
            (Some(error), _) => {
                counters.add(Counter::StatsdDropped, self.in_flight.take_back());
                self.complain(&error);
            }
            (None, Agent::Recovering { since })
                if now.saturating_duration_since(since) >= SETTLED =>
            {
                self.agent = Agent::Reachable;
                self.tell(Level::Info, "statsd.reachable", None);
            }
            (None, Agent::Reachable | Agent::Unreachable | Agent::Recovering { .. }) => {}
        }
        let Self { composer, in_flight, .. } = self;
        in_flight.load(|baselines| composer.compose(totals, gauges, baselines));
        self.socket.connect()
    }

    /// Sends a burst, and sees when the next one is due.
    fn go_on(&mut self, counters: &Counters, now: Instant) {
        let mut burst = self.burst(now);
        // `localhost` may have two addresses and an agent on one: nothing to complain of.
        for _ in 1..self.socket.address_count() {
            let is_nobody_there = matches!(burst, Burst::Refused { is_late: false, .. });
            if !is_nobody_there || self.in_flight.has_carried() || self.socket.connect().is_err() {
                break;
            }
            burst = self.burst(now);
        }
        match burst {
            Burst::Over => {
                self.pace = Pace::Idle;
                if self.agent == Agent::Unreachable && self.in_flight.has_carried() {
                    self.agent = Agent::Recovering { since: now };
                }
            }
            Burst::More => self.pace = Pace::Sending { resume: now + PAUSE },
            Burst::Full => self.lose(&CarrierError::Full, counters),
            Burst::Refused { error, is_late } => {
                if is_late {
                    counters.add(Counter::StatsdDropped, self.in_flight.take_back());
                }
                self.lose(&error, counters);
            }
        }
    }

    /// Hands over datagrams, as many as the agent's socket surely holds.
    fn burst(&mut self, now: Instant) -> Burst {
        for _ in 0..self.burst {
            let Some(datagram) = self.in_flight.next() else { return Burst::Over };
            match self.socket.send(datagram.as_bytes(), now) {
                Delivery::Accepted => self.in_flight.accepted(),
                Delivery::Full => return Burst::Full,
                Delivery::Refused { error, is_late } => return Burst::Refused { error, is_late },
            }
        }
        if self.in_flight.next().is_some() { Burst::More } else { Burst::Over }
    }

    /// Burst after burst; what was in the way of the rest.
    fn send_all(&mut self, counters: &Counters, deadline: Instant) -> Option<CarrierError> {
        loop {
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            match self.burst(now) {
                Burst::Over => return None,
                Burst::Full | Burst::More if left.is_zero() => return Some(CarrierError::Late),
                Burst::Full => self.socket.await_room(left),
                Burst::More => {}
                Burst::Refused { error, is_late } => {
                    if is_late {
                        counters.add(Counter::StatsdDropped, self.in_flight.take_back());
                    }
                    return Some(error);
                }
            }
            thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
        }
    }

    /// Gives up the rest of a flush: what it carries is in the next one.
    fn lose(&mut self, error: &CarrierError, counters: &Counters) {
        counters.add(Counter::StatsdDropped, self.in_flight.give_up());
        self.pace = Pace::Idle;
        self.complain(error);
    }

    /// One line when it begins, and none until it is over.
    fn complain(&mut self, error: &CarrierError) {
        if self.agent == Agent::Reachable {
            self.tell(Level::Warning, "statsd.unreachable", Some(&error.to_string()));
        }
        self.agent = Agent::Unreachable;
    }

    fn tell(&self, level: Level, event: &str, error: Option<&str>) {
        let target = self.socket.to_string();
        let mut pairs = vec![("target", Value::Text(&target))];
        pairs.extend(error.map(|error| ("error", Value::Text(error))));
        self.log.line(level, event, &pairs);
    }
}

/// The first multiple of `interval` after `due` that is not yet over: no drift, and no burst after a
/// suspension.
fn next_due(due: Instant, interval: Duration, now: Instant) -> Instant {
    let late = now.saturating_duration_since(due).as_nanos();
    let into = late % interval.as_nanos().max(1);
    now + interval - Duration::from_nanos(u64::try_from(into).unwrap_or(0))
}
