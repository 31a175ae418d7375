//! The collector of metrics as a source.

use std::time::Instant;

use nix::poll::{PollFd, PollFlags};

use super::source::{Report, Round, Source};
use crate::emitter::collector::Collector;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// The collector of metrics, which polls the statsd socket and flushes.
pub(super) struct Metrics {
    pub(super) collector: Collector,
}

impl Source for Metrics {
    fn poll<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        fds.extend(self.collector.poll_fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.collector.next_deadline()
    }

    fn pids(&self) -> Vec<Pid> {
        self.collector.child().into_iter().collect()
    }

    /// Reports that metrics are due in every round, because the collector itself checks whether a flush is due.
    fn check_deadlines(&mut self, _round: &Round, reports: &mut Vec<Report>) {
        reports.push(Report::MetricsDue);
    }

    fn list_descriptors(&self, own: &mut OwnDescriptors) {
        self.collector.list_descriptors(own);
    }
}
