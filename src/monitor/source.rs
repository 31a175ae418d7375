//! The trait of everything that the loop waits for: descriptors to poll, deadlines, and processes.
//!
//! A source reads what has arrived, checks its own deadlines, and recognizes its own processes when they are reaped. It
//! changes nothing but its own state. It returns [`Report`]s to the loop; most of them are events of the state machine.

use std::os::fd::{OwnedFd, RawFd};
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
use crate::supervisor::quarantine::Incident;
use crate::supervisor::restart_storm;
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::{Event, ExitDetails};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// Something that the loop waits for.
pub(super) trait Source {
    /// Adds the descriptors to wait for.
    fn poll<'fd>(&'fd self, _fds: &mut Vec<PollFd<'fd>>) {}

    /// The latest time at which [`Source::check_deadlines`] must be called.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// The processes of this source that were not reaped yet.
    fn pids(&self) -> Vec<Pid> {
        Vec::new()
    }

    /// Reads what has arrived. This never blocks.
    fn read(&mut self, _round: &Round, _reports: &mut Vec<Report>) {}

    /// Acts on expired deadlines.
    fn check_deadlines(&mut self, _round: &Round, _reports: &mut Vec<Report>) {}

    /// Handles the end of a process that was reaped; `None` if the process does not belong to this source.
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

/// What a source may know about the rest of the server.
pub(super) struct Round {
    pub(super) now: Instant,
    /// Descriptors that are readable or writable.
    pub(super) ready_fds: Vec<RawFd>,
    /// The processes of all sources.
    pub(super) pids: Vec<Pid>,
    /// The configuration in service.
    pub(super) revision: Rc<ResolvedRevision>,
    /// How long the supervisor was suspended before this round, perhaps together with all other processes.
    pub(super) suspended_for: Option<Duration>,
    /// The wanted number of workers.
    pub(super) workers_target: u16,
    /// Whether the server serves, and no reload is under way: no worker is about to start but replacements.
    pub(super) is_settled: bool,
}

impl Round {
    pub(super) fn patience(&self) -> &Patience {
        &self.revision.config.patience
    }
}

/// What a source reports to the loop.
pub(super) enum Report {
    /// An event for the state machine.
    Event(Event),
    /// A signal arrived.
    Signal(Signal),
    /// A zygote has forked a worker.
    Forked(Box<ForkedWorker>),
    /// A process could not boot or died.
    Failure(Failure),
    /// A request on the admin socket.
    AdminRequest(AdminRequest),
    /// A notification for the service manager.
    Notify(&'static str),
    /// A request took too long, and was interrupted.
    Incident(Incident),
    /// Workers keep crashing.
    RestartStorm(restart_storm::Report),
    /// The collector may have something to read or to send.
    MetricsDue,
    /// The zygote that counted application metrics in the area with this index has ended.
    AreaLeft(u32),
    /// The running profile takes its next samples.
    ProfileDue,
    /// Files of the application have changed.
    FilesChanged,
    /// News of the predecessor or the successor.
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

/// The kind of process that was reaped.
pub(super) enum Reaped {
    /// A worker. Whether the old code crashes in the same requests is added before the state machine handles it.
    Worker {
        details: ExitDetails,
        entry: &'static WorkerEntry,
        /// Whether it was about to be killed because it hung.
        has_hung: bool,
        /// The connection of the request that it was running, if its client got nothing yet.
        unanswered: Option<OwnedFd>,
    },
    /// Another process that the state machine knows.
    Other(ExitDetails),
    /// A process that the state machine does not know.
    Unmanaged,
}
