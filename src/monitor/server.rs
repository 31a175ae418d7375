//! The state that the actions of the state machine change: the scoreboard, the listeners, the log, the revisions.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

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

/// The state that is not part of any source.
pub(super) struct Server<'a> {
    pub(super) log: Log,
    /// The identity of this process, through which workers notice its end.
    pub(super) process: Arc<SupervisorProcess>,
    pub(super) scoreboard: Scoreboard,
    /// `None` once the listeners are closed and the workers know that.
    pub(super) listeners: Option<Listeners>,
    pub(super) access_log: Option<OwnedFd>,
    /// The directory that the embedding program returns to afterwards; no child needs it.
    pub(super) directory: Option<BorrowedFd<'a>>,
    pub(super) read_revision: ReadRevision<'a>,
    pub(super) generations: Generations,
    pub(super) service: Service,
    pub(super) failure: FailureCause,
    /// When the first worker was started.
    pub(super) started: Instant,
    /// Requests that were cut off before the stop began, by crashes and not by the stop.
    pub(super) cut_off_before_stop: u64,
}

/// The pid file and the service manager, through which the rest of the machine knows this server.
pub(super) struct Service {
    pub(super) notifier: Notifier,
    pub(super) pid_file: Option<PidFile>,
    /// Whether this server, and no longer its predecessor, owns the service.
    pub(super) is_owner: bool,
}

impl Server<'_> {
    /// Notifies the service manager, if this server owns the service.
    pub(super) fn notify(&self, state: &str) {
        if !self.service.is_owner {
            return;
        }
        if let Err(error) = self.service.notifier.notify(state) {
            let pairs = [("state", Value::Text(state)), ("reason", Value::Display(&error))];
            self.log.line(Level::Warning, "notify.failed", &pairs);
        }
    }

    /// Records a failure for which the server may have to give up.
    pub(super) fn record_failure(&mut self, failure: Failure) {
        let has_served = self.scoreboard.header().state() == ServerState::Serving;
        let boot = self.generations.current().config.patience.boot;
        self.failure.record(failure, has_served, boot);
    }

    /// Lists the descriptors that a child closes, besides those of the sources. The log is not among them, because
    /// every child writes to it.
    pub(super) fn list_descriptors(&self, own: &mut OwnDescriptors) {
        if let Some(listeners) = &self.listeners {
            listeners.list_descriptors(own);
        }
        own.add(self.scoreboard.as_fd());
        own.extend(&self.access_log);
        own.extend(self.directory);
    }

    /// The number of requests that workers cut off, or that were lost with a worker.
    pub(super) fn cut_off_count(&self) -> u64 {
        const LOST: [Counter; 2] = [Counter::ReqAbandoned, Counter::ReqKilled];
        self.sum((0..self.scoreboard.slot_count()).map(SlotId), LOST)
    }

    /// The number of workers of this slot that ended without having been asked to.
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
