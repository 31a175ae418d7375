//! Requests that exceed their time limit: what is done about one, and whether it reacted.
//!
//! The first thing that such a request gets is an exception, so that it can clean up and respond. A worker that was
//! interrupted at any place of its code is not trusted: it is recycled even if it reacts. This is pure code, one
//! [`Interruption`] for each worker.
//!
//! | state | check | result | next |
//! |---|---|---|---|
//! | Untouched | a call for a request is late | [`Verdict::Interrupt`] | Interrupted |
//! | Interrupted | the call has ended | [`Verdict::Reacted`] | Recycled |
//! | Interrupted | it still runs, within the time for a reaction | [`Verdict::Wait`] | Interrupted |
//! | Interrupted | it still runs after that | [`Verdict::Unresponsive`] | Overdue |
//! | Overdue | it still runs | [`Verdict::Hung`] | Overdue |
//! | Overdue | the call has ended after all | [`Verdict::Recycle`] | Recycled |
//! | Recycled | no call is late | [`Verdict::Recycle`] | Recycled |
//! | Recycled | another call for a request is late | [`Verdict::Interrupt`] | Interrupted |
//! | any | a call outside of a request, the loop or the exit is late | [`Verdict::Hung`] | as it was |

use std::time::Duration;

use arctos_worker::shared::scoreboard::WorkerEntry;

use crate::supervisor::health::{Allowed, Grace, Hang};

/// What follows from one check of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is wrong.
    Healthy,
    /// The call that began at this moment has to be interrupted.
    Interrupt(Duration),
    /// The interrupted call still has time to react.
    Wait,
    /// The interrupted call has just ended, so the worker has to be recycled.
    Reacted,
    /// A call was interrupted earlier, so the worker has to be recycled.
    Recycle,
    /// The interrupted call has not reacted in time: the worker hangs.
    Unresponsive(Hang),
    /// The worker hangs.
    Hung(Hang),
}

/// The interruptions of one worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interruption {
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No call was interrupted.
    #[default]
    Untouched,
    /// The call with this start was interrupted at this moment.
    Interrupted { call: Duration, at: Duration },
    /// The call with this start was interrupted and has not reacted.
    Overdue { call: Duration },
    /// The worker was interrupted, and goes on until it is recycled.
    Recycled,
}

impl Interruption {
    /// Decides what follows from a check, whose finding is `hang`.
    pub fn judge(
        &mut self,
        hang: Option<Hang>,
        entry: &WorkerEntry,
        allowed: &Allowed<'_>,
        grace: &Grace,
        monotonic: Duration,
    ) -> Verdict {
        let running = entry.call_start();
        match self.state {
            State::Interrupted { call, .. } if running != Some(call) => {
                self.state = State::Recycled;
                return Verdict::Reacted;
            }
            State::Overdue { call } if running != Some(call) => self.state = State::Recycled,
            State::Untouched
            | State::Interrupted { .. }
            | State::Overdue { .. }
            | State::Recycled => {}
        }
        match (self.state, hang, running) {
            // It has asked for more time at the moment at which it was interrupted.
            (State::Interrupted { .. } | State::Overdue { .. }, None, _) => Verdict::Wait,
            (State::Interrupted { call, at }, Some(hang), _) => {
                if allowed.reaction.is_some_and(|time| grace.since(at, monotonic) <= time) {
                    return Verdict::Wait;
                }
                self.state = State::Overdue { call };
                Verdict::Unresponsive(hang)
            }
            (State::Overdue { .. }, Some(hang), _) => Verdict::Hung(hang),
            (_, Some(Hang::Request(_)), Some(call))
                if allowed.reaction.is_some() && entry.request_start().is_some() =>
            {
                self.state = State::Interrupted { call, at: monotonic };
                Verdict::Interrupt(call)
            }
            (_, Some(hang), _) => Verdict::Hung(hang),
            (State::Untouched, None, _) => Verdict::Healthy,
            (State::Recycled, None, _) => Verdict::Recycle,
        }
    }
}

#[cfg(test)]
mod tests {
    use arctos_worker::settings::CallLimits;

    use super::*;
    use crate::supervisor::health::{Pulse, hang};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A worker that is checked every second, with a limit of 30 s and 2 s to react.
    struct Watched {
        entry: &'static WorkerEntry,
        pulse: Pulse,
        interruption: Interruption,
        now: Duration,
        reaction: Option<Duration>,
        grace: Grace,
    }

