//! An upgrade (USR2) as a pure machine, seen from the server that is replaced.
//!
//! It decides whether there is a successor and what is done about it. `monitor/upgrade.rs` and `monitor/handover.rs`
//! are its shell; the other side is [`successor`]. Until the state is HandedOver, this server serves as if nothing
//! happened.
//!
//! | state | event | action | next |
//! |---|---|---|---|
//! | Idle | USR2 | launch | Launching |
//! | Launching | it runs | | Booting |
//! | Launching | it could not be started | | Idle |
//! | Booting | it is ready | hand over | Booting |
//! | Booting | it has everything | | HandedOver |
//! | Booting | it has ended | report the failure | Idle |
//! | Booting | it is not ready in time | terminate | Ending: overdue |
//! | Booting | USR2 | terminate | Ending: superseded |
//! | Booting, Ending | this server stops | terminate | Ending: stopping |
//! | Ending | its deadline expires | kill | Ending |
//! | Ending: overdue | it has ended | report the failure | Idle |
//! | Ending: overdue | USR2 | | Ending: superseded |
//! | Ending: superseded | it has ended | launch | Launching |
//! | Ending: stopping | it has ended | | Idle |
//!
//! What is not in the table changes nothing.
#![expect(missing_docs, reason = "a field that is a pid or a status needs no sentence")]

pub mod successor;

use std::time::{Duration, Instant};

use crate::supervisor::slot::ExitStatus;
use crate::system::pid::Pid;

/// Time for the program to start, and for its workers to pass their probation, beside the boots of its workers.
const START: Duration = Duration::from_secs(10);

/// Time limit for a successor to be ready: what precedes its first workers, they, and the others.
pub fn patience(boot: Duration) -> Duration {
    boot.saturating_mul(3).saturating_add(START)
}

/// Why a successor is told to exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// It was not ready in time.
    Overdue,
    /// Another one is wanted in its place.
    Superseded,
    /// This server stops.
    Stopping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Launching,
    Booting {
        pid: Pid,
        deadline: Instant,
    },
    /// `kill_at` is `None` once it was killed.
    Ending {
        pid: Pid,
        why: Why,
        kill_at: Option<Instant>,
    },
    HandedOver {
        pid: Pid,
    },
}

/// What the shell is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a successor, and answer with [`Upgrade::launched`] or [`Upgrade::not_launched`].
    Launch,
    /// Tell it to exit.
    Terminate { pid: Pid },
    /// Kill it.
    Kill { pid: Pid },
    /// Hand everything over, answer with [`Upgrade::handed_over`], and exit.
    HandOver { pid: Pid },
    /// Report that there was no upgrade.
    Fail(Failure),
}

/// Why there was no upgrade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The successor has ended before it was ready.
    Ended { pid: Pid, status: ExitStatus },
    /// It was not ready in time.
    Overdue { pid: Pid },
}

/// See the module.
#[derive(Debug)]
pub struct Upgrade(State);

impl Upgrade {
    /// There is no successor.
    pub fn idle() -> Self {
        Self(State::Idle)
    }

    /// Whether there is, or is about to be, a successor that owns nothing yet.
    pub fn is_pending(&self) -> bool {
        match self.0 {
            State::Launching | State::Booting { .. } | State::Ending { .. } => true,
            State::Idle | State::HandedOver { .. } => false,
        }
    }

    /// Whether the successor owns everything.
    pub fn is_handed_over(&self) -> bool {
        matches!(self.0, State::HandedOver { .. })
    }

    /// The successor's process.
    pub fn pid(&self) -> Option<Pid> {
        match self.0 {
            State::Booting { pid, .. } | State::Ending { pid, .. } | State::HandedOver { pid } => {
                Some(pid)
            }
            State::Idle | State::Launching => None,
        }
    }

