//! The states of a zygote; the transitions are in the parent module.

use std::time::Instant;

use super::event::ZygoteEnding;
use super::order::PendingOrder;

pub(super) enum State {
    /// The zygote loads the application.
    Booting { deadline: Instant, is_late: bool },
    /// The zygote forks workers.
    Ready { pending: Option<PendingOrder> },
    /// The zygote was asked to exit, and may still answer the order that it has.
    Ending { pending: Option<PendingOrder>, kill_at: Instant },
    /// Nothing more comes from the zygote; its process may still have to be reaped.
    Gone { ending: ZygoteEnding },
}

impl State {
    /// Whether messages may come from the zygote.
    pub(super) fn is_connected(&self) -> bool {
        match self {
            Self::Booting { .. } | Self::Ready { .. } | Self::Ending { .. } => true,
            Self::Gone { .. } => false,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Booting { deadline, .. } => Some(*deadline),
            Self::Ready { pending } => pending.as_ref().map(PendingOrder::next_deadline),
            Self::Ending { pending, kill_at } => {
                let check = pending.as_ref().map(PendingOrder::next_deadline);
                Some(check.map_or(*kill_at, |check| check.min(*kill_at)))
            }
            Self::Gone { .. } => None,
        }
    }

    /// The order that is not answered yet.
    pub(super) fn pending(&mut self) -> Option<&mut PendingOrder> {
        match self {
            Self::Ready { pending } | Self::Ending { pending, .. } => pending.as_mut(),
            Self::Booting { .. } | Self::Gone { .. } => None,
        }
    }

    /// Removes and returns the order with this number, which is answered now; `None` if it was answered before.
    pub(super) fn take_pending(&mut self, number: u32) -> Option<PendingOrder> {
        match self {
            Self::Ready { pending } | Self::Ending { pending, .. } => {
                pending.take_if(|order| order.number == number)
            }
            Self::Booting { .. } | Self::Gone { .. } => None,
        }
    }
}
