//! What the actions of the machine are carried out on: the scoreboard, the listeners, the log, the revisions.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use arctos_worker::process::supervisor_process::SupervisorProcess;
use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::shared::scoreboard::ServerState;
use arctos_worker::shared::scoreboard::{Counter, Scoreboard, Side};

use super::failure_cause::{Failure, FailureCause};
use super::generations::Generations;
use crate::listener::Listeners;
use crate::monitor::revision::ReadRevision;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid_file::PidFile;
use crate::system::sd_notify::Notifier;

/// See the module.
pub(super) struct Server<'a> {
    pub(super) log: Log,
    /// This process, as its workers see it.
    pub(super) process: Arc<SupervisorProcess>,
    pub(super) scoreboard: Scoreboard,
    /// `None` once they are closed and the workers know.
    pub(super) listeners: Option<Listeners>,
    pub(super) access_log: Option<OwnedFd>,
    /// The directory that the embedding program returns to afterwards; no child needs it.
    pub(super) directory: Option<BorrowedFd<'a>>,
    pub(super) read_revision: ReadRevision<'a>,
    pub(super) generations: Generations,
    pub(super) service: Service,
    pub(super) failure: FailureCause,
    /// Requests that were cut off before the stop began, by crashes and not by the stop.
    pub(super) cut_off_before_stop: u64,
}

/// How the rest of the machine knows this server.
pub(super) struct Service {
    pub(super) notifier: Notifier,
    pub(super) pid_file: Option<PidFile>,
    /// Whether the service is this server's, and not still its predecessor's.
    pub(super) is_owner: bool,
}

impl Server<'_> {
    /// Notifies the service manager, if this server is its service.
    pub(super) fn notify(&self, state: &str) {
        if !self.service.is_owner {
            return;
        }
        if let Err(error) = self.service.notifier.notify(state) {
            let pairs = [("state", Value::Text(state)), ("reason", Value::Display(&error))];
            self.log.line(Level::Warning, "notify.failed", &pairs);
        }
    }

    /// Records why the server may have to give up.
    pub(super) fn record_failure(&mut self, failure: Failure) {
        let has_served = self.scoreboard.header().state() == ServerState::Serving;
        let boot = self.generations.current().config.patience.boot;
        self.failure.record(failure, has_served, boot);
    }

    /// The descriptors that a child closes, beside those of the sources. The log is not among them, because every
    /// child writes to it.
    pub(super) fn list_descriptors(&self, own: &mut OwnDescriptors) {
        if let Some(listeners) = &self.listeners {
            listeners.list_descriptors(own);
        }
        own.add(self.scoreboard.as_fd());
        own.extend(&self.access_log);
        own.extend(self.directory);
    }

    /// Requests that workers cut off, or that were lost with them.
    pub(super) fn cut_off_count(&self) -> u64 {
        const LOST: [Counter; 2] = [Counter::ReqAbandoned, Counter::ReqKilled];
        self.sum((0..self.scoreboard.slot_count()).map(SlotId), LOST)
    }

    /// Workers of this slot that ended without having been asked to.
    pub(super) fn restarts_count(&self, slot: SlotId) -> u64 {
        const REASONS: [Counter; 5] = [
            Counter::WorkerRestartsBoot,
            Counter::WorkerRestartsExit,
            Counter::WorkerRestartsSignal,
            Counter::WorkerRestartsTimeout,
            Counter::WorkerRestartsOom,
        ];
        self.sum(std::iter::once(slot), REASONS)
    }

    fn sum<const N: usize>(
        &self,
        slots: impl Iterator<Item = SlotId>,
        counters: [Counter; N],
    ) -> u64 {
        let entries = slots
            .flat_map(|slot| [Side::A, Side::B].map(|side| self.scoreboard.entry(slot, side)))
            .flatten();
        let counts = entries.flat_map(|entry| counters.map(|counter| entry.counters.get(counter)));
        counts.fold(0, u64::saturating_add)
    }
}
