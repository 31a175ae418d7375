//! What the worker is about, and how long that may last. Pure: the time comes in.
//!
//! Where there is a supervisor it looks after the time, and kills. An orphan has only itself: whatever it
//! was about, it is gone [`ORPHAN_PATIENCE`] later.

use std::time::{Duration, Instant};

/// While draining, idle peers may send one more request for so long: closing at once would race it.
pub(super) const DRAIN_QUIET: Duration = Duration::from_secs(1);
/// How long a worker without a supervisor finishes what it has.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(10);
/// How long what comes after its loop may take, however late that was: a request may have taken longer than
/// [`ORPHAN_PATIENCE`] by itself.
const EXIT_PATIENCE: Duration = Duration::from_secs(1);
/// And how long it takes connections from the queue before that.
const ORPHAN_TAKES: Duration = Duration::from_secs(5);
/// How long replies go on when the interpreter's signal handlers want an end
/// ([`crate::application::Heard::Leave`]): nobody else looks after the time. As long as a supervisor gives
/// them in a quick stop.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);

/// When a worker has to be gone that has come out of its loop `now`, and that nobody looks after since `lost_at`.
pub(super) fn exit_ends(lost_at: Instant, now: Instant) -> Instant {
    (lost_at + ORPHAN_PATIENCE).max(now + EXIT_PATIENCE)
}

/// What the worker is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    Announcing,
    Draining {
        since: Instant,
        cause: Cause,
    },
    /// `until` is `None` where the supervisor looks after the time.
    Leaving {
        until: Option<Instant>,
    },
}

/// Who wants the worker to drain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The supervisor: all workers empty the queue, and it looks after the time.
    Command,
    /// A signal to this worker alone, which leaves the queue to the others.
    Signal,
    /// The supervisor's end: nobody else looks after the time.
    Orphaned,
    /// The end of the line to a supervisor that lives: it does not look after this worker any more, but it
    /// does after all that the workers share.
    Disconnected,
}

impl Phase {
    /// Nobody looks after this worker any more, for this cause. A worker that leaves goes on leaving, but within a
    /// time of its own.
    pub(super) fn orphaned(self, now: Instant, cause: Cause) -> Self {
        match self {
            Self::Serving | Self::Announcing | Self::Draining { .. } => {
                Self::Draining { since: now, cause }
            }
            Self::Leaving { until } => {
                let end = now + ORPHAN_PATIENCE;
                Self::Leaving { until: Some(until.map_or(end, |until| until.min(end))) }
            }
        }
    }

    /// Told to be quick. The word of a supervisor that is gone still says so to its orphans, whose time
    /// runs on.
    pub(super) fn hurried(self) -> Self {
        match self {
            Self::Serving
            | Self::Announcing
            | Self::Draining { cause: Cause::Command | Cause::Signal, .. } => {
                Self::Leaving { until: None }
            }
            Self::Draining { since, cause: Cause::Orphaned | Cause::Disconnected } => {
                Self::Leaving { until: Some(since + ORPHAN_PATIENCE) }
            }
            Self::Leaving { .. } => self,
        }
    }

    /// Told to leave within a time of its own; who asks again is out of patience.
    pub(super) fn dismissed(self, now: Instant) -> Self {
        let until = match self {
            Self::Leaving { .. } => now,
            Self::Serving | Self::Announcing | Self::Draining { .. } => now + LEAVE_PATIENCE,
        };
        Self::Leaving { until: Some(until) }
    }

    /// Whether it ends now, whoever is still being answered.
    pub(super) fn is_out_of_time(self, now: Instant) -> bool {
        self.ends().is_some_and(|end| end <= now)
    }

    /// Until when an orphan takes connections from the queue.
    pub(super) fn takes_until(since: Instant) -> Instant {
        since + ORPHAN_TAKES
    }

    /// When this phase may end without anything happening.
    pub(super) fn next_look(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Draining { since, .. } if since + DRAIN_QUIET > now => Some(since + DRAIN_QUIET),
            Self::Serving | Self::Announcing | Self::Draining { .. } | Self::Leaving { .. } => {
                self.ends()
            }
        }
    }

    /// When it ends at the latest, where nobody else looks after that.
    fn ends(self) -> Option<Instant> {
        match self {
            Self::Draining { since, cause: Cause::Orphaned | Cause::Disconnected } => {
                Some(since + ORPHAN_PATIENCE)
            }
            Self::Leaving { until } => until,
            Self::Serving
            | Self::Announcing
            | Self::Draining { cause: Cause::Command | Cause::Signal, .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_orphan_is_gone_after_ten_seconds_whatever_it_was_about() {
        let start = Instant::now();
        let draining = |cause| Phase::Draining { since: start, cause };
        let phases = [
            Phase::Serving,
            Phase::Announcing,
            draining(Cause::Command),
            draining(Cause::Signal),
            Phase::Leaving { until: None },
            Phase::Leaving { until: Some(start + s(60)) },
        ];
        let lost = start + s(20);
        for phase in phases {
            let orphans = [Cause::Orphaned, Cause::Disconnected].map(|it| phase.orphaned(lost, it));
            for orphan in orphans.into_iter().flat_map(|orphan| [orphan, orphan.hurried()]) {
                assert!(!orphan.is_out_of_time(lost + s(9)), "{phase:?}");
                assert!(orphan.is_out_of_time(lost + s(10)), "{phase:?}");
                assert_eq!(orphan.next_look(lost + s(5)), Some(lost + s(10)), "{phase:?}");
            }
        }
    }

    #[test]
    fn the_exit_of_an_orphan_has_the_rest_of_the_ten_seconds_and_at_least_one() {
        let lost = Instant::now();
        for (left, end) in [(s(0), s(10)), (s(8), s(10)), (s(10), s(11)), (s(60), s(61))] {
            assert_eq!(exit_ends(lost, lost + left), lost + end, "{left:?}");
        }
    }

    #[test]
    fn an_orphan_that_was_to_leave_earlier_does() {
        let now = Instant::now();
        let phase = Phase::Leaving { until: Some(now + s(2)) };
        assert_eq!(phase.orphaned(now, Cause::Orphaned), phase);
    }

    #[test]
    fn a_worker_with_a_supervisor_is_never_out_of_time_by_itself() {
        let now = Instant::now();
        for cause in [Cause::Command, Cause::Signal] {
            let draining = Phase::Draining { since: now, cause };
            assert!(!draining.is_out_of_time(now + s(1000)));
            assert_eq!(draining.next_look(now), Some(now + DRAIN_QUIET));
            assert_eq!(draining.next_look(now + s(2)), None);
            assert_eq!(draining.hurried(), Phase::Leaving { until: None });
        }
        assert!(!Phase::Leaving { until: None }.is_out_of_time(now + s(1000)));
    }

    #[test]
    fn who_is_dismissed_twice_leaves_at_once() {
        let now = Instant::now();
        let leaving = Phase::Serving.dismissed(now);
        assert!(!leaving.is_out_of_time(now + s(1)));
        assert!(leaving.is_out_of_time(now + s(2)));
        assert!(leaving.dismissed(now + s(1)).is_out_of_time(now + s(1)));
    }
}
