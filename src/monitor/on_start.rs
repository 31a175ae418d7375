//! The process of `--on-start`. The state machine decides when it runs, how long it may take and what follows.

use nix::poll::{PollFd, PollFlags};

use super::source::{Reaped, Report, Round, Source};
use crate::process::on_start::OnStart;
use crate::supervisor::ExitDetails;
use crate::supervisor::slot::ExitStatus;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// The process of `--on-start`, if it is running.
#[derive(Default)]
pub(super) struct OnStartProcess {
    run: Option<OnStart>,
}

impl OnStartProcess {
    pub(super) fn begin(&mut self, run: OnStart) {
        self.run = Some(run);
    }

    /// Makes the process dump its Python stack, if it has this pid.
    pub(super) fn dump_stack(&self, pid: Pid) {
        if let Some(run) = self.run.as_ref().filter(|run| run.pid() == pid) {
            run.request_stack();
        }
    }

    /// Kills and reaps the process.
    pub(super) fn stop(&mut self) {
        if let Some(run) = self.run.take() {
            run.kill_and_reap();
        }
    }
}

impl Source for OnStartProcess {
    fn poll<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        let report = self.run.as_ref().and_then(OnStart::poll_fd);
        fds.extend(report.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    }

    fn pids(&self) -> Vec<Pid> {
        self.run.iter().map(OnStart::pid).collect()
    }

    fn read(&mut self, _round: &Round, _reports: &mut Vec<Report>) {
        if let Some(run) = &mut self.run {
            run.receive();
        }
    }

    fn reap(
        &mut self,
        pid: Pid,
        status: ExitStatus,
        _round: &Round,
        _reports: &mut Vec<Report>,
    ) -> Option<Reaped> {
        let run = self.run.take_if(|run| run.pid() == pid)?;
        let report = run.finish(status).err();
        Some(Reaped::Other(ExitDetails { report, ..ExitDetails::default() }))
    }

    fn list_descriptors(&self, own: &mut OwnDescriptors) {
        if let Some(run) = &self.run {
            run.list_descriptors(own);
        }
    }
}
