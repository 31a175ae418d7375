//! Health checks: whether a worker hangs, judged by its scoreboard entry.
//!
//! This is pure code: the entry and the time come in, and a finding goes out. [`crate::monitor`] decides how often
//! workers are checked, and the state machine decides what follows.

use std::time::Duration;

use arctos_worker::settings::CallLimits;
use arctos_worker::shared::scoreboard::WorkerEntry;

/// The loop of an idle worker makes a step every 2 s, and that of a busy one for each connection that it serves. A loop
/// that has made no step for this long is stopped or stuck.
pub const LOOP_PATIENCE: Duration = Duration::from_secs(10);
/// Minimum time limit for the exit of the application, even if a stop has a shorter one: a worker that exits by itself
/// isn't part of a stop.
const EXIT_PATIENCE: Duration = Duration::from_secs(10);

/// Time limits for what belongs to the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed<'a> {
    /// Time limits for one call.
    pub calls: &'a CallLimits,
    /// How long a request may still run after the exception that its time limit raises; `None` raises none.
    pub reaction: Option<Duration>,
    /// Time limit for a graceful stop, which includes exit hooks, exit handlers and the end of threads.
    pub stop: Duration,
}

impl Allowed<'_> {
    /// Returns the time limit for the running call of a worker: that of its route, and what it has asked for.
    pub fn call(&self, entry: &WorkerEntry) -> Option<Duration> {
        let limit = match entry.request_start() {
            Some(_) if !self.calls.routes.is_empty() => {
                self.calls.of_request(&entry.request_line().unwrap_or_default())
            }
            Some(_) | None => self.calls.usual,
        };
        limit.map(|limit| limit.saturating_add(entry.call_extension()))
    }
}

/// The place where a worker hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// A request, or another call of the application, of this age.
    Request(Duration),
    /// Its own loop, which has made no step for this long. The process may also have been stopped.
    Loop(Duration),
    /// Its exit hooks, which have run for this long.
    Exit(Duration),
}

/// A suspension of the supervisor, and perhaps of its workers. It doesn't count toward the time of anything that began
/// before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Grace {
    /// When the supervisor was resumed; zero if it never was suspended.
    pub until: Duration,
    /// How long the supervisor was suspended.
    pub gap: Duration,
}

impl Grace {
    /// Returns the time from a moment until now, without a suspension in between.
    pub(super) fn since(&self, moment: Duration, monotonic: Duration) -> Duration {
        let not_counted = if moment < self.until { self.gap } else { Duration::ZERO };
        monotonic.saturating_sub(moment).saturating_sub(not_counted)
    }
}

/// The progress of one worker's loop: the number of its steps, and the time since which it has made none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    ticks: u64,
    since: Duration,
}

impl Pulse {
    /// Reads the progress. Returns the time since which there was none.
    fn look(&mut self, entry: &WorkerEntry, monotonic: Duration) -> Duration {
        let ticks = entry.ticks();
        if ticks != self.ticks {
            *self = Self { ticks, since: monotonic };
        }
        self.since
    }
}

/// Checks one worker that is ready, with the progress of its loop at the last check.
///
/// A loop that is calling the application is not checked, because calls have limits of their own. Only a loop that
/// makes no progress by itself, or a process that was stopped, hangs in its loop.
pub fn hang(
    entry: &WorkerEntry,
    pulse: &mut Pulse,
    allowed: &Allowed<'_>,
    grace: &Grace,
    monotonic: Duration,
) -> Option<Hang> {
    let since = |moment: Duration| grace.since(moment, monotonic);
    // A worker can overwrite its entry with any time. A time in the future is ignored.
    let is_past = |moment: &Duration| *moment <= monotonic;
    if let Some(start) = entry.exit_start().filter(is_past) {
        let age = since(start);
        return (age > allowed.stop.max(EXIT_PATIENCE)).then_some(Hang::Exit(age));
    }
    // The call is read before the loop, so that a call which ends between the two reads counts as a step.
    let call = entry.call_start().filter(is_past);
    let still = since(pulse.look(entry, monotonic));
    if let Some(start) = call {
        let age = since(start);
        return allowed.call(entry).filter(|longest| age > *longest).map(|_| Hang::Request(age));
    }
    (pulse.ticks > 0 && still > LOOP_PATIENCE).then_some(Hang::Loop(still))
}

