//! Crashes of workers that serve: detects restart storms, and the requests that cause them.
//!
//! Each crash has its own log line. A storm adds one line per minute, with the requests and the number of workers that
//! each of them crashed. The server replaces these workers at once and goes on, so without this line an operator might
//! not notice why it is slow.
//!
//! This is pure code: crashes and the time come in, and reports go out.

pub mod crash_baseline;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use arctos_worker::shared::identity::Generation;

/// Number of crashes within [`PERIOD`] that make a storm.
const STORM: u64 = 5;
/// The interval between two reports.
const PERIOD: Duration = Duration::from_secs(60);
/// Maximum number of requests that are counted separately, because clients decide how many different ones there are.
const REQUESTS: usize = 64;
/// Maximum number of requests that a report names.
const NAMED: usize = 5;
/// Number of crashes in the same request within [`PERIOD`] that are no coincidence.
const REPEATEDLY: u64 = 3;
/// Maximum number of crashes that are kept to find such requests.
const REMEMBERED: usize = 512;
/// The name under which all other requests are counted.
const OTHERS: &str = "others";
/// The name under which crashes outside of requests are counted.
const NO_REQUEST: &str = "no request";

/// The crashes of the current period and of the last minute.
#[derive(Debug, Default)]
pub struct RestartStorm {
    /// Number of crashes in this period by the request that was running.
    causes: BTreeMap<String, u64>,
    /// The crashes of the last minute, oldest first, each with its request.
    recent: VecDeque<(Instant, Generation, Option<String>)>,
    /// `None` before the first crash, and after a period without one.
    period: Option<Period>,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    begin: Instant,
    /// Whether this storm was already reported.
    is_storm: bool,
}

/// The content of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The number of workers that crashed.
    pub crashes_count: u64,
    /// The time in which they crashed.
    pub within: Duration,
    /// The requests in which they crashed, each with its count, the most frequent first.
    pub requests: String,
}

impl RestartStorm {
    /// Records the crash of a worker, with its request if it was running one.
    pub fn record(
        &mut self,
        request: Option<&str>,
        generation: Generation,
        now: Instant,
    ) -> Option<Report> {
        self.recent.push_back((now, generation, request.map(str::to_owned)));
        self.forget_old(now);
        let period = *self.period.get_or_insert(Period { begin: now, is_storm: false });
        let cause = request.unwrap_or(NO_REQUEST);
        let is_known = self.causes.contains_key(cause) || self.causes.len() < REQUESTS;
        let cause = if is_known { cause } else { OTHERS };
        *self.causes.entry(cause.to_owned()).or_default() += 1;
        let breaks_out = !period.is_storm && self.count() >= STORM;
        breaks_out.then(|| self.report(period, now))
    }

    /// Returns the requests that crash workers repeatedly, and how many workers each of them crashes per minute. All
    /// other crashes are counted together, under a name that no request has. Crashes of generations newer than the one
    /// in service are forgotten, because those generations were given up.
    pub fn rates(&mut self, in_service: Generation, now: Instant) -> BTreeMap<String, u64> {
        self.forget_old(now);
        self.recent.retain(|(_, generation, _)| *generation <= in_service);
        let mut known = BTreeMap::<_, (Instant, u64)>::new();
        for (at, _, request) in &self.recent {
            let request = request.as_deref().unwrap_or(NO_REQUEST);
            known.entry(request.to_owned()).or_insert((*at, 0)).1 += 1;
        }
        // Crashes that are spread over many requests, or that happen between requests, count together.
        let is_other = |(request, (_, count)): &(&String, &(Instant, u64))| {
            *count < REPEATEDLY || *request == NO_REQUEST
        };
        let others = known.iter().filter(is_other).map(|(_, counted)| *counted);
        let others = others.reduce(|(one, n), (other, m)| (one.min(other), n + m));
        known.remove(NO_REQUEST);
        known.extend(others.map(|others| (OTHERS.to_owned(), others)));
        known.retain(|_, (_, count)| *count >= REPEATEDLY);
        let a_minute = |(first, count): (Instant, u64)| {
            // Crashes that have just begun are assumed to go on at the same rate.
            let span_s = now.saturating_duration_since(first).as_secs().max(1);
            count * PERIOD.as_secs() / span_s
        };
        known.into_iter().map(|(request, counted)| (request, a_minute(counted))).collect()
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((at, _, _)) = self.recent.front()
            && (self.recent.len() > REMEMBERED || *at + PERIOD <= now)
        {
            self.recent.pop_front();
        }
    }

    /// Returns the report that is due.
    pub fn check_deadlines(&mut self, now: Instant) -> Option<Report> {
        let period = self.period.filter(|period| period.begin + PERIOD <= now)?;
        match (self.count(), period.is_storm) {
            (0, _) | (_, false) => {
                self.causes.clear();
                self.period = None;
                None
            }
            (1.., true) => Some(self.report(period, now)),
        }
    }

