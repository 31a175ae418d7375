//! When a burst of changes is over. An editor writes a file in several steps, and `git checkout` writes many files.

use std::time::{Duration, Instant};

/// A burst is over after this time without a change.
pub const QUIET: Duration = Duration::from_millis(50);
/// A burst that goes on is reported after this time, because something may write all the time.
pub const MAXIMUM: Duration = Duration::from_millis(500);

/// The state of a burst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Debounce {
    /// Nothing has changed since the last report.
    #[default]
    Idle,
    /// Something has changed.
    Changing {
        /// The first change.
        first: Instant,
        /// The last change.
        last: Instant,
    },
}

impl Debounce {
    /// Records a change.
    pub fn note(&mut self, now: Instant) {
        *self = match *self {
            Self::Idle => Self::Changing { first: now, last: now },
            Self::Changing { first, .. } => Self::Changing { first, last: now },
        };
    }

    /// When the burst is reported.
    pub fn deadline(&self) -> Option<Instant> {
        match *self {
            Self::Idle => None,
            Self::Changing { first, last } => Some((last + QUIET).min(first + MAXIMUM)),
        }
    }

    /// Whether the burst is over; then the next change begins another one.
    pub fn is_over(&mut self, now: Instant) -> bool {
        let is_over = self.deadline().is_some_and(|deadline| deadline <= now);
        if is_over {
            *self = Self::Idle;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    #[test]
    fn a_burst_is_reported_once_it_is_quiet() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.deadline(), None);
        debounce.note(start);
        debounce.note(start + STEP);
        assert!(!debounce.is_over(start + QUIET));
        assert_eq!(debounce.deadline(), Some(start + STEP + QUIET));
        assert!(debounce.is_over(start + STEP + QUIET));
        assert!(!debounce.is_over(start + MAXIMUM) && debounce == Debounce::Idle);
    }

    #[test]
    fn changes_that_never_stop_are_reported_all_the_same() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        let mut now = start;
        while !debounce.is_over(now) {
            debounce.note(now);
            now += STEP;
        }
        assert!(now <= start + MAXIMUM + STEP, "{:?}", now - start);
    }
}
