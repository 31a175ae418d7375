//! What the worker is doing, and how long that may last. Pure: time is an argument.
//!
//! As long as there is a supervisor, it looks after the time limits and kills the worker. An orphan has only
//! itself: whatever it was doing, it exits within [`ORPHAN_LIMIT`].

use std::time::{Duration, Instant};

/// While a worker drains, it finishes its in-flight requests, and idle clients may send one more request for this long: closing at once would race it.
pub(super) const DRAIN_QUIET: Duration = Duration::from_secs(1);

/// Until when a client may retransmit what was dropped before its connection was accepted, if it had waited in
/// the accept queue for this long. TCP doubles the wait between two attempts, so the next one comes at most as
/// long after the last as the last came after the first, plus one initial wait (0.2 s and a round trip).
pub(super) fn resends_until(accepted: Instant, waited: Duration) -> Instant {
    accepted + waited + DRAIN_QUIET
}

/// How long a worker without a supervisor finishes what it has.
const ORPHAN_LIMIT: Duration = Duration::from_secs(10);
/// How long the exit of an orphan may take after its loop has ended, however late that was: a single request may
/// have taken longer than [`ORPHAN_LIMIT`].
const ORPHAN_EXIT_LIMIT: Duration = Duration::from_secs(1);
/// How long an orphan takes connections from the accept queue.
const ORPHAN_ACCEPTS: Duration = Duration::from_secs(5);
/// How long replies go on after the interpreter's signal handlers have requested an exit
/// ([`crate::application::ShutdownRequest::Exit`]): nobody else looks after the time. A supervisor grants as much
/// in a quick stop.
const EXIT_LIMIT: Duration = Duration::from_secs(2);

/// The deadline for the exit of a worker that left its loop `now` and lost its supervisor at `lost_at`.
pub(super) fn exit_deadline(lost_at: Instant, now: Instant) -> Instant {
    (lost_at + ORPHAN_LIMIT).max(now + ORPHAN_EXIT_LIMIT)
}

/// What the worker is doing. [`super`] has the table of phases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Serving,
    LameDuck,
    Draining {
        since: Instant,
        cause: DrainCause,
    },
    /// `until` is `None` if the supervisor looks after the time.
    Exiting {
        until: Option<Instant>,
    },
}

/// Why a worker drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainCause {
    /// The supervisor's command: all workers empty the accept queue, and the supervisor looks after the time.
    Command,
    /// A signal to this worker alone, which leaves the accept queue to the others.
    Signal,
    /// The supervisor is gone: nobody else looks after the time.
    Orphaned,
    /// The control socket has ended although the supervisor runs: it does not look after this worker any more,
    /// but it does after all that the workers share.
    Disconnected,
}

impl Phase {
    /// The supervisor does not look after this worker any more. An exiting worker goes on exiting, but within a
    /// limit of its own.
    pub(super) fn orphaned(self, now: Instant, cause: DrainCause) -> Self {
        match self {
            Self::Serving | Self::LameDuck | Self::Draining { .. } => {
                Self::Draining { since: now, cause }
            }
            Self::Exiting { until } => {
                let end = now + ORPHAN_LIMIT;
                Self::Exiting { until: Some(until.map_or(end, |until| until.min(end))) }
            }
        }
    }

    /// A quick stop was requested. The command word of a supervisor that is gone still requests one of its
    /// orphans, whose time runs on.
    pub(super) fn quick_stop(self) -> Self {
        match self {
            Self::Serving
            | Self::LameDuck
            | Self::Draining { cause: DrainCause::Command | DrainCause::Signal, .. } => {
                Self::Exiting { until: None }
            }
            Self::Draining { since, cause: DrainCause::Orphaned | DrainCause::Disconnected } => {
                Self::Exiting { until: Some(since + ORPHAN_LIMIT) }
            }
            Self::Exiting { .. } => self,
        }
    }

    /// The interpreter's signal handlers have requested an exit, which the worker limits itself. A second request
    /// ends it at once.
    pub(super) fn exit_requested(self, now: Instant) -> Self {
        let until = match self {
            Self::Exiting { .. } => now,
            Self::Serving | Self::LameDuck | Self::Draining { .. } => now + EXIT_LIMIT,
        };
        Self::Exiting { until: Some(until) }
    }

