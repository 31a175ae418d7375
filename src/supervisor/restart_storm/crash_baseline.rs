//! The crash baseline: if old workers crash in the same way, the crash of a new worker is no evidence against the new
//! code.
//!
//! Without the baseline, an application that loses a worker per second could not be repaired, because new workers get
//! the same requests. A crash belongs to the baseline only if its request repeatedly crashed old workers in the last
//! minute, and not many more new ones: new code that crashes in every request of a kind is worse than old code that
//! crashes now and then. Crashes that are spread over many requests count together, at their total rate.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Instant;

use super::{OTHERS, REQUESTS};

/// Number of crashes that belong to the baseline however little time has passed.
const AT_ONCE: u64 = 2;
/// Maximum crash rate of new workers, as a multiple of the rate of old ones. It allows for the shorter time in which
/// new workers are counted.
const FACTOR: u64 = 2;

/// The crash rates of old workers, and the crashes of new ones that were accepted.
#[derive(Clone, Debug)]
pub struct CrashBaseline {
    /// The number of workers that each request crashed per minute.
    rates: BTreeMap<String, u64>,
    /// The number of accepted crashes for each request.
    used: BTreeMap<String, u64>,
    since: Instant,
}

impl CrashBaseline {
    /// Returns a baseline with these rates of old workers, to which new workers are compared from now on.
    pub fn new(rates: BTreeMap<String, u64>, now: Instant) -> Self {
        Self { rates, used: BTreeMap::new(), since: now }
    }

    /// Adds rates at which old workers go on crashing. The higher rate of each request counts.
    pub fn extend(&mut self, rates: BTreeMap<String, u64>) {
        for (request, rate) in rates.into_iter().take(REQUESTS) {
            let known = self.rates.entry(request).or_default();
            *known = rate.max(*known);
        }
    }

    /// Whether the crash of a new worker in this request belongs to the baseline. An unknown request may be one in
    /// which old workers crash now and then.
    pub fn accept(&mut self, request: Option<&str>, now: Instant) -> bool {
        let known = request.and_then(|request| self.rates.get_key_value(request));
        let Some((request, rate)) = known.or_else(|| self.rates.get_key_value(OTHERS)) else {
            return false;
        };
        let elapsed_ms = now.saturating_duration_since(self.since).as_millis();
        let elapsed_ms = u64::try_from(elapsed_ms).unwrap_or(u64::MAX);
        let expected = rate.saturating_mul(FACTOR).saturating_mul(elapsed_ms) / 60_000;
        let used = self.used.entry(request.clone()).or_default();
        *used += 1;
        *used <= AT_ONCE + expected
    }
}

/// Encodes the rates for another server, one line `N METHOD PATH` for each. The highest rates come first, because the
/// message may be cut.
pub fn encode(rates: &BTreeMap<String, u64>) -> String {
    let mut text = String::new();
    let mut rates: Vec<_> = rates.iter().collect();
    rates.sort_by(|(_, one), (_, other)| other.cmp(one));
    for (request, rate) in rates.into_iter().take(REQUESTS) {
        let _ = writeln!(text, "{rate} {request}"); // Writing to a String never fails.
    }
    text
}

/// Decodes rates. Malformed lines are skipped.
pub fn decode(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (rate, request) = line.split_once(' ')?;
        Some((request.to_owned(), rate.parse().ok()?))
    };
    text.lines().filter_map(line).take(REQUESTS).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn crashes_of_old_workers_are_the_baseline_for_new_ones() {
        let start = Instant::now();
        let mut baseline = CrashBaseline::new([("GET /crash".to_owned(), 60)].into(), start);
        for second in 1..20 {
            assert!(baseline.accept(Some("GET /crash"), start + s(second)));
        }
        let mut worse = CrashBaseline::new([("GET /crash".to_owned(), 60)].into(), start);
        let accepted = (0..10).filter(|_| worse.accept(Some("GET /crash"), start + s(1)));
        assert_eq!(accepted.count(), 4);
    }

    #[test]
    fn another_request_or_none_has_no_baseline() {
        let start = Instant::now();
        let mut baseline = CrashBaseline::new([("GET /crash".to_owned(), 60)].into(), start);
        assert!(!baseline.accept(Some("GET /"), start + s(9)));
        assert!(!baseline.accept(None, start + s(9)));
    }

    #[test]
    fn crashes_that_are_spread_over_requests_form_a_common_baseline() {
        let start = Instant::now();
        let baseline = CrashBaseline::new([(OTHERS.to_owned(), 60)].into(), start);
        let mut as_before = baseline.clone();
        for second in 1..20 {
            assert!(as_before.accept(Some(&format!("GET /item/{second}")), start + s(second)));
        }
        let mut worse = baseline;
        let accepted = (0..10).filter(|_| worse.accept(None, start + s(1)));
        assert_eq!(accepted.count(), 4);
    }

    #[test]
    fn rates_are_the_same_after_encoding_and_decoding() {
        let start = Instant::now();
        let rates: BTreeMap<_, _> = [("GET /a b".to_owned(), 3), ("POST /é".to_owned(), 60)].into();
        assert_eq!(decode(&encode(&rates)), rates);
        assert_eq!(decode("x GET /\n7\n\n"), BTreeMap::new());
        let mut many: BTreeMap<_, _> = (0..1000).map(|n| (format!("GET /{n}"), 3)).collect();
        many.insert("POST /worst".to_owned(), 60);
        assert_eq!(decode(&encode(&many)).len(), REQUESTS);
        assert_eq!(decode(&encode(&many)).get("POST /worst"), Some(&60));
        let mut baseline = CrashBaseline::new(BTreeMap::new(), start);
        baseline.extend(rates);
        assert!(baseline.accept(Some("GET /a b"), start));
    }
}
