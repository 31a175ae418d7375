//! An upgrade as a pure machine, seen from the successor: when it may report that it is ready, and since when it owns
//! everything.
//!
//! | state | event | next |
//! |---|---|---|
//! | Booting | there is a full set of workers | Proving |
//! | Proving | that was [`PROBATION`] ago: report it | Waiting |
//! | Booting, Proving | a worker that was ready crashes, beyond the crash baseline: exit | Unfit |
//! | Booting, Proving, Waiting, Unfit | the predecessor hands everything over, or is gone | Owner |

use std::time::Instant;

use crate::supervisor::PROBATION;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No full set of workers was ready yet.
    Booting,
    /// All workers serve, beside those of the predecessor.
    Proving { since: Option<Instant> },
    /// The predecessor knows that.
    Waiting,
    /// The predecessor goes on: a worker has crashed.
    Unfit,
    /// Everything belongs to this server.
    Owner,
}

/// See the module.
#[derive(Debug)]
pub struct Successor(State);

/// What a successor does when it becomes the owner of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// It already serves: report it to the world.
    Serving,
    /// It boots: that is reported when it serves.
    Booting,
    /// It was the owner before.
    Already,
}

impl Successor {
    /// A server with a predecessor.
    pub fn booting() -> Self {
        Self(State::Booting)
    }

    /// A server without a predecessor.
    pub fn without_predecessor() -> Self {
        Self(State::Owner)
    }

    /// Whether it owns everything.
    pub fn is_owner(&self) -> bool {
        self.0 == State::Owner
    }

    /// There is a full set of workers for the first time.
    pub fn serves(&mut self) {
        if self.0 == State::Booting {
            self.0 = State::Proving { since: None };
        }
    }

    /// True once, when it has passed its probation. A missing worker is no objection: where the workers of the
    /// predecessor crash in some request, these do, too.
    pub fn check_probation(&mut self, now: Instant) -> bool {
        let State::Proving { since } = &mut self.0 else { return false };
        let since = *since.get_or_insert(now);
        let is_proved = since + PROBATION <= now;
        if is_proved {
            self.0 = State::Waiting;
        }
        is_proved
    }

    /// A worker that was ready has crashed, beyond the crash baseline. True when this server has to exit for it, as the
    /// crash of a canary ends a reload: the next worker would crash in requests as well.
    pub fn worker_crashed(&mut self) -> bool {
        match self.0 {
            State::Booting | State::Proving { .. } => {
                self.0 = State::Unfit;
                true
            }
            // It has reported that it can serve: the predecessor may be exiting for it by now.
            State::Waiting | State::Unfit | State::Owner => false,
        }
    }

    /// Whether a worker has crashed.
    pub fn is_unfit(&self) -> bool {
        self.0 == State::Unfit
    }

    /// When [`Successor::check_probation`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.0 {
            State::Proving { since } => since.map(|since| since + PROBATION),
            State::Booting | State::Waiting | State::Unfit | State::Owner => None,
        }
    }

    /// It becomes the owner of everything.
    pub fn take(&mut self) -> TakeOver {
        match std::mem::replace(&mut self.0, State::Owner) {
            State::Booting | State::Unfit => TakeOver::Booting,
            State::Proving { .. } | State::Waiting => TakeOver::Serving,
            State::Owner => TakeOver::Already,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn it_is_ready_once_its_workers_have_lived_for_a_while() {
        let (mut successor, start) = (Successor::booting(), Instant::now());
        assert!(!successor.check_probation(start), "not all were there");
        successor.serves();
        assert!(!successor.check_probation(start));
        assert_eq!(successor.next_deadline(), Some(start + PROBATION));
        assert!(!successor.check_probation(start + ms(900)));
        assert!(successor.check_probation(start + ms(1000)));
        assert!(!successor.check_probation(start + ms(3000)), "it is said once");
        assert!(!successor.is_owner());
        assert_eq!(successor.take(), TakeOver::Serving);
        assert!(successor.is_owner());
        assert_eq!(successor.take(), TakeOver::Already);
    }

    #[test]
    fn a_crash_before_it_owns_everything_ends_the_successor() {
        let (mut successor, start) = (Successor::booting(), Instant::now());
        successor.serves();
        successor.check_probation(start);
        assert!(successor.worker_crashed());
        assert!(successor.is_unfit());
        assert!(!successor.worker_crashed(), "once");
        assert!(!successor.check_probation(start + ms(5000)));
        let mut owner = Successor::without_predecessor();
        assert!(!owner.worker_crashed() && !owner.is_unfit());
    }

    #[test]
    fn it_goes_on_booting_when_the_predecessor_is_gone() {
        let mut successor = Successor::booting();
        assert_eq!(successor.take(), TakeOver::Booting);
        successor.serves();
        assert!(successor.is_owner());
    }
}