    /// Whether the worker exits now, even if it is still answering.
    pub(super) fn has_expired(self, now: Instant) -> bool {
        self.deadline().is_some_and(|end| end <= now)
    }

    /// Until when an orphan takes connections from the accept queue.
    pub(super) fn accepts_until(since: Instant) -> Instant {
        since + ORPHAN_ACCEPTS
    }

    /// When this phase may end without anything happening.
    pub(super) fn next_deadline(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Draining { since, .. } if since + DRAIN_QUIET > now => Some(since + DRAIN_QUIET),
            Self::Serving | Self::LameDuck | Self::Draining { .. } | Self::Exiting { .. } => {
                self.deadline()
            }
        }
    }

    /// When the worker exits at the latest, if it limits that itself.
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Draining { since, cause: DrainCause::Orphaned | DrainCause::Disconnected } => {
                Some(since + ORPHAN_LIMIT)
            }
            Self::Exiting { until } => until,
            Self::Serving
            | Self::LameDuck
            | Self::Draining { cause: DrainCause::Command | DrainCause::Signal, .. } => None,
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
    fn an_orphan_exits_after_ten_seconds_whatever_it_was_doing() {
        let start = Instant::now();
        let draining = |cause| Phase::Draining { since: start, cause };
        let phases = [
            Phase::Serving,
            Phase::LameDuck,
            draining(DrainCause::Command),
            draining(DrainCause::Signal),
            Phase::Exiting { until: None },
            Phase::Exiting { until: Some(start + s(60)) },
        ];
        let lost = start + s(20);
        for phase in phases {
            let orphans =
                [DrainCause::Orphaned, DrainCause::Disconnected].map(|it| phase.orphaned(lost, it));
            for orphan in orphans.into_iter().flat_map(|orphan| [orphan, orphan.quick_stop()]) {
                assert!(!orphan.has_expired(lost + s(9)), "{phase:?}");
                assert!(orphan.has_expired(lost + s(10)), "{phase:?}");
                assert_eq!(orphan.next_deadline(lost + s(5)), Some(lost + s(10)), "{phase:?}");
            }
        }
    }

    #[test]
    fn an_orphan_has_the_rest_of_the_ten_seconds_to_exit_but_at_least_one() {
        let lost = Instant::now();
        for (left, end) in [(s(0), s(10)), (s(8), s(10)), (s(10), s(11)), (s(60), s(61))] {
            assert_eq!(exit_deadline(lost, lost + left), lost + end, "{left:?}");
        }
    }

    #[test]
    fn an_orphan_that_had_to_exit_earlier_does() {
        let now = Instant::now();
        let phase = Phase::Exiting { until: Some(now + s(2)) };
        assert_eq!(phase.orphaned(now, DrainCause::Orphaned), phase);
    }

    #[test]
    fn a_worker_with_a_supervisor_never_expires_by_itself() {
        let now = Instant::now();
        for cause in [DrainCause::Command, DrainCause::Signal] {
            let draining = Phase::Draining { since: now, cause };
            assert!(!draining.has_expired(now + s(1000)));
            assert_eq!(draining.next_deadline(now), Some(now + DRAIN_QUIET));
            assert_eq!(draining.next_deadline(now + s(2)), None);
            assert_eq!(draining.quick_stop(), Phase::Exiting { until: None });
        }
        assert!(!Phase::Exiting { until: None }.has_expired(now + s(1000)));
    }

    /// Attempts at 0, R, 3R, 7R and so on, with a first wait R of 0.2 s and a round trip.
    #[test]
    fn the_next_attempt_of_a_client_is_in_time_however_long_it_waited() {
        let ms = Duration::from_millis;
        let made = Instant::now();
        for first_wait in [ms(200), ms(500), ms(900)] {
            let attempt = |number: u32| made + first_wait * (2_u32.pow(number) - 1);
            for number in 0..6 {
                let just_missed = attempt(number) - made;
                let until = resends_until(made + just_missed, just_missed);
                assert!(attempt(number + 1) < until, "{first_wait:?} {number}");
            }
        }
    }

    #[test]
    fn a_second_exit_request_ends_the_worker_at_once() {
        let now = Instant::now();
        let exiting = Phase::Serving.exit_requested(now);
        assert!(!exiting.has_expired(now + s(1)));
        assert!(exiting.has_expired(now + s(2)));
        assert!(exiting.exit_requested(now + s(1)).has_expired(now + s(1)));
    }
}
