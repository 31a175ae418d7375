//! When a worker is recycled: after a number of requests, after a time, or because of its memory.
//!
//! One sample above the memory limit may be the peak of a large request, so two in a row count:
//!
//! | state ([`Samples`]) | a sample within the limit | a sample above it |
//! |---|---|---|
//! | `Within` | `Within` | `AboveOnce` |
//! | `AboveOnce` | `Within` | `Exceeded`: the worker is recycled |
//! | `Exceeded` | `Within` | `Exceeded` |
//!
//! A worker that exceeds the limit as soon as it is ready would be recycled forever. Such a worker gets a limit of its
//! own ([`MemoryWatch::start`]).

use std::time::Duration;

use arctos_worker::shared::scoreboard::{Counter, WorkerEntry};

use crate::supervisor::slot::Jitter;

/// The time between two samples of a worker's memory.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(2);
/// A size that is computed is a multiple of this, so that people can read it.
const MIB: u64 = 1 << 20;

/// The limits at which workers are recycled; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecycleLimits {
    /// Number of requests passed to the application.
    pub requests: Option<u64>,
    /// Memory.
    pub memory: Option<MemoryLimit>,
    /// Maximum number of additional requests. Each worker draws a random number up to it, so that workers are not
    /// recycled together.
    pub requests_jitter: u64,
    /// Time since the worker became ready. Up to a tenth is added, for the same reason.
    pub lifetime: Option<Duration>,
}

/// The limit that a worker has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecycleReason {
    /// `--max-requests`.
    Requests(u64),
    /// `--max-rss`, in bytes.
    Memory(u64),
    /// `--max-lifetime`.
    Lifetime(Duration),
}

/// The limit of a worker's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimit {
    /// How much it is.
    pub size: MemorySize,
    /// Whether the workers share memory (`--preload`): then a worker's private memory and its share count, else its
    /// resident memory.
    pub is_shared: bool,
}

/// How much memory a worker may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemorySize {
    /// `--max-rss SIZE`, in bytes.
    Fixed(u64),
    /// `--max-rss auto`: an equal part of this for each worker, and one for the replacement of a worker.
    Part {
        /// What all workers may have together, in bytes.
        all_bytes: u64,
    },
}

impl MemorySize {
    /// The limit of each of `target` workers.
    pub fn bytes(self, target: u16) -> u64 {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Part { all_bytes } => (all_bytes / (u64::from(target) + 1) / MIB).max(1) * MIB,
        }
    }
}

impl MemoryLimit {
    /// The limit of each of `target` workers.
    pub fn bytes(&self, target: u16) -> u64 {
        self.size.bytes(target)
    }

    /// The number of processes among which shared memory is divided; `None` if resident memory counts.
    pub fn sharers(&self, target: u16) -> Option<u16> {
        self.is_shared.then_some(target)
    }
}

/// The samples of a worker's memory, compared with its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryWatch {
    samples: Samples,
    /// The limit of a worker that exceeded the configured one when it became ready.
    own_limit_bytes: Option<u64>,
    /// CLOCK_MONOTONIC of the last sample.
    sampled_at: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Samples {
    #[default]
    Within,
    AboveOnce,
    /// The last sample, in bytes.
    Exceeded(u64),
}

impl MemoryWatch {
    /// Takes the first sample, of a worker that has become ready. Returns its own limit if it exceeds the configured
    /// one already: half as much again as it has. Its replacement would have as much.
    pub fn start(&mut self, bytes: u64, limit_bytes: u64, monotonic: Duration) -> Option<u64> {
        let own = bytes.saturating_add(bytes / 2);
        *self = Self {
            samples: Samples::Within,
            own_limit_bytes: (bytes > limit_bytes).then_some(own),
            sampled_at: monotonic,
        };
        self.own_limit_bytes
    }

    /// Whether a sample is due.
    pub fn is_due(&self, monotonic: Duration) -> bool {
        self.sampled_at.saturating_add(SAMPLE_INTERVAL) <= monotonic
    }

    /// When the last sample was taken, by CLOCK_MONOTONIC.
    pub fn sampled_at(&self) -> Duration {
        self.sampled_at
    }

    /// The limit that counts for this worker.
    pub fn limit_bytes(&self, configured_bytes: u64) -> u64 {
        self.own_limit_bytes.map_or(configured_bytes, |own| own.max(configured_bytes))
    }

