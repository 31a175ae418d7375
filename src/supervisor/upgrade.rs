//! An upgrade (USR2) as a pure state machine, from the side of the server that is replaced.
//!
//! It decides whether there is a successor and what is done about it. `monitor/upgrade.rs` and `monitor/handover.rs`
//! are its shell; the other side is [`successor`]. Until the state is HandedOver, this server serves as if nothing
//! happened.
//!
//! | state | event | action | next |
//! |---|---|---|---|
//! | Idle | USR2 | launch | Launching |
//! | Launching | it was started | | Booting |
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
//! Combinations that are not in the table change nothing.
#![expect(missing_docs, reason = "a field that is a pid or a status needs no sentence")]

pub mod successor;

use std::time::{Duration, Instant};

use crate::supervisor::slot::ExitStatus;
use crate::system::pid::Pid;

/// Time for the program to start and for its workers to pass their probation, in addition to the boots of its workers.
const START: Duration = Duration::from_secs(10);

/// Time limit for a successor to be ready: one boot each for the preparation, for the first workers, and for the
/// others.
pub fn patience(boot: Duration) -> Duration {
    boot.saturating_mul(3).saturating_add(START)
}

/// The reason why a successor is terminated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The successor was not ready in time.
    Overdue,
    /// A second USR2 requests another successor.
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
    /// The successor was terminated. `kill_at` is `None` once it was killed.
    Ending {
        pid: Pid,
        why: Why,
        kill_at: Option<Instant>,
    },
    HandedOver {
        pid: Pid,
    },
}

/// An action for the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start a successor, and answer with [`Upgrade::launched`] or [`Upgrade::not_launched`].
    Launch,
    /// Terminate the successor.
    Terminate { pid: Pid },
    /// Kill the successor.
    Kill { pid: Pid },
    /// Hand everything over, answer with [`Upgrade::handed_over`], and exit.
    HandOver { pid: Pid },
    /// Report that the upgrade failed.
    Fail(Failure),
}

/// The reason why the upgrade failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The successor ended before it was ready.
    Ended { pid: Pid, status: ExitStatus },
    /// The successor was not ready in time.
    Overdue { pid: Pid },
}

/// The state machine of an upgrade.
#[derive(Debug)]
pub struct Upgrade(State);

impl Upgrade {
    /// Returns the state without a successor.
    pub fn idle() -> Self {
        Self(State::Idle)
    }

    /// Whether there is, or will soon be, a successor that owns nothing yet.
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

    /// The process of the successor.
    pub fn pid(&self) -> Option<Pid> {
        match self.0 {
            State::Booting { pid, .. } | State::Ending { pid, .. } | State::HandedOver { pid } => {
                Some(pid)
            }
            State::Idle | State::Launching => None,
        }
    }

    /// When [`Upgrade::check_deadlines`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.0 {
            State::Booting { deadline, .. } => Some(deadline),
            State::Ending { kill_at, .. } => kill_at,
            State::Idle | State::Launching | State::HandedOver { .. } => None,
        }
    }

    /// Handles USR2. `graceful` is the time limit for the exit of a successor that is not wanted any more.
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

    /// Records that the successor was started. It has to be ready by `deadline`.
    pub fn launched(&mut self, pid: Pid, deadline: Instant) {
        if self.0 == State::Launching {
            self.0 = State::Booting { pid, deadline };
        }
    }

    /// Records that the successor could not be started.
    pub fn not_launched(&mut self) {
        if self.0 == State::Launching {
            self.0 = State::Idle;
        }
    }

    /// Handles the successor's report that it is ready.
    pub fn ready(&self) -> Option<Action> {
        match self.0 {
            State::Booting { pid, .. } => Some(Action::HandOver { pid }),
            State::Idle | State::Launching | State::Ending { .. } | State::HandedOver { .. } => {
                None
            }
        }
    }

    /// Records that [`Action::HandOver`] was carried out. If it fails, the successor has ended, which is reported
    /// separately.
    pub fn handed_over(&mut self) {
        if let State::Booting { pid, .. } = self.0 {
            self.0 = State::HandedOver { pid };
        }
    }

    /// Handles the end of the successor.
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

    /// Terminates the successor, because this server stops. The successor must have exited by `kill_at`.
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

    /// Returns an upgrade whose successor boots, and the time of its start.
    fn booting() -> (Upgrade, Instant) {
        let (mut upgrade, start) = (Upgrade::idle(), Instant::now());
        assert_eq!(upgrade.request(GRACEFUL, start), Some(Action::Launch));
        assert!(upgrade.is_pending());
        upgrade.launched(PID, start + s(60));
        assert_eq!(upgrade.pid(), Some(PID));
        (upgrade, start)
    }

    #[test]
    fn everything_is_handed_over_to_a_successor_that_is_ready() {
        let (mut upgrade, start) = booting();
        assert_eq!(upgrade.ready(), Some(Action::HandOver { pid: PID }));
        assert!(!upgrade.is_handed_over(), "the successor may have died");
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
    fn a_successor_that_cannot_be_started_changes_nothing() {
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
        assert_eq!(upgrade.ready(), None, "the successor is too late");
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
    fn a_second_usr2_terminates_a_booting_successor_and_starts_over() {
        let (mut upgrade, start) = booting();
        assert_eq!(upgrade.request(GRACEFUL, start), Some(Action::Terminate { pid: PID }));
        assert_eq!(upgrade.request(GRACEFUL, start), None, "one is as good as two");
        assert_eq!(upgrade.exited(ENDED), Some(Action::Launch));
        upgrade.launched(Pid(8), start + s(60));
        assert_eq!(upgrade.ready(), Some(Action::HandOver { pid: Pid(8) }));
    }

    #[test]
    fn a_usr2_while_a_late_successor_exits_starts_another() {
        let (mut upgrade, start) = booting();
        upgrade.check_deadlines(GRACEFUL, start + s(60));
        assert_eq!(upgrade.request(GRACEFUL, start + s(61)), None);
        assert_eq!(upgrade.exited(ENDED), Some(Action::Launch));
    }

    #[test]
    fn a_stop_terminates_the_successor_and_starts_no_other() {
        let (mut upgrade, start) = booting();
        assert_eq!(upgrade.stop(start + s(25)), Some(Action::Terminate { pid: PID }));
        assert_eq!(upgrade.request(GRACEFUL, start), None);
        assert!(upgrade.is_pending(), "the stop waits for the successor");
        assert_eq!(upgrade.exited(ENDED), None);
        assert!(!upgrade.is_pending());
    }

    #[test]
    fn a_stop_shortens_the_time_of_an_exiting_successor_and_starts_no_other() {
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
    fn the_time_limit_of_a_successor_is_three_boots_and_a_fixed_time() {
        assert_eq!(patience(s(60)), s(190));
        assert_eq!(patience(Duration::MAX), Duration::MAX);
    }
}
