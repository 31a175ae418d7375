//! Collects the totals and gauges of a server, for the emitter when a flush is due and for requests to the admin
//! socket.
//!
//! The owner of the scoreboard owns the collector: the supervisor, or a server inside its caller's process.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::scoreboard::{Counter, Scoreboard};
use nix::time::{ClockId, clock_gettime};

use crate::emitter::Emitter;
use crate::metrics::statsd::Statsd;
use crate::metrics::{CarriedTotals, Gauges, Sampler, Snapshot, Totals};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// Time limit for the last flush, because a stop waits for it.
const LAST_FLUSH: Duration = Duration::from_millis(500);
/// Maximum time between two reads of the scoreboard. Totals take a value that rises too far between two reads for
/// garbage, and the buckets of a histogram wrap at 2^32.
const MAX_READ_INTERVAL: Duration = Duration::from_secs(3600);

/// The totals and gauges of a server.
pub struct Collector {
    totals: Totals,
    /// When the scoreboard was last read.
    read_at: Instant,
    /// The sampler for the admin socket. The emitter has its own, because both sample at different times.
    sampler: Sampler,
    gauges: Gauges,
    sending: Option<Sending>,
    /// The totals of the previous servers, for the admin socket. Those servers have sent them to the agent themselves.
    predecessors: Option<CarriedTotals>,
    sent_gauges: SentGauges,
    log: Log,
    has_warned: HasWarned,
}

/// What was logged once.
#[derive(Default)]
struct HasWarned {
    /// The application has too many series.
    too_many: bool,
    /// Series of earlier servers were left out in an upgrade.
    left_out: bool,
}

/// Which gauges are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SentGauges {
    /// Those of the server and those of the application.
    All,
    /// Those of the application: there is no server.
    Applications,
    /// None, because another server sends its own at present, and the two would contradict each other.
    None,
}

/// The emitter with its own sampler.
struct Sending {
    emitter: Emitter,
    sampler: Sampler,
    gauges: Gauges,
}

impl Collector {
    /// Starts with the current values of the scoreboard. `statsd` configures the emitter, if there is one.
    pub fn start(
        scoreboard: &Scoreboard,
        statsd: Option<&Statsd>,
        log: &Log,
        now: Instant,
    ) -> Self {
        // This never fails on a kernel with the clock; without it, the first value would cover all time.
        let monotonic =
            clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
        let sending = statsd.map(|statsd| Sending {
            emitter: Emitter::new(statsd.clone(), log.clone(), now),
            sampler: Sampler::open(scoreboard, monotonic),
            gauges: Gauges::default(),
        });
        Self {
            totals: Totals::open(scoreboard),
            read_at: now,
            sampler: Sampler::open(scoreboard, monotonic),
            gauges: Gauges::default(),
            sending,
            predecessors: None,
            sent_gauges: SentGauges::All,
            log: log.clone(),
            has_warned: HasWarned::default(),
        }
    }

