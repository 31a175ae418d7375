//! The reports of the source of an upgrade.

use std::os::fd::OwnedFd;

use crate::metrics::CarriedTotals;
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::upgrade::Action;
use crate::system::pid::Pid;

/// What happened in an upgrade.
pub(super) enum UpgradeReport {
    /// The state machine of the predecessor requests this action.
    Act(Action),
    /// Totals are due to be sent to the other servers.
    TotalsDue,
    /// The current totals of the predecessor; `None` if they could not be read.
    PredecessorTotals(Option<Box<CarriedTotals>>),
    /// The totals that the predecessor could not send.
    PredecessorUnsent(Box<CarriedTotals>),
    /// The idle connections of the predecessor come through this socket.
    PredecessorConnections(OwnedFd),
    /// This server owns everything from now on.
    TakeOver,
    /// The process of the predecessor is gone.
    PredecessorEnded,
    /// This server has passed its probation, and its predecessor may exit.
    Proved,
    /// The successor was reaped.
    SuccessorExited { pid: Pid, status: ExitStatus },
}
