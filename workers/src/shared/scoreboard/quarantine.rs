//! The requests that are in quarantine: a table in shared memory, which outlives workers.
//!
//! The supervisor alone decides what is in it, and never reads its own decisions back. Workers read the table before
//! they call the application, and count what they refuse. A worker that overwrites the table can refuse or admit wrong
//! requests; it cannot mislead the supervisor.
//!
//! | word | written by | read by |
//! |---|---|---|
//! | count: how many places are taken | supervisor | workers, before each request; 0 is the end of it |
//! | sequence, key, end of one place | supervisor | workers, if the count is not 0 |
//! | refused of one place | workers | supervisor, to show it |
//!
//! A worker that finds that key and end change at this moment admits the request, and does not wait.

mod keyed_end;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::shared::request_key::RequestKey;
use crate::shared::scoreboard::cell::whole_us;
use crate::shared::scoreboard::{atomics, seqlock};

use keyed_end::KeyedEnd;

/// The table.
#[repr(C, align(128))]
pub struct QuarantineTable {
    count: AtomicU64,
    places: [Place; Self::PLACES],
}

#[repr(C)]
struct Place {
    /// The key of the requests, and the moment from which on none of them is refused, in microseconds of
    /// CLOCK_MONOTONIC.
    keyed_end: KeyedEnd,
    /// The number of requests that were refused for this place.
    refused: AtomicU64,
}

impl QuarantineTable {
    /// How many requests can be in quarantine at once.
    pub const PLACES: usize = 64;

    pub(super) fn new() -> Self {
        let vacant = |_| Place { keyed_end: KeyedEnd::new(), refused: AtomicU64::new(0) };
        Self { count: AtomicU64::new(0), places: std::array::from_fn(vacant) }
    }

    /// Whether no request is in quarantine. Called by workers before each request.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Returns how much longer a request is in quarantine, and counts it as refused; `None` if it is not. Called by
    /// workers.
    pub fn refuse(&self, key: RequestKey, monotonic: Duration) -> Option<Duration> {
        let end_of = |place: &Place| place.keyed_end.end_of(key.word());
        let (place, end_us) = self.places.iter().find_map(|place| Some((place, end_of(place)?)))?;
        let rest = Duration::from_micros(end_us).checked_sub(monotonic);
        let rest = rest.filter(|rest| !rest.is_zero())?;
        place.refused.fetch_add(1, Ordering::Relaxed);
        Some(rest)
    }

    /// Puts requests into quarantine until a moment, or moves the end of their quarantine. Called by the supervisor.
    pub fn set(&self, place: usize, key: RequestKey, end: Duration) {
        let Some(place) = self.places.get(place) else { return };
        if place.keyed_end.key() != key.word() {
            place.refused.store(0, Ordering::Relaxed);
        }
        place.keyed_end.change(key.word(), whole_us(end));
    }

    /// Ends the quarantine of a place. Called by the supervisor.
    pub fn vacate(&self, place: usize) {
        let Some(place) = self.places.get(place) else { return };
        place.keyed_end.change(0, 0);
        place.refused.store(0, Ordering::Relaxed);
    }

    /// Sets the number of places that are taken. Called by the supervisor after each change.
    pub fn set_count(&self, count: usize) {
        self.count.store(count as u64, Ordering::Release);
    }

    /// The number of requests that were refused for a place. A worker may have written anything here.
    pub fn refused(&self, place: usize) -> u64 {
        self.places.get(place).map_or(0, |place| place.refused.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;
    use crate::shared::request_key::RequestKeys;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn key(path: &str) -> RequestKey {
        RequestKey::from_word(path.bytes().fold(7, |sum, byte| sum * 31 + u64::from(byte))).unwrap()
    }

    #[test]
    fn a_request_is_refused_until_its_quarantine_ends() {
        let table = QuarantineTable::new();
        assert!(table.is_empty());
        assert_eq!(table.refuse(key("/a"), s(0)), None);
        table.set(3, key("/a"), s(100));
        table.set_count(1);
        assert!(!table.is_empty());
        assert_eq!(table.refuse(key("/a"), s(40)), Some(s(60)));
        assert_eq!(table.refuse(key("/b"), s(40)), None);
        table.set(3, key("/a"), s(120));
        assert_eq!(table.refuse(key("/a"), s(119)), Some(s(1)));
        assert_eq!(table.refuse(key("/a"), s(120)), None, "without the supervisor");
        assert_eq!(table.refused(3), 2);
        table.vacate(3);
        table.set_count(0);
        assert!(table.is_empty());
        assert_eq!((table.refuse(key("/a"), s(40)), table.refused(3)), (None, 0));
    }

    #[test]
    fn the_next_key_of_a_place_begins_at_zero() {
        let table = QuarantineTable::new();
        table.set(0, key("/a"), s(100));
        assert!(table.refuse(key("/a"), s(1)).is_some());
        table.set(0, key("/b"), s(200));
        assert_eq!((table.refuse(key("/a"), s(1)), table.refused(0)), (None, 0));
        assert_eq!(table.refuse(key("/b"), s(1)), Some(s(199)));
    }

    #[test]
    fn places_beyond_the_last_are_ignored() {
        let table = QuarantineTable::new();
        table.set(QuarantineTable::PLACES, key("/a"), s(100));
        table.vacate(QuarantineTable::PLACES);
        assert_eq!(table.refused(usize::MAX), 0);
        assert_eq!(table.refuse(key("/a"), s(1)), None);
    }

    #[test]
    fn a_worker_that_overwrites_the_table_changes_only_what_workers_refuse() {
        let table = QuarantineTable::new();
        let secret = RequestKeys::new().of(b"GET", b"/");
        for word in [u64::MAX, 1, secret.word()] {
            for place in &table.places {
                place.keyed_end.overwrite(word);
                place.refused.store(u64::MAX, Ordering::Relaxed);
            }
            table.count.store(word, Ordering::Relaxed);
            let refused = table.refuse(RequestKey::from_word(word).unwrap(), s(1)).is_some();
            assert_eq!(refused, word.is_multiple_of(2));
        }
        table.set(0, key("/a"), s(100));
        table.set_count(1);
        assert_eq!(table.refuse(key("/a"), s(1)), Some(s(99)));
    }

    #[test]
    fn no_request_is_refused_by_the_end_of_another_one() {
        let table = QuarantineTable::new();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let rest = table.refuse(key("/short"), s(0));
                    assert!(rest.is_none_or(|rest| rest == s(1)), "{rest:?}");
                }
            });
            for _ in 0..100_000 {
                table.set(0, key("/short"), s(1));
                table.set(0, key("/long"), s(1000));
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