/// The usual maximum duration of a worker's exit. The slot does not wait for a longer one.
const EXIT_MOMENT: Duration = Duration::from_secs(2);

/// Whether the loop of a worker has ended, so that it serves no more requests, while its process remains. This is not
/// reported at once: a process usually exits in a moment, and as long as its slot waits for it, there is never more
/// than one process too many.
pub fn has_ended_loop(entry: &WorkerEntry, monotonic: Duration) -> bool {
    // A worker can overwrite its entry with any time. A time in the future is ignored.
    entry.exit_start().is_some_and(|start| start.saturating_add(EXIT_MOMENT) <= monotonic)
}

#[cfg(test)]
mod tests {
    use arctos_worker::settings::RouteLimit;

    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A worker that is checked every second.
    struct Watched {
        entry: &'static WorkerEntry,
        pulse: Pulse,
        now: Duration,
        calls: CallLimits,
        stop: Duration,
        grace: Grace,
    }

    impl Watched {
        /// Returns a worker whose loop has just begun.
        fn from(now: Duration) -> Self {
            let entry = WorkerEntry::detached();
            entry.tick();
            let grace = Grace::default();
            let calls = CallLimits { usual: Some(s(30)), routes: Vec::new() };
            let pulse = Pulse::default();
            let mut watched = Self { entry, pulse, now, calls, stop: s(25), grace };
            assert_eq!(watched.look(), None);
            watched
        }

        fn look(&mut self) -> Option<Hang> {
            let allowed = Allowed { calls: &self.calls, reaction: None, stop: self.stop };
            hang(self.entry, &mut self.pulse, &allowed, &self.grace, self.now)
        }

        /// Lets seconds pass without an event. Returns the first finding.
        fn wait(&mut self, seconds: u64) -> Option<Hang> {
            (0..seconds).find_map(|_| {
                self.now += s(1);
                self.look()
            })
        }

        fn calls(&self) {
            self.entry.begin_request(self.now, b"GET", b"/");
        }

        fn returns(&self) {
            self.entry.end_call(self.now);
        }
    }

    #[test]
    fn a_request_hangs_when_it_takes_longer_than_allowed() {
        let mut worker = Watched::from(s(100));
        worker.calls();
        assert_eq!(worker.wait(40), Some(Hang::Request(s(31))));
        worker.returns();
        assert_eq!(worker.wait(5), None);
        worker.calls.usual = None;
        worker.calls();
        assert_eq!(worker.wait(10_000), None);
    }

    #[test]
    fn a_request_has_the_limit_of_its_route_and_what_it_asked_for() {
        let mut worker = Watched::from(s(100));
        let limit = |limit| RouteLimit { prefix: "/slow".to_owned(), limit };
        worker.calls.routes = vec![limit(Some(s(60)))];
        worker.entry.begin_request(worker.now, b"GET", b"/slow/1");
        assert_eq!(worker.wait(100), Some(Hang::Request(s(61))));
        worker.entry.extend_call(s(20));
        assert_eq!(worker.wait(100), Some(Hang::Request(s(81))));
        worker.returns();
        worker.entry.begin_request(worker.now, b"GET", b"/slow/1");
        assert_eq!(worker.wait(100), Some(Hang::Request(s(61))));
        worker.returns();
        worker.entry.begin_call(worker.now);
        assert_eq!(worker.wait(100), Some(Hang::Request(s(31))), "it is no call for a request");
        worker.calls.routes = vec![limit(None)];
        worker.entry.begin_request(worker.now, b"GET", b"/slow/1");
        assert_eq!(worker.wait(10_000), None);
    }

