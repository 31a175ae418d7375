//! An order for a worker, which the supervisor sends to a zygote.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use arctos_worker::shared::identity::SlotId;
use arctos_worker::shared::scoreboard::Side;
use arctos_worker::worker_init::{GroupMembership, Listener};
use nix::errno::Errno;
use nix::sys::socket::{self, ControlMessage, MsgFlags};

use super::message::{MAX_DESCRIPTORS, MESSAGE_BYTES, SpawnRequest};
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;

/// An order to fork a worker.
pub struct SpawnOrder {
    /// The slot of the worker.
    pub slot: SlotId,
    /// The scoreboard entry of the worker, which the caller has assigned to the zygote's generation.
    pub side: Side,
    /// The worker's end of its control socket, as in [`arctos_worker::worker_init::WorkerInit`].
    pub control_fd: OwnedFd,
    /// The worker's end of its doorbell.
    pub doorbell: OwnedFd,
    /// The listeners of the worker.
    pub listeners: Vec<Listener>,
    /// The access log, if there is one.
    pub access_log: Option<OwnedFd>,
    /// The group of workers that share their connections, if the worker is in one.
    pub group: Option<GroupMembership>,
}

impl SpawnOrder {
    /// Adds the descriptors that no other child may keep.
    pub(super) fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.extend([&self.control_fd, &self.doorbell].into_iter().chain(&self.access_log));
        own.extend(self.group.as_ref().map(|group| &group.mailbox));
        own.extend(self.listeners.iter().map(|listener| &listener.socket));
    }

    /// Sends the order, with its descriptors, in one packet.
    ///
    /// Errors: EMSGSIZE if it does not fit into a packet; EPIPE if the zygote is gone.
    pub(super) fn send(&self, socket: &OwnedFd, number: u32) -> Result<(), Errno> {
        let listeners = self.listeners.iter();
        let request = SpawnRequest {
            number,
            slot: self.slot,
            side: self.side,
            has_access_log: self.access_log.is_some(),
            group: self.group.as_ref().map(|group| (group.index, group.number)),
            listeners: listeners.map(|listener| (listener.name.clone(), listener.owner)).collect(),
        };
        let packet = request.encode();
        let mut numbers = vec![self.control_fd.as_raw_fd(), self.doorbell.as_raw_fd()];
        numbers.extend(self.access_log.iter().map(AsRawFd::as_raw_fd));
        numbers.extend(self.group.iter().map(|group| group.mailbox.as_raw_fd()));
        numbers.extend(self.listeners.iter().map(|listener| listener.socket.as_raw_fd()));
        if packet.len() > MESSAGE_BYTES || numbers.len() > MAX_DESCRIPTORS {
            return Err(Errno::EMSGSIZE);
        }
        let parts = [IoSlice::new(&packet)];
        let rights = [ControlMessage::ScmRights(&numbers)];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        loop {
            match socket::sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, flags, None) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop),
            }
        }
    }
}

/// An order that was sent to the zygote and is not answered yet.
#[derive(Clone, Copy)]
pub(super) struct PendingOrder {
    pub(super) number: u32,
    pub(super) slot: SlotId,
    pub(super) side: Side,
    pub(super) deadline: Instant,
    /// The process that the zygote reports as the worker, until the kernel confirms it.
    pub(super) reported: Option<ReportedPid>,
}

/// A pid from the zygote that is not confirmed yet.
#[derive(Clone, Copy)]
pub(super) struct ReportedPid {
    pub(super) pid: Pid,
    pub(super) check_at: Instant,
}

impl PendingOrder {
    pub(super) fn new(number: u32, order: &SpawnOrder, timeout: Duration, now: Instant) -> Self {
        let SpawnOrder { slot, side, .. } = *order;
        Self { number, slot, side, deadline: now + timeout, reported: None }
    }

    pub(super) fn next_deadline(&self) -> Instant {
        self.reported.map_or(self.deadline, |reported| reported.check_at.min(self.deadline))
    }
}