    /// Takes a further sample.
    pub fn sample(&mut self, bytes: u64, configured_bytes: u64, monotonic: Duration) {
        self.sampled_at = monotonic;
        let is_above = bytes > self.limit_bytes(configured_bytes);
        self.samples = match (self.samples, is_above) {
            (_, false) => Samples::Within,
            (Samples::Within, true) => Samples::AboveOnce,
            (Samples::AboveOnce | Samples::Exceeded(_), true) => Samples::Exceeded(bytes),
        };
    }

    /// The worker's memory, if two samples in a row were above the limit.
    fn exceeded(&self) -> Option<u64> {
        match self.samples {
            Samples::Exceeded(bytes) => Some(bytes),
            Samples::Within | Samples::AboveOnce => None,
        }
    }
}

/// The limits of one worker, and the values at which they began to count.
#[derive(Clone, Copy, Debug)]
pub struct WorkerLimits {
    limits: RecycleLimits,
    first_request: u64,
    since: Duration,
}

impl RecycleLimits {
    /// Returns the limits of a worker that has just become ready.
    pub fn worker_limits(
        &self,
        entry: &WorkerEntry,
        monotonic: Duration,
        jitter: &mut Jitter,
    ) -> WorkerLimits {
        let more = jitter.draw() % self.requests_jitter.saturating_add(1);
        let most_requests = self.requests.map(|most| most.saturating_add(more));
        let thousandths = 1000 + (jitter.draw() % 101) as u32;
        let lifetime = self.lifetime.map(|most| most.saturating_mul(thousandths) / 1000);
        let limits = Self { requests: most_requests, lifetime, ..*self };
        WorkerLimits { limits, first_request: requests(entry), since: monotonic }
    }
}

impl WorkerLimits {
    /// The limit of the memory, if there is one.
    pub fn memory(&self) -> Option<MemoryLimit> {
        self.limits.memory
    }

    /// Returns the first limit that the worker has reached. `memory` is what is known of its memory.
    pub fn reached(
        &self,
        entry: &WorkerEntry,
        memory: &MemoryWatch,
        monotonic: Duration,
    ) -> Option<RecycleReason> {
        let served = requests(entry).saturating_sub(self.first_request);
        let age = monotonic.saturating_sub(self.since);
        let by_requests = self
            .limits
            .requests
            .filter(|most| served >= *most)
            .map(|_| RecycleReason::Requests(served));
        let by_memory = || memory.exceeded().map(RecycleReason::Memory);
        let by_age = || {
            self.limits
                .lifetime
                .filter(|longest| age >= *longest)
                .map(|_| RecycleReason::Lifetime(age))
        };
        by_requests.or_else(by_memory).or_else(by_age)
    }
}

