//! The signals that the supervisor receives, as a source.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags};

use super::source::{Report, Round, Source};
use crate::process::signals::Signals;
use crate::system::descriptors::OwnDescriptors;

impl Source for Signals {
    fn poll<'fd>(&'fd self, fds: &mut Vec<PollFd<'fd>>) {
        fds.push(PollFd::new(self.as_fd(), PollFlags::POLLIN));
    }

    fn read(&mut self, _round: &Round, reports: &mut Vec<Report>) {
        reports.extend(self.take().into_iter().map(Report::Signal));
    }

    fn list_descriptors(&self, own: &mut OwnDescriptors) {
        Self::list_descriptors(self, own);
    }
}
