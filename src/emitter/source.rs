//! Where the sums in a line come from.

use arctos_worker::shared::identity::SlotId;

/// The source of the sums in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum CountSource {
    /// All workers and the supervisor together.
    All,
    /// The supervisor's own counters.
    Supervisor,
    /// The workers of one slot.
    Slot(SlotId),
}
