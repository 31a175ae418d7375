//! Requests that stand for others: of each class of statuses and each octave of durations, the last one that belongs to a
//! sampled trace.
//!
//! A page of metrics shows them beside the bucket that counts them (OpenMetrics 1.0, "Exemplars"), so that an operator
//! comes from a slow percentile to the trace of such a request.

use std::num::NonZeroU128;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::shared::scoreboard::cell::{saturating_ns, whole_us};
use crate::shared::scoreboard::{StatusClass, seqlock};

/// A request, by its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The trace that the request belongs to (W3C Trace Context, `trace-id`).
    pub trace: NonZeroU128,
    /// As in [`super::RequestTimes::duration`].
    pub duration: Duration,
    /// When the request was finished, since 1970.
    pub time: Duration,
}

/// The exemplars of an entry. They stay when the next worker gets it, like the durations that they belong to.
#[repr(C, align(128))]
pub struct Exemplars {
    cells: [[ExemplarCell; Self::OCTAVES]; StatusClass::ALL.len()],
}

#[repr(C)]
struct ExemplarCell {
    sequence: AtomicU64,
    /// Shape: the upper and the lower half. Zero while there is none.
    trace: [AtomicU64; 2],
    duration_ns: AtomicU64,
    time_us: AtomicU64,
}

impl Exemplars {
    /// The number of octaves of durations: below 2 us, from 2 us to 4 us, and so on; the last one begins at 2^30 us, which
    /// are 18 min.
    pub const OCTAVES: usize = 31;

    pub(super) const fn new() -> Self {
        Self {
            cells: [const { [const { ExemplarCell::new() }; Self::OCTAVES] };
                StatusClass::ALL.len()],
        }
    }

    /// The octave of a duration.
    pub fn octave_of(duration: Duration) -> usize {
        let octave = whole_us(duration).checked_ilog2().unwrap_or(0) as usize;
        octave.min(Self::OCTAVES - 1)
    }

    /// Replaces the exemplar of its octave. Called by the worker.
    pub fn record(&self, class: StatusClass, exemplar: Exemplar) {
        let cell = &self.cells[class as usize][Self::octave_of(exemplar.duration)];
        let trace = exemplar.trace.get();
        seqlock::change(&cell.sequence, || {
            cell.trace[0].store((trace >> 64) as u64, Ordering::Relaxed);
            cell.trace[1].store(trace as u64, Ordering::Relaxed);
            cell.duration_ns.store(saturating_ns(exemplar.duration), Ordering::Relaxed);
            cell.time_us.store(whole_us(exemplar.time), Ordering::Relaxed);
        });
    }

    /// The exemplar of an octave below [`Exemplars::OCTAVES`]; `None` if there is none, or if it changes at this moment.
    pub fn read(&self, class: StatusClass, octave: usize) -> Option<Exemplar> {
        let cell = &self.cells[class as usize][octave];
        let (trace, exemplar) = seqlock::read(&cell.sequence, || {
            let [upper, lower] = [&cell.trace[0], &cell.trace[1]]
                .map(|half| u128::from(half.load(Ordering::Relaxed)));
            let duration = Duration::from_nanos(cell.duration_ns.load(Ordering::Relaxed));
            let time = Duration::from_micros(cell.time_us.load(Ordering::Relaxed));
            (upper << 64 | lower, (duration, time))
        })?;
        let (duration, time) = exemplar;
        // A worker that overwrites its entry can leave a duration that belongs elsewhere.
        let exemplar = Exemplar { trace: NonZeroU128::new(trace)?, duration, time };
        (Self::octave_of(duration) == octave).then_some(exemplar)
    }
}

impl ExemplarCell {
    const fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            trace: [AtomicU64::new(0), AtomicU64::new(0)],
            duration_ns: AtomicU64::new(0),
            time_us: AtomicU64::new(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(trace: u128, duration: Duration) -> Exemplar {
        let trace = NonZeroU128::new(trace).unwrap();
        Exemplar { trace, duration, time: Duration::from_micros(1_790_000_000_123_456) }
    }

    #[test]
    fn the_octaves_are_those_between_powers_of_two_in_microseconds() {
        let of_ns = |ns| Exemplars::octave_of(Duration::from_nanos(ns));
        assert_eq!([0, 1999, 2000, 3999, 4000, 1_024_000].map(of_ns), [0, 0, 1, 1, 2, 10]);
        let of_us = |us| Exemplars::octave_of(Duration::from_micros(us));
        assert_eq!([(1 << 30) - 1, 1 << 30, u64::MAX].map(of_us), [29, 30, 30]);
    }

    #[test]
    fn the_last_exemplar_of_each_octave_and_class_is_kept() {
        let exemplars = Exemplars::new();
        let (short, long) = (Duration::from_micros(5), Duration::from_millis(5));
        let first = exemplar(1, short);
        let second = exemplar(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736, short);
        let failed = exemplar(3, long);
        exemplars.record(StatusClass::Success, first);
        exemplars.record(StatusClass::Success, second);
        exemplars.record(StatusClass::ServerError, failed);
        let read = |class, duration| exemplars.read(class, Exemplars::octave_of(duration));
        assert_eq!(read(StatusClass::Success, short), Some(second));
        assert_eq!(read(StatusClass::Success, long), None);
        assert_eq!(read(StatusClass::ServerError, long), Some(failed));
    }

    #[test]
    fn what_a_wild_pointer_writes_is_no_exemplar_of_another_octave() {
        let exemplars = Exemplars::new();
        let cell = &exemplars.cells[0][4];
        for word in [1, 2, u64::MAX, u64::MAX - 1] {
            for cell in [&cell.sequence, &cell.trace[0], &cell.duration_ns, &cell.time_us] {
                cell.store(word, Ordering::Relaxed);
            }
            assert_eq!(exemplars.read(StatusClass::Success, 4), None);
        }
    }

    #[test]
    fn an_exemplar_that_its_worker_did_not_finish_is_none_until_the_next_one() {
        let exemplars = Exemplars::new();
        let (one, other) = (exemplar(1, Duration::ZERO), exemplar(2, Duration::ZERO));
        exemplars.record(StatusClass::Success, one);
        exemplars.cells[0][0].sequence.fetch_add(1, Ordering::Relaxed);
        assert_eq!(exemplars.read(StatusClass::Success, 0), None);
        exemplars.record(StatusClass::Success, other);
        assert_eq!(exemplars.read(StatusClass::Success, 0), Some(other));
    }
}
