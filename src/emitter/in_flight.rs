//! The in-flight datagrams of the current flush, and those that may still turn out to be lost.
//!
//! The deltas of a datagram count as sent once the kernel has accepted it. An error from another host, or from this
//! host when it is busy, arrives later. Until the next flush begins, everything can be rolled back.

use std::collections::VecDeque;

use super::baseline::Baselines;
use super::packer::Datagram;

/// The state of the current flush.
pub(super) struct InFlight {
    baselines: Baselines,
    /// Datagrams that were not sent yet.
    queue: VecDeque<Datagram>,
    /// Datagrams that were accepted since the flush began.
    accepted: Vec<Datagram>,
}

impl InFlight {
    /// The state before the first flush.
    pub(super) fn new() -> Self {
        Self { baselines: Baselines::new(), queue: VecDeque::new(), accepted: Vec::new() }
    }

    /// Begins a flush with the datagrams that `compose` makes from the baselines. They include what is left of the
    /// previous flush.
    pub(super) fn load(&mut self, compose: impl FnOnce(&mut Baselines) -> VecDeque<Datagram>) {
        self.accepted.clear();
        self.queue = compose(&mut self.baselines);
    }

    /// The totals that were sent.
    pub(super) fn baselines_mut(&mut self) -> &mut Baselines {
        &mut self.baselines
    }

    /// The next datagram to send.
    pub(super) fn next(&self) -> Option<&str> {
        self.queue.front().map(|datagram| datagram.text.as_str())
    }

    /// Takes note that the kernel has accepted the next datagram.
    pub(super) fn accept(&mut self) {
        let Some(datagram) = self.queue.pop_front() else { return };
        for delta in &datagram.deltas {
            self.baselines.commit(*delta);
        }
        for delta in &datagram.series {
            self.baselines.series.commit(*delta);
        }
        self.accepted.push(datagram);
    }

    /// Whether a datagram was accepted since the flush began.
    pub(super) fn has_accepted(&self) -> bool {
        !self.accepted.is_empty()
    }

    /// Discards the datagrams that were not sent, and returns their number.
    pub(super) fn discard(&mut self) -> u64 {
        counted(self.queue.drain(..))
    }

    /// Takes note that the datagrams accepted since the flush began were lost, and returns their number.
    pub(super) fn roll_back(&mut self) -> u64 {
        for delta in self.accepted.iter().flat_map(|datagram| &datagram.deltas) {
            self.baselines.roll_back(*delta);
        }
        for delta in self.accepted.iter().flat_map(|datagram| &datagram.series) {
            self.baselines.series.roll_back(*delta);
        }
        counted(self.accepted.drain(..))
    }
}

fn counted(datagrams: impl Iterator<Item = Datagram>) -> u64 {
    u64::try_from(datagrams.count()).unwrap_or(u64::MAX)
}
