//! An upgrade as a pure machine, seen from the successor: when it may say that it is ready, and since when
//! everything is its own.
//!
//! | state | event | next |
//! |---|---|---|
//! | Booting | there is a full set of workers | Proving |
//! | Proving | that was [`PROBATION`](crate::supervisor::PROBATION) ago: say so | Waiting |
//! | Booting, Proving | a worker dies that was ready, and not of what those before die of, too: leave | Unfit |
//! | Booting, Proving, Waiting, Unfit | the server before gives everything, or is gone | Owner |

use std::time::Instant;

use crate::supervisor::PROBATION;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No worker has shown yet that it can serve.
    Booting,
    /// All serve, or have, beside those of the server before.
    Proving { since: Option<Instant> },
    /// The server before knows.
    Waiting,
    /// The server before goes on: a worker has died.
    Unfit,
    /// There is nobody else any more whose it could be.
    Owner,
}

/// See the module.
#[derive(Debug)]
pub struct Successor(State);

/// What a successor is to do when everything becomes its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// It serves already: tell the world.
    Serving,
    /// It boots: that is told when it serves.
    Booting,
    /// It was its own before.
    Already,
}

impl Successor {
    /// A server that has a predecessor.
    pub fn booting() -> Self {
        Self(State::Booting)
    }

    /// A server that has none.
    pub fn without_predecessor() -> Self {
        Self(State::Owner)
    }

    /// Whether everything is its own.
    pub fn is_owner(&self) -> bool {
        self.0 == State::Owner
    }

    /// There is a full set of workers for the first time.
    pub fn serves(&mut self) {
        if self.0 == State::Booting {
            self.0 = State::Proving { since: None };
        }
    }

    /// True once, when it has proved itself. That a worker is missing at times is no objection: where those of
    /// the server before die of some request, these do, too.
    pub fn look(&mut self, now: Instant) -> bool {
        let State::Proving { since } = &mut self.0 else { return false };
        let since = *since.get_or_insert(now);
        let is_proved = since + PROBATION <= now;
        if is_proved {
            self.0 = State::Waiting;
        }
        is_proved
    }

    /// A worker that was ready has died, of what those of the server before do not die of; true when this
    /// server has to leave for it. As a canary's death ends a reload: the next worker would take requests to
    /// its grave as well.
    pub fn died(&mut self) -> bool {
        match self.0 {
            State::Booting | State::Proving { .. } => {
                self.0 = State::Unfit;
                true
            }
            // It has said that it can serve: the server before may be leaving for it by now.
            State::Waiting | State::Unfit | State::Owner => false,
        }
    }

    /// Whether a worker has died.
    pub fn is_unfit(&self) -> bool {
        self.0 == State::Unfit
    }

    /// When [`Successor::look`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.0 {
            State::Proving { since } => since.map(|since| since + PROBATION),
            State::Booting | State::Waiting | State::Unfit | State::Owner => None,
        }
    }

    /// Everything is its own.
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
        assert!(!successor.look(start), "not all were there");
        successor.serves();
        assert!(!successor.look(start));
        assert_eq!(successor.next_deadline(), Some(start + PROBATION));
        assert!(!successor.look(start + ms(900)));
        assert!(successor.look(start + ms(1000)));
        assert!(!successor.look(start + ms(3000)), "it is said once");
        assert!(!successor.is_owner());
        assert_eq!(successor.take(), TakeOver::Serving);
        assert!(successor.is_owner());
        assert_eq!(successor.take(), TakeOver::Already);
    }

    #[test]
    fn a_worker_that_dies_before_everything_is_its_own_is_its_end() {
        let (mut successor, start) = (Successor::booting(), Instant::now());
        successor.serves();
        successor.look(start);
        assert!(successor.died());
        assert!(successor.is_unfit());
        assert!(!successor.died(), "once");
        assert!(!successor.look(start + ms(5000)));
        let mut owner = Successor::without_predecessor();
        assert!(!owner.died() && !owner.is_unfit());
    }

    #[test]
    fn it_goes_on_booting_when_the_server_before_is_gone() {
        let mut successor = Successor::booting();
        assert_eq!(successor.take(), TakeOver::Booting);
        successor.serves();
        assert!(successor.is_owner());
    }
}
