//! The descriptors that a process keeps for itself, listed for a child that it is about to fork.
//!
//! A child closes these and no others. A program that calls `serve()`, or code that an interpreter runs before the
//! command, may have descriptors of its own, which are still in use in the child. If the child closed them and the
//! kernel reused their numbers, the next line of a log file would go to a client. So a child never closes everything
//! except a list: every part of the supervisor lists what it opened itself.

use std::os::fd::{AsFd, AsRawFd, RawFd};

/// The list of the descriptors that a child closes. It is valid for a moment only: it is made right before the fork,
/// while the owners are borrowed.
#[derive(Debug, Default)]
pub struct OwnDescriptors(Vec<RawFd>);

impl OwnDescriptors {
    /// Adds an open descriptor.
    pub fn add(&mut self, descriptor: impl AsFd) {
        self.0.push(descriptor.as_fd().as_raw_fd());
    }

    /// Adds several open descriptors.
    pub fn extend(&mut self, descriptors: impl IntoIterator<Item = impl AsFd>) {
        descriptors.into_iter().for_each(|descriptor| self.add(descriptor));
    }

    /// Returns the numbers of the descriptors.
    pub fn numbers(&self) -> &[RawFd] {
        &self.0
    }
}
