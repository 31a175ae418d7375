//! What the loop waits for: one trait for everything that has descriptors to poll, deadlines, or processes.
//!
//! A source reads what has arrived, checks its own deadlines, and takes the processes that are its own when they
//! are reaped. It changes nothing beyond itself: what follows goes to the loop as [`Report`]s, most of which are
//! events of the machine.

use std::os::fd::RawFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::{Side, WorkerEntry};
use nix::poll::PollFd;

use super::children::{Child, ControlSocket};
use super::failure_cause::Failure;
use super::generations::ResolvedRevision;
use super::upgrade_report::UpgradeReport;
use crate::admin::AdminRequest;
use crate::config::Patience;
use crate::process::signals::Signal;
use crate::supervisor::restart_storm;
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::{Event, ExitDetails};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// See the module.
pub(super) trait Source {
    /// Adds the descriptors to wait for.
    fn poll<'fd>(&'fd self, _fds: &mut Vec<PollFd<'fd>>) {}

    /// When [`Source::check_deadlines`] is due at the latest.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Its processes that were not reaped yet.
    fn pids(&self) -> Vec<Pid> {
        Vec::new()
    }

    /// Reads what has arrived. This never blocks.
    fn read(&mut self, _round: &Round, _reports: &mut Vec<Report>) {}

    /// Does what is due.
    fn check_deadlines(&mut self, _round: &Round, _reports: &mut Vec<Report>) {}

    /// A process was reaped; `None` where it is not one of its own.
    fn reap(
        &mut self,
        _pid: Pid,
        _status: ExitStatus,
        _round: &Round,
        _reports: &mut Vec<Report>,
    ) -> Option<Reaped> {
        None
    }

    /// Lists the descriptors that a child closes.
    fn list_descriptors(&self, _own: &mut OwnDescriptors) {}
}

/// What a source may know of the rest of the server.
pub(super) struct Round {
    pub(super) now: Instant,
    /// Descriptors that are readable or writable.
    pub(super) ready_fds: Vec<RawFd>,
    /// The processes of all sources.
    pub(super) pids: Vec<Pid>,
    /// The configuration in service.
    pub(super) revision: Rc<ResolvedRevision>,
    /// The supervisor was stopped for this long, and perhaps everybody else with it.
    pub(super) suspended_for: Option<Duration>,
}

impl Round {
    pub(super) fn patience(&self) -> &Patience {
        &self.revision.config.patience
    }
}

/// What a source has to say.
pub(super) enum Report {
    /// An event of the machine.
    Event(Event),
    /// A signal arrived.
    Signal(Signal),
    /// A zygote has forked a worker.
    Forked(ForkedWorker),
    /// A process could not boot, or died.
    Failure(Failure),
    /// A request on the admin socket.
    AdminRequest(AdminRequest),
    /// Something for the service manager.
    Notify(&'static str),
    /// Workers crash again and again.
    RestartStorm(restart_storm::Report),
    /// The collector has something to read or to send.
    MetricsDue,
    /// Something of the server before or after this one.
    Upgrade(UpgradeReport),
}

/// A worker that a zygote has forked.
pub(super) struct ForkedWorker {
    pub(super) slot: SlotId,
    pub(super) side: Side,
    pub(super) child: Child,
}

impl ForkedWorker {
    pub(super) fn new(slot: SlotId, side: Side, pid: Pid, socket: ControlSocket) -> Self {
        Self { slot, side, child: Child::new(pid, slot, socket, Instant::now()) }
    }
}

/// Whose process was reaped.
pub(super) enum Reaped {
    /// A worker's. Whether the old code crashes in the same requests is added before the machine handles it.
    Worker { details: ExitDetails, entry: &'static WorkerEntry },
    /// Another process of the machine's.
    Other(ExitDetails),
    /// None of the machine's.
    Unmanaged,
}
