//! The requests in quarantine, as a worker sees them.

use std::time::Duration;

use crate::connection::RefusalReason;
use crate::shared::request_key::RequestKeys;
use crate::shared::scoreboard::{QuarantineTable, WorkerEntry};

/// The table in shared memory, and what makes the keys in it.
pub struct Quarantine {
    table: &'static QuarantineTable,
    keys: RequestKeys,
}

impl Quarantine {
    /// The keys are those that the supervisor makes.
    pub fn new(table: &'static QuarantineTable, keys: RequestKeys) -> Self {
        Self { table, keys }
    }

    /// Returns why a request is refused.
    #[inline]
    pub(super) fn refusal(
        &self,
        monotonic: Duration,
        method: &[u8],
        path: &[u8],
    ) -> Option<RefusalReason> {
        if self.table.is_empty() {
            return None;
        }
        let rest = self.table.refuse(self.keys.of(method, path), monotonic)?;
        Some(RefusalReason::Quarantined { retry_after_s: whole_seconds(rest) })
    }

    /// Stores the key of a request whose path is too long for the scoreboard, so that the supervisor can tell it from
    /// others if its worker dies.
    #[inline]
    pub(super) fn identify(&self, entry: &WorkerEntry, method: &[u8], path: &[u8]) {
        if method.len() + path.len() + 1 >= WorkerEntry::LINE_BYTES {
            entry.identify_long_request(self.keys.of(method, path));
        }
    }
}

/// Rounds up, so that a client that waits for so long is not refused again.
fn whole_seconds(rest: Duration) -> u32 {
    let part = u64::from(rest.subsec_nanos() > 0);
    u32::try_from(rest.as_secs().saturating_add(part)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up() {
        let seconds = [1, 1000, 1001, 59_999, 60_000].map(Duration::from_millis).map(whole_seconds);
        assert_eq!(seconds, [1, 1, 2, 60, 60]);
        assert_eq!(whole_seconds(Duration::MAX), u32::MAX);
    }
}