    /// When [`Collector::turn`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let reading = self.read_at + MAX_READ_INTERVAL;
        let sending = self.sending.as_ref().map(|sending| sending.emitter.next_deadline());
        Some(sending.map_or(reading, |flush| flush.min(reading)))
    }

    /// The descriptor to poll for reading before [`Collector::turn`].
    pub fn poll_fd(&self) -> Option<BorrowedFd<'_>> {
        self.sending.as_ref().and_then(|sending| sending.emitter.poll_fd())
    }

    /// The helper process of the emitter, if one runs.
    pub fn child(&self) -> Option<Pid> {
        self.sending.as_ref().and_then(|sending| sending.emitter.child())
    }

    /// Adds the descriptors that a child closes.
    pub fn list_descriptors(&self, own: &mut OwnDescriptors) {
        if let Some(sending) = &self.sending {
            sending.emitter.list_descriptors(own);
        }
    }

    /// Reads and sends what is due.
    pub fn turn(
        &mut self,
        scoreboard: &Scoreboard,
        snapshot: impl FnOnce() -> Snapshot,
        now: Instant,
    ) {
        let begins_flush = self.sending.as_ref().is_some_and(|it| it.emitter.begins_flush(now));
        if begins_flush || now.saturating_duration_since(self.read_at) >= MAX_READ_INTERVAL {
            self.read(scoreboard, now);
        }
        let Some(Sending { emitter, sampler, gauges }) = &mut self.sending else { return };
        if begins_flush {
            *gauges = self.sent_gauges.sample(sampler, snapshot);
        }
        emitter.turn(&self.totals, gauges, &scoreboard.header().counters, now);
    }

    /// Takes a sample of all totals and gauges.
    pub fn sample(
        &mut self,
        scoreboard: &Scoreboard,
        snapshot: impl FnOnce() -> Snapshot,
        now: Instant,
    ) -> (CarriedTotals, &Gauges) {
        self.gauges = self.sampler.sample(&snapshot());
        (self.carried(scoreboard, now), &self.gauges)
    }

    /// The totals of this server and of the previous ones.
    pub fn carried(&mut self, scoreboard: &Scoreboard, now: Instant) -> CarriedTotals {
        self.read(scoreboard, now);
        CarriedTotals::of(&self.totals, self.predecessors.as_ref())
    }

    /// The same for the successor, without series of earlier servers for which there is no room.
    pub fn for_successor(&mut self, scoreboard: &Scoreboard, now: Instant) -> CarriedTotals {
        self.read(scoreboard, now);
        self.limit_predecessors();
        CarriedTotals::of(&self.totals, self.predecessors.as_ref())
    }

    /// The totals of this server alone.
    pub fn own_totals(&mut self, scoreboard: &Scoreboard, now: Instant) -> CarriedTotals {
        self.read(scoreboard, now);
        CarriedTotals::of(&self.totals, None)
    }

    /// Adds the totals of a server that has sent them to its agent and is gone.
    pub fn absorb(&mut self, counted: &CarriedTotals) {
        self.predecessors.get_or_insert_default().add(counted);
        self.limit_predecessors(); // One upgrade after the other may fail.
    }

    /// Takes over the totals of other servers that were not sent to an agent, so that this server sends them.
    pub fn inherit(&mut self, unsent: &CarriedTotals) {
        unsent.add_to(&mut self.totals);
        if let Some(predecessors) = &mut self.predecessors {
            predecessors.subtract(unsent); // Each value is counted once.
        }
    }

    /// Replaces the totals of the previous servers.
    pub fn set_predecessors(&mut self, totals: CarriedTotals) {
        self.predecessors = Some(totals);
    }

    /// Sends no gauges while another server sends its own, because the two would contradict each other.
    pub fn suppress_gauges(&mut self, are_gauges_suppressed: bool) {
        self.sent_gauges = if are_gauges_suppressed { SentGauges::None } else { SentGauges::All };
    }

    /// Sends the gauges of the application alone, in a program without a server.
    pub fn send_only_applications_gauges(&mut self) {
        self.sent_gauges = SentGauges::Applications;
    }

    /// Sends the last flush once no worker is left. Returns the totals that could not be sent.
    pub fn finish(
        mut self,
        scoreboard: &Scoreboard,
        snapshot: impl FnOnce() -> Snapshot,
    ) -> CarriedTotals {
        self.read(scoreboard, Instant::now());
        let Some(Sending { emitter, sampler, .. }) = &mut self.sending else {
            return CarriedTotals::default();
        };
        let gauges = self.sent_gauges.sample(sampler, snapshot);
        emitter.finish(&self.totals, &gauges, &scoreboard.header().counters, LAST_FLUSH);
        emitter.unsent(&self.totals)
    }

    /// Reads the application metrics that a process has counted, and clears its area for the next process.
    /// Called once the process is reaped.
    pub fn retire_area(&mut self, scoreboard: &Scoreboard, index: u32) {
        if let Err(error) = self.totals.retire_area(index) {
            let pairs = [("reason", Value::Display(&error))];
            self.log.line(Level::Error, "metrics.not_cleared", &pairs);
        }
        self.count_dropped(scoreboard);
    }

    /// Forgets series of earlier servers for which there is no room.
    fn limit_predecessors(&mut self) {
        let Some(predecessors) = &mut self.predecessors else { return };
        let left_out = predecessors.limit_series(&self.totals);
        if left_out > 0 && !std::mem::replace(&mut self.has_warned.left_out, true) {
            let limit = Value::Number(self.totals.series().limit().into());
            let left_out = Value::Number(i64::try_from(left_out).unwrap_or(i64::MAX));
            let pairs = [("series", left_out), ("limit", limit)];
            self.log.line(Level::Warning, "upgrade.series_left_out", &pairs);
        }
    }

    fn read(&mut self, scoreboard: &Scoreboard, now: Instant) {
        self.totals.read(scoreboard);
        self.count_dropped(scoreboard);
        self.read_at = now;
    }

    /// Counts the updates of series that have none of their own. The next read of the scoreboard adds them to the totals.
    fn count_dropped(&mut self, scoreboard: &Scoreboard) {
        let dropped = self.totals.take_dropped_updates();
        scoreboard.header().counters.add(Counter::MetricsSeriesDropped, dropped);
        if dropped > 0 && !std::mem::replace(&mut self.has_warned.too_many, true) {
            let pairs = [("limit", Value::Number(self.totals.series().limit().into()))];
            self.log.line(Level::Warning, "metrics.too_many_series", &pairs);
        }
    }
}

