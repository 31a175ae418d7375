//! The admin socket as a source, with the state that only its responses need.

use std::time::Instant;

use nix::poll::PollFd;

use super::source::{Report, Round, Source};
use crate::admin::Admin;
use crate::admin::readiness::QueueState;
use crate::admin::reload::ReloadWaiters;
use crate::client::own_server;
use crate::supervisor::{ReloadOutcome, ServiceState};
use crate::system::descriptors::OwnDescriptors;

/// The admin socket, the clients that wait for a reload, and the state of the server that it reports.
pub(super) struct AdminSource {
    pub(super) admin: Admin,
    /// Clients that wait for the end of a reload.
    pub(super) waiters: ReloadWaiters,
    pub(super) last_reload: Option<EndedReload>,
    pub(super) started: Instant,
    /// The state of the server, and when it began.
    pub(super) state: (ServiceState, Instant),
    /// The accept queue as of the last probe of `/readyz`.
    pub(super) queue: QueueState,
}

/// How a reload ended.
pub(super) struct EndedReload {
    pub(super) outcome: ReloadOutcome,
    pub(super) at: Instant,
    /// The report of a worker on why the reload failed, if there is one.
    pub(super) report: Option<String>,
}

impl AdminSource {
    pub(super) fn new(admin: Admin, now: Instant) -> Self {
        own_server::remember(&admin.descriptions());
        Self {
            admin,
            waiters: ReloadWaiters::default(),
            last_reload: None,
            started: now,
            state: (ServiceState::Starting, now),
            queue: QueueState::default(),
        }
    }

    /// Records when the server entered this state.
    pub(super) fn note_state(&mut self, state: ServiceState, now: Instant) {
        if self.state.0 != state {
            self.state = (state, now);
        }
    }
}

impl Source for AdminSource {
    fn poll<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        fds.extend(self.admin.poll_fds().into_iter().map(|(fd, flags)| PollFd::new(fd, flags)));
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.admin.next_deadline()
    }

    fn check_deadlines(&mut self, round: &Round, reports: &mut Vec<Report>) {
        reports.extend(self.admin.turn(round.now).into_iter().map(Report::AdminRequest));
    }

    fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.admin.list_descriptors(own);
    }
}