fn requests(entry: &WorkerEntry) -> u64 {
    entry.counters.get(Counter::ReqSuccessRead)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_limit_recycles_a_worker() {
        let entry = WorkerEntry::detached();
        entry.counters.add(Counter::ReqSuccessRead, 1000);
        let mut jitter = Jitter::new(1);
        let worker_limits =
            |limits: RecycleLimits, jitter: &mut Jitter| limits.worker_limits(entry, s(50), jitter);
        let within = MemoryWatch::default();
        let exceeded = MemoryWatch { samples: Samples::Exceeded(5 << 20), ..within };
        let never = worker_limits(RecycleLimits::default(), &mut jitter);
        let requests = worker_limits(
            RecycleLimits { requests: Some(10), ..RecycleLimits::default() },
            &mut jitter,
        );
        let lifetime = worker_limits(
            RecycleLimits { lifetime: Some(s(60)), ..RecycleLimits::default() },
            &mut jitter,
        );
        entry.counters.add(Counter::ReqSuccessRead, 9);
        for worker_limits in [never, requests, lifetime] {
            assert_eq!(worker_limits.reached(entry, &within, s(109)), None);
        }
        entry.counters.inc(Counter::ReqSuccessRead);
        assert_eq!(never.reached(entry, &within, s(110)), None);
        assert_eq!(requests.reached(entry, &within, s(60)), Some(RecycleReason::Requests(10)));
        assert_eq!(never.reached(entry, &exceeded, s(60)), Some(RecycleReason::Memory(5 << 20)));
        assert_eq!(lifetime.reached(entry, &within, s(116)), Some(RecycleReason::Lifetime(s(66))));
    }

    #[test]
    fn jitter_adds_up_to_the_given_number_of_requests() {
        let entry = WorkerEntry::detached();
        let mut jitter = Jitter::new(1);
        let limits =
            RecycleLimits { requests: Some(1000), requests_jitter: 50, ..RecycleLimits::default() };
        let drawn: Vec<_> = (0..500)
            .filter_map(|_| limits.worker_limits(entry, s(0), &mut jitter).limits.requests)
            .collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&1000), Some(&1050)));
        let never =
            RecycleLimits { requests: None, requests_jitter: 50, ..RecycleLimits::default() };
        assert_eq!(never.worker_limits(entry, s(0), &mut jitter).limits.requests, None);
        let endless = RecycleLimits {
            requests: Some(1),
            requests_jitter: u64::MAX,
            ..RecycleLimits::default()
        };
        assert!(endless.worker_limits(entry, s(0), &mut jitter).limits.requests.is_some());
    }

    #[test]
    fn jitter_adds_up_to_a_tenth_to_a_lifetime() {
        let entry = WorkerEntry::detached();
        let mut jitter = Jitter::new(1);
        let limits = RecycleLimits { lifetime: Some(s(100)), ..RecycleLimits::default() };
        let drawn: Vec<_> = (0..200)
            .filter_map(|_| limits.worker_limits(entry, s(0), &mut jitter).limits.lifetime)
            .collect();
        assert_eq!((drawn.iter().min(), drawn.iter().max()), (Some(&s(100)), Some(&s(110))));
    }

    fn watched(samples: &[u64], limit_bytes: u64) -> Option<u64> {
        let mut watch = MemoryWatch::default();
        watch.start(samples[0], limit_bytes, s(0));
        for bytes in &samples[1..] {
            watch.sample(*bytes, limit_bytes, s(0));
        }
        watch.exceeded()
    }

    #[test]
    fn two_samples_in_a_row_above_the_limit_recycle_a_worker() {
        assert_eq!(watched(&[10, 100, 100], 100), None);
        assert_eq!(watched(&[10, 101], 100), None);
        assert_eq!(watched(&[10, 101, 100, 101], 100), None);
        assert_eq!(watched(&[10, 101, 102], 100), Some(102));
        assert_eq!(watched(&[10, 101, 102, 103], 100), Some(103));
        assert_eq!(watched(&[10, 101, 102, 100], 100), None, "it has shrunk by itself");
    }

    #[test]
    fn a_worker_that_starts_above_the_limit_may_grow_by_half() {
        let mut watch = MemoryWatch::default();
        assert_eq!(watch.start(100, 100, s(0)), None);
        assert_eq!(watch.start(120, 100, s(0)), Some(180));
        assert_eq!(watched(&[120, 180, 180, 180], 100), None);
        assert_eq!(watched(&[120, 181, 181], 100), Some(181));
        assert_eq!(watch.limit_bytes(500), 500, "a limit that was raised since counts");
    }

    #[test]
    fn samples_are_two_seconds_apart() {
        let mut watch = MemoryWatch::default();
        watch.start(1, 100, s(10));
        assert_eq!((watch.is_due(s(11)), watch.is_due(s(12))), (false, true));
        watch.sample(1, 100, s(13));
        assert_eq!((watch.is_due(s(14)), watch.is_due(s(15))), (false, true));
    }

    #[test]
    fn an_automatic_limit_leaves_room_for_a_replacement() {
        let part = |mib: u64, target| {
            let size = MemorySize::Part { all_bytes: mib << 20 };
            MemoryLimit { size, is_shared: true }.bytes(target)
        };
        assert_eq!(part(448, 4), 89 << 20);
        assert_eq!(part(448, 1), 224 << 20);
        assert_eq!(part(448, 512), 1 << 20, "at least 1 MiB");
        let fixed = MemoryLimit { size: MemorySize::Fixed(7), is_shared: false };
        assert_eq!((fixed.bytes(4), fixed.sharers(4)), (7, None));
        assert_eq!(MemoryLimit { is_shared: true, ..fixed }.sharers(4), Some(4));
    }
}
