//! A flush on its way, and what of the last one may yet turn out to be lost.
//!
//! What a datagram carries counts as sent when, and only when, the kernel has accepted it. A refusal by
//! another host, or by this one when it is busy, is heard later than that; until the next flush begins,
//! everything can be taken back.

use std::collections::VecDeque;

use super::baseline::Baselines;
use super::packer::Datagram;

/// See the module.
pub(super) struct InFlight {
    baselines: Baselines,
    /// Not yet handed over.
    queue: VecDeque<Datagram>,
    /// What was accepted since the last flush began.
    in_doubt: Vec<Datagram>,
}

impl InFlight {
    /// Nothing was ever sent.
    pub(super) fn new() -> Self {
        Self { baselines: Baselines::new(), queue: VecDeque::new(), in_doubt: Vec::new() }
    }

    /// Begins a flush with what `compose` makes of the baselines. What is left of the one before is
    /// part of it.
    pub(super) fn load(&mut self, compose: impl FnOnce(&mut Baselines) -> VecDeque<Datagram>) {
        self.in_doubt.clear();
        self.queue = compose(&mut self.baselines);
    }

    /// What has been sent.
    pub(super) fn baselines_mut(&mut self) -> &mut Baselines {
        &mut self.baselines
    }

    /// What is to be handed over next.
    pub(super) fn next(&self) -> Option<&str> {
        self.queue.front().map(|datagram| datagram.text.as_str())
    }

    /// The kernel has accepted it.
    pub(super) fn accepted(&mut self) {
        let Some(datagram) = self.queue.pop_front() else { return };
        for receipt in &datagram.receipts {
            self.baselines.commit(*receipt);
        }
        self.in_doubt.push(datagram);
    }

    /// Whether anything was accepted since the last flush began.
    pub(super) fn has_carried(&self) -> bool {
        !self.in_doubt.is_empty()
    }

    /// It has not: the rest of the flush is given up. How many datagrams that is.
    pub(super) fn give_up(&mut self) -> u64 {
        counted(self.queue.drain(..))
    }

    /// What was accepted since the last flush began has arrived nowhere. How many datagrams that is.
    pub(super) fn take_back(&mut self) -> u64 {
        for receipt in self.in_doubt.iter().flat_map(|datagram| &datagram.receipts) {
            self.baselines.take_back(*receipt);
        }
        counted(self.in_doubt.drain(..))
    }
}

fn counted(datagrams: impl Iterator<Item = Datagram>) -> u64 {
    u64::try_from(datagrams.count()).unwrap_or(u64::MAX)
}
