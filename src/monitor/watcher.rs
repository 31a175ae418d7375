//! The helper process that watches files for `--reload`, as a source.

use std::time::Instant;

use arctos_worker::shared::log::Log;
use nix::poll::{PollFd, PollFlags};

use super::Monitor;
use super::source::{Reaped, Report, Round, Source};
use crate::supervisor::slot::ExitStatus;
use crate::supervisor::{Event, OperatorCommand, ServiceState};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;
use crate::watch::watcher::SHORT_LIFE;
use crate::watch::{Message, Watcher};

/// The watcher; `None` without `--reload`.
pub(super) struct WatcherSource<'a> {
    watcher: Option<&'a mut Watcher>,
    started: Instant,
    log: Log,
}

impl<'a> WatcherSource<'a> {
    pub(super) fn new(watcher: Option<&'a mut Watcher>, log: Log, now: Instant) -> Self {
        Self { watcher, started: now, log }
    }
}

impl Source for WatcherSource<'_> {
    fn poll<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        let watcher = self.watcher.as_ref();
        fds.extend(watcher.map(|watcher| PollFd::new(watcher.as_fd(), PollFlags::POLLIN)));
    }

    fn pids(&self) -> Vec<Pid> {
        self.watcher.iter().filter_map(|watcher| watcher.pid()).collect()
    }

    fn read(&mut self, _round: &Round, reports: &mut Vec<Report>) {
        let Some(watcher) = &mut self.watcher else { return };
        let messages = watcher.receive();
        messages.iter().for_each(|message| message.log(&self.log));
        if messages.iter().any(Message::is_change) {
            reports.push(Report::FilesChanged);
        }
    }

    /// Starts another helper process. Changes that happened in the meantime, and the paths that workers had sent, are
    /// lost, so the code is loaded again.
    fn reap(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        round: &Round,
        reports: &mut Vec<Report>,
    ) -> Option<Reaped> {
        let watcher = self.watcher.as_mut().filter(|watcher| watcher.pid() == Some(pid))?;
        let has_lived = round.now.saturating_duration_since(self.started) > SHORT_LIFE;
        if watcher.replace(status, has_lived, &self.log) {
            self.started = round.now;
            reports.push(Report::FilesChanged);
        }
        Some(Reaped::Unmanaged)
    }

    fn list_descriptors(&self, own: &mut OwnDescriptors) {
        if let Some(watcher) = &self.watcher {
            watcher.list_descriptors(own);
        }
    }
}

impl Monitor<'_> {
    /// Loads the code that is on disk now. A change does not bring back a server that was paused.
    pub(super) fn reload_changed_files(&mut self, now: Instant) {
        match self.supervisor.service_state() {
            ServiceState::Starting | ServiceState::Serving => {
                self.supervisor.handle(Event::OperatorCommand(OperatorCommand::Reload), now);
            }
            ServiceState::Paused | ServiceState::Stopping => {}
        }
    }
}