    /// When [`Upgrade::check_deadlines`] has something to do.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.0 {
            State::Booting { deadline, .. } => Some(deadline),
            State::Ending { kill_at, .. } => kill_at,
            State::Idle | State::Launching | State::HandedOver { .. } => None,
        }
    }

    /// USR2. `graceful` is the time limit for the exit of a successor that is not wanted any more.
    pub fn request(&mut self, graceful: Duration, now: Instant) -> Option<Action> {
        match self.0 {
            State::Idle => {
                self.0 = State::Launching;
                Some(Action::Launch)
            }
            State::Booting { pid, .. } => self.dismiss(pid, Why::Superseded, now + graceful),
            State::Ending { pid, why: Why::Overdue, kill_at } => {
                self.0 = State::Ending { pid, why: Why::Superseded, kill_at };
                None
            }
            State::Ending { why: Why::Superseded | Why::Stopping, .. }
            | State::Launching
            | State::HandedOver { .. } => None,
        }
    }

    /// It was started, and has to be ready by then.
    pub fn launched(&mut self, pid: Pid, deadline: Instant) {
        if self.0 == State::Launching {
            self.0 = State::Booting { pid, deadline };
        }
    }

    /// It could not be started.
    pub fn not_launched(&mut self) {
        if self.0 == State::Launching {
            self.0 = State::Idle;
        }
    }

    /// It reports that it is ready.
    pub fn ready(&self) -> Option<Action> {
        match self.0 {
            State::Booting { pid, .. } => Some(Action::HandOver { pid }),
            State::Idle | State::Launching | State::Ending { .. } | State::HandedOver { .. } => {
                None
            }
        }
    }

    /// [`Action::HandOver`] was carried out. Otherwise the successor has ended, which is reported separately.
    pub fn handed_over(&mut self) {
        if let State::Booting { pid, .. } = self.0 {
            self.0 = State::HandedOver { pid };
        }
    }

    /// It has ended.
    pub fn exited(&mut self, status: ExitStatus) -> Option<Action> {
        match self.0 {
            State::Booting { pid, .. } => {
                self.0 = State::Idle;
                Some(Action::Fail(Failure::Ended { pid, status }))
            }
            State::Ending { pid, why, .. } => match why {
                Why::Overdue => {
                    self.0 = State::Idle;
                    Some(Action::Fail(Failure::Overdue { pid }))
                }
                Why::Superseded => {
                    self.0 = State::Launching;
                    Some(Action::Launch)
                }
                Why::Stopping => {
                    self.0 = State::Idle;
                    None
                }
            },
            State::Idle | State::Launching | State::HandedOver { .. } => None,
        }
    }

    /// This server stops; a successor must have exited by `kill_at`.
    pub fn stop(&mut self, kill_at: Instant) -> Option<Action> {
        match self.0 {
            State::Booting { pid, .. } => self.dismiss(pid, Why::Stopping, kill_at),
            State::Ending { pid, kill_at: before, .. } => {
                let kill_at = before.map(|before| before.min(kill_at));
                self.0 = State::Ending { pid, why: Why::Stopping, kill_at };
                None
            }
            State::Idle | State::Launching | State::HandedOver { .. } => None,
        }
    }

    /// Checks the deadline. `graceful` is as for [`Upgrade::request`].
    pub fn check_deadlines(&mut self, graceful: Duration, now: Instant) -> Option<Action> {
        match self.0 {
            State::Booting { pid, deadline } if deadline <= now => {
                self.dismiss(pid, Why::Overdue, now + graceful)
            }
            State::Ending { pid, why, kill_at: Some(kill_at) } if kill_at <= now => {
                self.0 = State::Ending { pid, why, kill_at: None };
                Some(Action::Kill { pid })
            }
            State::Booting { .. }
            | State::Ending { .. }
            | State::Idle
            | State::Launching
            | State::HandedOver { .. } => None,
        }
    }

    fn dismiss(&mut self, pid: Pid, why: Why, kill_at: Instant) -> Option<Action> {
        self.0 = State::Ending { pid, why, kill_at: Some(kill_at) };
        Some(Action::Terminate { pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: Pid = Pid(7);
    const GRACEFUL: Duration = Duration::from_secs(25);
    const ENDED: ExitStatus = ExitStatus::Code(4);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A successor that boots, and the time when that began.
    fn booting() -> (Upgrade, Instant) {
        let (mut upgrade, start) = (Upgrade::idle(), Instant::now());
        assert_eq!(upgrade.request(GRACEFUL, start), Some(Action::Launch));
        assert!(upgrade.is_pending());
        upgrade.launched(PID, start + s(60));
        assert_eq!(upgrade.pid(), Some(PID));
        (upgrade, start)
    }

    #[test]
    fn a_successor_that_is_ready_gets_everything() {
        let (mut upgrade, start) = booting();
        assert_eq!(upgrade.ready(), Some(Action::HandOver { pid: PID }));
        assert!(!upgrade.is_handed_over(), "it may have died");
        upgrade.handed_over();
        assert!(upgrade.is_handed_over() && !upgrade.is_pending());
        assert_eq!(upgrade.next_deadline(), None);
        assert_eq!(upgrade.stop(start), None);
        assert_eq!(upgrade.request(GRACEFUL, start), None);
        assert_eq!(upgrade.exited(ENDED), None);
    }

    #[test]
    fn a_successor_that_ends_is_a_failure_and_the_next_one_may_try() {
        let (mut upgrade, start) = booting();
        let failure = Failure::Ended { pid: PID, status: ENDED };
        assert_eq!(upgrade.exited(ENDED), Some(Action::Fail(failure)));
        assert!(!upgrade.is_pending());
        assert_eq!(upgrade.request(GRACEFUL, start), Some(Action::Launch));
    }

    #[test]
    fn a_successor_that_cannot_be_started_leaves_all_as_it_was() {
        let (mut upgrade, start) = (Upgrade::idle(), Instant::now());
        upgrade.request(GRACEFUL, start);
        upgrade.not_launched();
        assert!(!upgrade.is_pending());
        assert_eq!(upgrade.request(GRACEFUL, start), Some(Action::Launch));
    }

    #[test]
    fn a_successor_that_is_never_ready_is_terminated_killed_and_reported() {
        let (mut upgrade, start) = booting();
        assert_eq!(upgrade.next_deadline(), Some(start + s(60)));
        assert_eq!(upgrade.check_deadlines(GRACEFUL, start + s(59)), None);
        assert_eq!(
            upgrade.check_deadlines(GRACEFUL, start + s(60)),
            Some(Action::Terminate { pid: PID })
        );
        assert_eq!(upgrade.ready(), None, "it is too late");
        assert_eq!(upgrade.check_deadlines(GRACEFUL, start + s(84)), None);
        assert_eq!(
            upgrade.check_deadlines(GRACEFUL, start + s(85)),
            Some(Action::Kill { pid: PID })
        );
        assert_eq!(upgrade.check_deadlines(GRACEFUL, start + s(99)), None);
        assert_eq!(upgrade.next_deadline(), None);
        let failure = Failure::Overdue { pid: PID };
        assert_eq!(upgrade.exited(ENDED), Some(Action::Fail(failure)));
        assert!(!upgrade.is_pending());
    }

    #[test]
    fn a_second_usr2_ends_the_successor_that_boots_and_starts_over() {
        let (mut upgrade, start) = booting();
        assert_eq!(upgrade.request(GRACEFUL, start), Some(Action::Terminate { pid: PID }));
        assert_eq!(upgrade.request(GRACEFUL, start), None, "one is as good as two");
        assert_eq!(upgrade.exited(ENDED), Some(Action::Launch));
        upgrade.launched(Pid(8), start + s(60));
        assert_eq!(upgrade.ready(), Some(Action::HandOver { pid: Pid(8) }));
    }

    #[test]
    fn a_usr2_while_a_late_successor_exits_is_for_the_next_one() {
        let (mut upgrade, start) = booting();
        upgrade.check_deadlines(GRACEFUL, start + s(60));
        assert_eq!(upgrade.request(GRACEFUL, start + s(61)), None);
        assert_eq!(upgrade.exited(ENDED), Some(Action::Launch));
    }

    #[test]
    fn a_stop_ends_the_successor_and_starts_no_other() {
        let (mut upgrade, start) = booting();
        assert_eq!(upgrade.stop(start + s(25)), Some(Action::Terminate { pid: PID }));
        assert_eq!(upgrade.request(GRACEFUL, start), None);
        assert!(upgrade.is_pending(), "it is waited for");
        assert_eq!(upgrade.exited(ENDED), None);
        assert!(!upgrade.is_pending());
    }

    #[test]
    fn a_stop_while_a_successor_leaves_shortens_its_time_and_starts_no_other() {
        let (mut upgrade, start) = booting();
        upgrade.request(GRACEFUL, start);
        assert_eq!(upgrade.stop(start + s(2)), None);
        assert_eq!(
            upgrade.check_deadlines(GRACEFUL, start + s(2)),
            Some(Action::Kill { pid: PID })
        );
        assert_eq!(upgrade.exited(ENDED), None);
        assert!(!upgrade.is_pending());
    }

    #[test]
    fn its_time_limit_is_that_of_three_boots_and_some_more() {
        assert_eq!(patience(s(60)), s(190));
        assert_eq!(patience(Duration::MAX), Duration::MAX);
    }
}
