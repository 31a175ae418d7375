//! Reads the scoreboard, takes gauges, and hands both to who asks: the emitter when a flush is due, the admin
//! socket when somebody looks.
//!
//! Owned by whoever has the scoreboard: the supervisor's shell, or a server inside its caller's process.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use arctos_worker::shared::log::Log;
use arctos_worker::shared::scoreboard::Scoreboard;
use nix::time::{ClockId, clock_gettime};

use crate::emitter::Emitter;
use crate::metrics::statsd::Statsd;
use crate::metrics::{CarriedTotals, Gauges, Sampler, Snapshot, Totals};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// The last flush may take so long: a stop waits for it.
const LAST_FLUSH: Duration = Duration::from_millis(500);
/// The scoreboard is read at least so often, though nobody asks: what rises by too much between two reads the
/// totals takes for garbage, and a histogram's buckets start anew at 2^32.
const LONGEST_UNREAD: Duration = Duration::from_secs(3600);

/// See the module.
pub struct Collector {
    totals: Totals,
    /// When the totals was last read.
    read: Instant,
    /// For those who look: they and the emitter take their values at moments of their own.
    looks: Sampler,
    gauges: Gauges,
    sending: Option<Sending>,
    /// What the servers before this one have counted, for those who look. They have sent it themselves.
    before: Option<CarriedTotals>,
    /// Whether another server tells the gauges of this moment.
    is_beside: bool,
}

/// What is sent.
struct Sending {
    emitter: Emitter,
    sampler: Sampler,
    gauges: Gauges,
}

impl Collector {
    /// Begins with what the scoreboard says; `statsd` is where it is sent, if it is.
    pub fn start(
        scoreboard: &Scoreboard,
        statsd: Option<&Statsd>,
        log: &Log,
        now: Instant,
    ) -> Self {
        // It never fails where the kernel has the clock, and then the first value is that of all time.
        let monotonic =
            clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let sending = statsd.map(|statsd| Sending {
            emitter: Emitter::new(statsd.clone(), log.clone(), now),
            sampler: Sampler::open(scoreboard, monotonic),
            gauges: Gauges::default(),
        });
        Self {
            totals: Totals::open(scoreboard),
            read: now,
            looks: Sampler::open(scoreboard, monotonic),
            gauges: Gauges::default(),
            sending,
            before: None,
            is_beside: false,
        }
    }