    impl Watched {
        fn new() -> Self {
            let (pulse, interruption, grace) = Default::default();
            let entry = WorkerEntry::detached();
            entry.tick();
            Self { entry, pulse, interruption, now: s(100), reaction: Some(s(2)), grace }
        }

        fn check(&mut self) -> Verdict {
            let calls = CallLimits { usual: Some(s(30)), routes: Vec::new() };
            let allowed = Allowed { calls: &calls, reaction: self.reaction, stop: s(25) };
            let found = hang(self.entry, &mut self.pulse, &allowed, &self.grace, self.now);
            self.interruption.judge(found, self.entry, &allowed, &self.grace, self.now)
        }

        /// Lets seconds pass, and returns the last verdict.
        fn after(&mut self, seconds: u64) -> Verdict {
            (0..seconds).fold(Verdict::Healthy, |_, _| {
                self.now += s(1);
                self.check()
            })
        }

        fn call(&self) {
            self.entry.begin_request(self.now, b"GET", b"/");
        }

        fn end(&self) {
            self.entry.end_call(self.now);
        }
    }

    #[test]
    fn a_late_request_is_interrupted_once_and_its_worker_recycled() {
        let mut worker = Watched::new();
        worker.call();
        assert_eq!(worker.after(30), Verdict::Healthy);
        assert_eq!(worker.after(1), Verdict::Interrupt(s(100)));
        assert_eq!(worker.after(1), Verdict::Wait);
        worker.end();
        assert_eq!(worker.check(), Verdict::Reacted);
        assert_eq!(worker.after(5), Verdict::Recycle);
        worker.call();
        assert_eq!(worker.after(5), Verdict::Recycle, "the next request is not late");
    }

    #[test]
    fn a_request_that_does_not_react_hangs_and_may_still_end() {
        let mut worker = Watched::new();
        worker.call();
        assert_eq!(worker.after(31), Verdict::Interrupt(s(100)));
        assert_eq!(worker.after(2), Verdict::Wait);
        assert_eq!(worker.after(1), Verdict::Unresponsive(Hang::Request(s(34))));
        assert_eq!(worker.after(1), Verdict::Hung(Hang::Request(s(35))));
        worker.end();
        assert_eq!(worker.check(), Verdict::Recycle);
    }

    #[test]
    fn the_next_request_of_a_worker_that_reacted_has_its_own_interruption() {
        let mut worker = Watched::new();
        worker.call();
        worker.after(31);
        worker.end();
        worker.call();
        assert_eq!(worker.check(), Verdict::Reacted);
        assert_eq!(worker.after(30), Verdict::Recycle);
        assert_eq!(worker.after(1), Verdict::Interrupt(s(131)));
        worker.end();
        assert_eq!(worker.check(), Verdict::Reacted);
    }

    #[test]
    fn without_time_to_react_and_outside_of_a_request_nothing_is_interrupted() {
        let mut worker = Watched::new();
        worker.entry.begin_call(worker.now);
        assert_eq!(worker.after(31), Verdict::Hung(Hang::Request(s(31))));
        worker.end();
        assert_eq!(worker.after(12), Verdict::Hung(Hang::Loop(s(11))));
        worker.entry.tick();
        assert_eq!(worker.check(), Verdict::Healthy);
        worker.reaction = None;
        worker.call();
        assert_eq!(worker.after(31), Verdict::Hung(Hang::Request(s(31))));
    }

    #[test]
    fn a_suspension_does_not_count_toward_the_reaction() {
        let mut worker = Watched::new();
        worker.call();
        assert_eq!(worker.after(31), Verdict::Interrupt(s(100)));
        worker.now += s(60);
        worker.grace = Grace { until: worker.now, gap: s(60) };
        assert_eq!(worker.check(), Verdict::Wait);
        assert_eq!(worker.after(2), Verdict::Wait);
        assert_eq!(worker.after(1), Verdict::Unresponsive(Hang::Request(s(34))));
    }

    #[test]
    fn a_request_that_asked_for_more_time_just_in_time_gets_it() {
        let mut worker = Watched::new();
        worker.call();
        assert_eq!(worker.after(31), Verdict::Interrupt(s(100)));
        worker.entry.extend_call(s(10));
        assert_eq!(worker.after(9), Verdict::Wait);
        assert_eq!(worker.after(1), Verdict::Unresponsive(Hang::Request(s(41))));
    }
}
