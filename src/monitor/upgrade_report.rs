//! What has become of an upgrade, as its source reports it.

use crate::metrics::CarriedTotals;
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::upgrade::Action;
use crate::system::pid::Pid;

/// See the module.
pub(super) enum UpgradeReport {
    /// The machine of the predecessor wants this done.
    Act(Action),
    /// Totals are due to be sent to the other servers.
    TotalsDue,
    /// The predecessor has counted this by now; `None` where it could not be read.
    PredecessorTotals(Option<CarriedTotals>),
    /// The predecessor could not send this.
    PredecessorUnsent(CarriedTotals),
    /// Everything is this server's from now on.
    TakeOver,
    /// The process of the predecessor is gone.
    PredecessorEnded,
    /// This server has proved itself, and its predecessor may exit.
    Proved,
    /// The successor was reaped.
    SuccessorExited { pid: Pid, status: ExitStatus },
}