impl SentGauges {
    fn sample(self, sampler: &mut Sampler, snapshot: impl FnOnce() -> Snapshot) -> Gauges {
        match self {
            Self::All => sampler.sample(&snapshot()),
            Self::Applications => Gauges { has_applications: true, ..Gauges::default() },
            Self::None => Gauges::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::UdpSocket;

    use arctos_worker::shared::identity::{Generation, SlotId};
    use arctos_worker::shared::log::LogFormat;
    use arctos_worker::shared::scoreboard::{Counter, Side};
    use arctos_worker::shared::series::{Aggregation, Description, Kind, Naming, RowUse};

    use super::*;
    use crate::metrics::WorkerSample;
    use crate::metrics::series::SeriesTotal;
    use crate::metrics::statsd::{Format, Target};
    use crate::system::cgroup::CgroupMemory;

    fn empty_snapshot() -> Snapshot {
        Snapshot {
            target: 0,
            workers: Vec::new(),
            queue: None,
            shared_connections: 0,
            cgroup: CgroupMemory::default(),
            monotonic: Duration::ZERO,
        }
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
            collector.turn(&scoreboard, empty_snapshot, due);
        }
        assert_eq!(collector.next_deadline(), Some(start + MAX_READ_INTERVAL * (HOURS + 1)));
        let (carried, _) = collector.sample(&scoreboard, empty_snapshot, start);
        let (_, totals) = carried.slots().next().unwrap();
        assert_eq!(totals.count(Counter::BytesOut), u64::from(HOURS) * BYTES_AN_HOUR);
    }

    /// Each version of the application has other metrics than the one before.
    #[test]
    fn upgrades_pass_no_more_series_than_the_limit() {
        const LIMIT: u32 = 5;
        let now = Instant::now();
        let mut before = CarriedTotals::default();
        for version in 0..4 {
            let mut scoreboard = Scoreboard::create(1).unwrap();
            scoreboard.add_series(LIMIT).unwrap();
            let file = tempfile::NamedTempFile::new().unwrap();
            let log = Log::new(Level::Info, LogFormat::Text, file.reopen().unwrap().into());
            let mut collector = Collector::start(&scoreboard, None, &log, now);
            collector.set_predecessors(before);
            let area = scoreboard.area(Scoreboard::worker_area(SlotId(0), Side::A)).unwrap();
            for name in ["same".to_owned(), format!("new_{version}"), format!("more_{version}")] {
                let row = area.append(&counter(name).encode().unwrap(), RowUse::Series, false);
                row.unwrap().number.add(1.0);
            }
            before = collector.for_successor(&scoreboard, now);
            let passed = before.series().series().map(|(_, series)| {
                (series.description.family.clone(), series.sum() == SeriesTotal::Sum(1.0))
            });
            let passed: BTreeMap<_, _> = passed.collect();
            assert_eq!(passed.len(), if version == 0 { 3 } else { LIMIT as usize });
            assert_eq!(passed["same"], version == 0, "it is added up");
            assert!(passed[&format!("new_{version}")] && passed[&format!("more_{version}")]);
            let log = std::fs::read_to_string(file.path()).unwrap();
            assert_eq!(log.contains("upgrade.series_left_out series=2 limit=5"), version > 1);
        }
    }

    /// A counter with a tag: metrics without tags have room beyond the limit.
    fn counter(family: String) -> Description {
        Description {
            kind: Kind::Counter,
            aggregation: Aggregation::Sum,
            naming: Naming::Prefixed,
            family,
            sample: String::new(),
            tags: vec![("channel".into(), "web".into())],
        }
    }

    #[test]
    fn a_scrape_right_before_a_flush_does_not_shorten_its_window() {
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
        let snapshot = |after| {
            let workers = vec![WorkerSample { slot: SlotId(0), entry, memory: None }];
            Snapshot {
                target: 1,
                workers,
                queue: None,
                shared_connections: 0,
                cgroup: CgroupMemory::default(),
                monotonic: start + after,
            }
        };
        let (sampled, flushed) = (Duration::from_millis(1400), Duration::from_secs(2));
        collector.sample(&scoreboard, || snapshot(sampled), now + sampled);
        collector.turn(&scoreboard, || snapshot(flushed), now + flushed);
        let mut bytes = [0; 1500];
        let length = agent.recv(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..length]);
        let value = text.lines().find_map(|line| line.strip_prefix("workers.utilization:"));
        let value: f64 = value.unwrap().strip_suffix("|g").unwrap().parse().unwrap();
        assert!((0.49..0.51).contains(&value), "{value}");
    }
}
