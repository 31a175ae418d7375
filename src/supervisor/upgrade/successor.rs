//! An upgrade as a pure state machine, from the side of the successor. It decides when this server may report that it
//! is ready, and when it owns everything.
//!
//! | state | event | next |
//! |---|---|---|
//! | Booting | there is a full set of workers | Proving |
//! | Proving | [`PROBATION`] has passed: report that it is ready | Waiting |
//! | Booting, Proving | a worker that was ready crashes, beyond the crash baseline: exit | Unfit |
//! | Booting, Proving, Waiting, Unfit | the predecessor hands everything over, or is gone | Owner |

use std::time::Instant;

use crate::supervisor::PROBATION;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This server had no full set of workers yet.
    Booting,
    /// All workers serve beside those of the predecessor.
    Proving { since: Option<Instant> },
    /// This server has reported to the predecessor that it is ready.
    Waiting,
    /// A worker has crashed, so the predecessor goes on.
    Unfit,
    /// This server owns everything.
    Owner,
}

/// The state machine of a successor.
#[derive(Debug)]
pub struct Successor(State);

/// What a successor has to do when it becomes the owner of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeOver {
    /// The server already serves, and has to report that now.
    Serving,
    /// The server still boots, and reports when it serves.
    Booting,
    /// The server was already the owner.
    Already,
}

impl Successor {
    /// Returns the state of a server with a predecessor.
    pub fn booting() -> Self {
        Self(State::Booting)
    }

    /// Returns the state of a server without a predecessor.
    pub fn without_predecessor() -> Self {
        Self(State::Owner)
    }

    /// Whether this server owns everything.
    pub fn is_owner(&self) -> bool {
        self.0 == State::Owner
    }

    /// Records that there is a full set of workers for the first time.
    pub fn serves(&mut self) {
        if self.0 == State::Booting {
            self.0 = State::Proving { since: None };
        }
    }

    /// Returns true once, when this server has passed its probation. A worker may be missing then: if workers of the
    /// predecessor crash in some request, these workers do, too.
    pub fn check_probation(&mut self, now: Instant) -> bool {
        let State::Proving { since } = &mut self.0 else { return false };
        let since = *since.get_or_insert(now);
        let is_proved = since + PROBATION <= now;
        if is_proved {
            self.0 = State::Waiting;
        }
        is_proved
    }

    /// Handles the crash of a worker that was ready, beyond the crash baseline. Returns whether this server has to
    /// exit, as the crash of a canary ends a reload: the next worker would probably crash, too.
    pub fn worker_crashed(&mut self) -> bool {
        match self.0 {
            State::Booting | State::Proving { .. } => {
                self.0 = State::Unfit;
                true
            }
            // This server has reported that it can serve, so the predecessor may already be exiting.
            State::Waiting | State::Unfit | State::Owner => false,
        }
    }

    /// Whether a worker has crashed.
    pub fn is_unfit(&self) -> bool {
        self.0 == State::Unfit
    }

    /// When [`Successor::check_probation`] is due, if it is.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.0 {
            State::Proving { since } => since.map(|since| since + PROBATION),
            State::Booting | State::Waiting | State::Unfit | State::Owner => None,
        }
    }

    /// Makes this server the owner of everything.
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
    fn a_successor_is_ready_once_its_workers_have_served_for_a_while() {
        let (mut successor, start) = (Successor::booting(), Instant::now());
        assert!(!successor.check_probation(start), "there was no full set of workers yet");
        successor.serves();
        assert!(!successor.check_probation(start));
        assert_eq!(successor.next_deadline(), Some(start + PROBATION));
        assert!(!successor.check_probation(start + ms(900)));
        assert!(successor.check_probation(start + ms(1000)));
        assert!(!successor.check_probation(start + ms(3000)), "it is reported once");
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
    fn a_successor_goes_on_booting_when_its_predecessor_is_gone() {
        let mut successor = Successor::booting();
        assert_eq!(successor.take(), TakeOver::Booting);
        successor.serves();
        assert!(successor.is_owner());
    }
}