    #[test]
    fn a_loop_hangs_when_it_makes_no_progress_between_requests() {
        let mut worker = Watched::from(s(100));
        assert_eq!(worker.wait(20), Some(Hang::Loop(s(11))));
        worker.entry.tick();
        assert_eq!(worker.look(), None, "the loop goes on");
        worker.calls.usual = None;
        assert_eq!(worker.wait(20), Some(Hang::Loop(s(11))));
    }

    #[test]
    fn a_process_that_has_no_loop_yet_does_not_hang_in_it() {
        let mut worker = Watched::from(s(0));
        worker.entry = WorkerEntry::detached();
        worker.pulse = Pulse::default();
        assert_eq!(worker.wait(100), None);
    }

    #[test]
    fn a_loop_that_sleeps_after_a_long_request_does_not_hang() {
        let mut worker = Watched::from(s(100));
        worker.calls();
        assert_eq!(worker.wait(29), None);
        worker.returns();
        assert_eq!(worker.wait(2), None, "an idle loop sleeps for so long");
        worker.entry.tick();
        worker.calls();
        assert_eq!(worker.wait(3), None, "nor does the next request");
    }

    #[test]
    fn a_long_turn_with_many_requests_is_not_a_hang() {
        let mut worker = Watched::from(s(100));
        for _ in 0..256 {
            worker.calls();
            assert_eq!(worker.wait(2), None);
            worker.returns();
            assert_eq!(worker.wait(1), None);
        }
    }

    #[test]
    fn a_call_outside_a_request_has_the_time_limit_of_a_request() {
        let mut worker = Watched::from(s(100));
        worker.entry.begin_call(worker.now);
        assert_eq!(worker.wait(40), Some(Hang::Request(s(31))));
    }

    #[test]
    fn the_time_of_exit_hooks_does_not_include_the_last_request() {
        let mut worker = Watched::from(s(100));
        worker.calls.usual = None;
        worker.calls();
        assert_eq!(worker.wait(60), None);
        worker.returns();
        worker.entry.begin_exit(worker.now);
        assert_eq!(worker.wait(40), Some(Hang::Exit(s(26))));
    }

    #[test]
    fn exit_hooks_of_a_worker_that_exits_by_itself_have_a_minimum_time() {
        let mut worker = Watched::from(s(100));
        worker.stop = Duration::ZERO;
        worker.entry.begin_exit(worker.now);
        assert_eq!(worker.wait(40), Some(Hang::Exit(s(11))));
    }

    #[test]
    fn the_slot_does_not_wait_for_an_exit_that_takes_longer_than_a_moment() {
        let worker = Watched::from(s(100));
        assert!(!has_ended_loop(worker.entry, worker.now));
        worker.entry.begin_exit(s(101));
        assert!(!has_ended_loop(worker.entry, worker.now));
        assert!(!has_ended_loop(worker.entry, s(102)), "the process may exit in a moment");
        assert!(has_ended_loop(worker.entry, s(103)));
    }

    #[test]
    fn a_time_in_the_future_does_not_hide_a_loop_without_progress() {
        let mut worker = Watched::from(s(100));
        worker.entry.begin_exit(Duration::MAX);
        worker.entry.begin_call(Duration::MAX);
        assert_eq!(worker.wait(20), Some(Hang::Loop(s(11))));
    }

    #[test]
    fn a_suspension_of_the_supervisor_does_not_count_toward_a_request() {
        let mut worker = Watched::from(s(100));
        worker.calls();
        worker.now = s(170);
        worker.grace = Grace { until: s(170), gap: s(60) };
        assert_eq!(worker.look(), None);
        assert_eq!(worker.wait(40), Some(Hang::Request(s(31))));
        worker.returns();
        worker.calls();
        assert_eq!(worker.wait(40), Some(Hang::Request(s(31))));
    }

    #[test]
    fn a_suspension_of_the_supervisor_does_not_count_toward_a_loop() {
        let mut worker = Watched::from(s(100));
        worker.now = s(170);
        worker.grace = Grace { until: s(170), gap: s(69) };
        assert_eq!(worker.look(), None);
        assert_eq!(worker.wait(20), Some(Hang::Loop(s(11))));
    }
}