    /// When [`RestartStorm::check_deadlines`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.period.map(|period| period.begin + PERIOD)
    }

    fn count(&self) -> u64 {
        self.causes.values().sum()
    }

    /// Ends the period with a report.
    fn report(&mut self, period: Period, now: Instant) -> Report {
        let crashes_count = self.count();
        let mut causes: Vec<_> = std::mem::take(&mut self.causes).into_iter().collect();
        causes.sort_by(|(_, one), (_, other)| other.cmp(one));
        let mut named: Vec<_> = causes.drain(..causes.len().min(NAMED)).collect();
        if !causes.is_empty() {
            named.push((OTHERS.to_owned(), causes.iter().map(|(_, n)| n).sum()));
        }
        let requests: Vec<_> = named.iter().map(|(cause, n)| format!("{cause} ({n})")).collect();
        self.period = Some(Period { begin: now, is_storm: true });
        Report {
            crashes_count,
            within: now.saturating_duration_since(period.begin),
            requests: requests.join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Generation = Generation(1);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn five_crashes_in_a_minute_are_a_storm_that_names_the_requests() {
        let (mut storm, start) = (RestartStorm::default(), Instant::now());
        for (second, request) in [(0, "GET /a"), (9, "GET /crash"), (20, "GET /crash")] {
            assert_eq!(storm.record(Some(request), ONE, start + s(second)), None);
        }
        assert_eq!(storm.record(None, ONE, start + s(30)), None);
        let report = storm.record(Some("GET /crash"), ONE, start + s(40)).unwrap();
        assert_eq!(report.crashes_count, 5);
        assert_eq!(report.within, s(40));
        assert_eq!(report.requests, "GET /crash (3), GET /a (1), no request (1)");
    }

    #[test]
    fn a_storm_is_reported_once_a_minute_until_a_minute_without_a_crash() {
        let (mut storm, start) = (RestartStorm::default(), Instant::now());
        let reported = (0..200).filter_map(|second| {
            let now = start + s(second);
            let due = storm.check_deadlines(now);
            let noted = (second < 130).then(|| storm.record(Some("GET /"), ONE, now)).flatten();
            let report = due.or(noted)?;
            Some((second, report.crashes_count))
        });
        let reported: Vec<_> = reported.collect();
        assert_eq!(reported, [(4, 5), (64, 59), (124, 60), (184, 6)]);
        assert_eq!(storm.check_deadlines(start + s(300)), None);
        assert_eq!(storm.next_deadline(), None);
    }

    #[test]
    fn requests_that_crash_workers_repeatedly_are_known_for_a_minute() {
        let (mut storm, start) = (RestartStorm::default(), Instant::now());
        for second in 0..30 {
            storm.record(Some("GET /crash"), ONE, start + s(second));
        }
        storm.record(Some("GET /once"), ONE, start + s(30));
        assert_eq!(storm.rates(ONE, start + s(30)), [("GET /crash".to_owned(), 60)].into());
        assert_eq!(storm.rates(ONE, start + s(59)), [("GET /crash".to_owned(), 30)].into());
        assert_eq!(storm.rates(ONE, start + s(80)), [("GET /crash".to_owned(), 9)].into());
        assert_eq!(storm.rates(ONE, start + s(91)), [].into());
        for number in 0..10_000 {
            storm.record(Some(&format!("GET /{number}")), ONE, start + s(91));
        }
        assert_eq!(storm.recent.len(), REMEMBERED);
    }

    #[test]
    fn crashes_in_different_requests_or_in_none_count_together() {
        let (mut storm, start) = (RestartStorm::default(), Instant::now());
        for second in 0..30 {
            storm.record(Some("GET /crash"), ONE, start + s(second));
            storm.record(Some(&format!("GET /item/{second}")), ONE, start + s(second));
            storm.record(None, ONE, start + s(second));
        }
        let rates = [("GET /crash".to_owned(), 60), (OTHERS.to_owned(), 120)].into();
        assert_eq!(storm.rates(ONE, start + s(30)), rates);
    }

    #[test]
    fn crashes_of_a_generation_that_was_given_up_are_forgotten() {
        let (mut storm, start) = (RestartStorm::default(), Instant::now());
        for second in 0..10 {
            storm.record(Some("GET /new"), Generation(2), start + s(second));
        }
        assert_eq!(storm.rates(Generation(1), start + s(10)), [].into());
        assert_eq!(storm.rates(Generation(3), start + s(10)), [].into());
        storm.record(Some("GET /"), Generation(1), start + s(10));
        for second in 11..20 {
            storm.record(Some("GET /"), Generation(3), start + s(second));
        }
        assert_eq!(storm.rates(Generation(3), start + s(20)), [("GET /".to_owned(), 60)].into());
    }

    #[test]
    fn occasional_crashes_are_not_a_storm() {
        let (mut storm, start) = (RestartStorm::default(), Instant::now());
        for minute in 0..100 {
            let now = start + s(60 * minute);
            assert_eq!(storm.check_deadlines(now), None);
            for _ in 1..STORM {
                assert_eq!(storm.record(Some("GET /"), ONE, now), None);
            }
        }
    }

    #[test]
    fn varied_requests_fill_neither_memory_nor_log_lines() {
        let (mut storm, start) = (RestartStorm::default(), Instant::now());
        let mut counted = 0;
        for number in 0..1000 {
            let report = storm.record(Some(&format!("GET /{number}")), ONE, start);
            counted += report.map_or(0, |report| report.crashes_count);
            assert!(storm.causes.len() <= REQUESTS + 1);
        }
        let report = storm.check_deadlines(start + PERIOD).unwrap();
        assert_eq!(counted + report.crashes_count, 1000);
        assert_eq!(report.requests.split(", ").count(), NAMED + 1);
    }
}
