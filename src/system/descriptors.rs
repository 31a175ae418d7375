//! The descriptors that a process keeps for itself, listed for a child that it is about to fork.
//!
//! A child closes these and no others. A program that calls `serve()`, or whatever an interpreter runs before
//! the command, may have descriptors of its own, whose owners live on in the child: if their numbers were
//! closed and given to somebody else, a log file's next line would go to a client. So a child never closes
//! "all but": every part of the supervisor lists what it has opened itself.

use std::os::fd::{AsFd, AsRawFd, RawFd};

/// See the module. The numbers are those of a moment: the list is made right before the fork, while the owners
/// are borrowed.
#[derive(Debug, Default)]
pub struct OwnDescriptors(Vec<RawFd>);

impl OwnDescriptors {
    /// Adds one that is open.
    pub fn add(&mut self, descriptor: impl AsFd) {
        self.0.push(descriptor.as_fd().as_raw_fd());
    }

    /// Adds several.
    pub fn extend(&mut self, descriptors: impl IntoIterator<Item = impl AsFd>) {
        descriptors.into_iter().for_each(|descriptor| self.add(descriptor));
    }

    /// Their numbers.
    pub fn numbers(&self) -> &[RawFd] {
        &self.0
    }
}