    /// When [`Collector::turn`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        let reading = self.read + LONGEST_UNREAD;
        let sending = self.sending.as_ref().map(|sending| sending.emitter.next_deadline());
        Some(sending.map_or(reading, |flush| flush.min(reading)))
    }

    /// Something that becomes readable when [`Collector::turn`] has something to do.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.sending.as_ref().and_then(|sending| sending.emitter.awaited())
    }

    /// A child that the emitter has at work.
    pub fn child(&self) -> Option<Pid> {
        self.sending.as_ref().and_then(|sending| sending.emitter.child())
    }

    /// The descriptors that a child closes.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        if let Some(sending) = &self.sending {
            sending.emitter.list_descriptors(own);
        }
    }

    /// Sends what is due.
    pub fn turn(
        &mut self,
        scoreboard: &Scoreboard,
        scene: impl FnOnce() -> Snapshot,
        now: Instant,
    ) {
        if now.saturating_duration_since(self.read) >= LONGEST_UNREAD {
            self.read(scoreboard, now);
        }
        let Some(Sending { emitter, sampler, gauges }) = &mut self.sending else { return };
        if emitter.begins_flush(now) {
            self.totals.read(scoreboard);
            self.read = now;
            *gauges = match self.is_beside {
                true => Gauges::default(),
                false => sampler.sample(&scene()),
            };
        }
        emitter.turn(&self.totals, gauges, &scoreboard.header().counters, now);
    }

    /// All numbers of this moment.
    pub fn look(
        &mut self,
        scoreboard: &Scoreboard,
        scene: impl FnOnce() -> Snapshot,
        now: Instant,
    ) -> (CarriedTotals, &Gauges) {
        self.gauges = self.looks.sample(&scene());
        (self.carried(scoreboard, now), &self.gauges)
    }

    /// All that this server and those before it have counted.
    pub fn carried(&mut self, scoreboard: &Scoreboard, now: Instant) -> CarriedTotals {
        self.read(scoreboard, now);
        CarriedTotals::of(&self.totals, self.before.as_ref())
    }

    /// What this server alone has counted.
    pub fn own_books(&mut self, scoreboard: &Scoreboard, now: Instant) -> CarriedTotals {
        self.read(scoreboard, now);
        CarriedTotals::of(&self.totals, None)
    }

    /// Another server has counted this, told its agent, and is gone.
    pub fn absorb(&mut self, counted: &CarriedTotals) {
        self.before.get_or_insert_default().add(counted);
    }

    /// Of what other servers have counted, this has not been sent, and is this one's to send.
    pub fn inherit(&mut self, unsent: &CarriedTotals) {
        unsent.add_to(&mut self.totals);
        if let Some(before) = &mut self.before {
            before.subtract(unsent); // It is counted once.
        }
    }

    /// What the servers before this one have counted by now.
    pub fn follow(&mut self, before: CarriedTotals) {
        self.before = Some(before);
    }

    /// Whether another server is the one whose gauges count: two would contradict each other.
    pub fn stand_beside(&mut self, is_beside: bool) {
        self.is_beside = is_beside;
    }

    /// Sends all that has not been sent, when no worker is left. What could not be sent.
    pub fn finish(
        mut self,
        scoreboard: &Scoreboard,
        scene: impl FnOnce() -> Snapshot,
    ) -> CarriedTotals {
        let Some(Sending { emitter, sampler, .. }) = &mut self.sending else {
            return CarriedTotals::default();
        };
        self.totals.read(scoreboard);
        let gauges = match self.is_beside {
            true => Gauges::default(),
            false => sampler.sample(&scene()),
        };
        emitter.finish(&self.totals, &gauges, &scoreboard.header().counters, LAST_FLUSH);
        emitter.unsent(&self.totals)
    }

    fn read(&mut self, scoreboard: &Scoreboard, now: Instant) {
        self.totals.read(scoreboard);
        self.read = now;
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use arctos_worker::shared::identity::{Generation, SlotId};
    use arctos_worker::shared::scoreboard::{Counter, Side};

    use super::*;
    use crate::metrics::WorkerSample;
    use crate::metrics::statsd::{Format, Target};
    use crate::system::pid::Pid;

    fn empty_scene() -> Snapshot {
        Snapshot { target: 0, occupants: Vec::new(), queue: None, monotonic: Duration::ZERO }
    }

    /// Two days of a gigabyte a second are more than the totals believes of one read.
    #[test]
    fn what_nobody_asks_for_is_read_all_the_same_and_not_lost() {
        const HOURS: u32 = 48;
        const BYTES_AN_HOUR: u64 = 3600 * 1_000_000_000;
        let scoreboard = Scoreboard::create(1).unwrap();
        let start = Instant::now();
        let mut collector = Collector::start(&scoreboard, None, &Log::discard(), start);
        let entry = scoreboard.entry(SlotId(0), Side::A).unwrap();
        entry.assign(Generation(1));
        for _ in 0..HOURS {
            entry.counters.add(Counter::BytesOut, BYTES_AN_HOUR);
            let due = collector.next_deadline().unwrap();
            collector.turn(&scoreboard, empty_scene, due);
        }
        assert_eq!(collector.next_deadline(), Some(start + LONGEST_UNREAD * (HOURS + 1)));
        let (carried, _) = collector.look(&scoreboard, empty_scene, start);
        let (_, totals) = carried.slots().next().unwrap();
        assert_eq!(totals.count(Counter::BytesOut), u64::from(HOURS) * BYTES_AN_HOUR);
    }

    /// A scrape right before a flush must not leave it a moment to tell of.
    #[test]
    fn who_looks_takes_no_time_from_what_is_sent() {
        let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = agent.local_addr().unwrap().port();
        let statsd = Statsd {
            target: Target::Udp { host: "127.0.0.1".to_owned(), port },
            prefix: String::new(),
            interval: Duration::from_secs(2),
            format: Format::Plain,
            worker_tag: false,
            zone: None,
            tags: Vec::new(),
            external_env: None,
        };
        let scoreboard = Scoreboard::create(1).unwrap();
        let now = Instant::now();
        let start = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
        let mut collector = Collector::start(&scoreboard, Some(&statsd), &Log::discard(), now);
        let entry = scoreboard.entry(SlotId(0), Side::A).unwrap();
        entry.set_ready();
        entry.begin_request(start, b"GET", b"/");
        entry.end_call(start + Duration::from_secs(1));
        let scene = |after| {
            let occupants = vec![WorkerSample { slot: SlotId(0), pid: Pid(-1), entry }];
            Snapshot { target: 1, occupants, queue: None, monotonic: start + after }
        };
        let (looked, flushed) = (Duration::from_millis(1400), Duration::from_secs(2));
        collector.look(&scoreboard, || scene(looked), now + looked);
        collector.turn(&scoreboard, || scene(flushed), now + flushed);
        let mut bytes = [0; 1500];
        let length = agent.recv(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]);
        let value = text.lines().find_map(|line| line.strip_prefix("workers.utilization:"));
        let value: f64 = value.unwrap().strip_suffix("|g").unwrap().parse().unwrap();
        assert!((0.49..0.51).contains(&value), "{value}");
    }
}
