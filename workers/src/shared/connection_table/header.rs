//! The header of the table: what concerns all of its connections.

use std::sync::atomic::{AtomicU64, Ordering};

/// Readers trust no number in it: a process may have been killed between two steps, or have overwritten the table.
#[repr(C, align(128))]
pub struct TableHeader {
    /// One bit for each member whose application is slow.
    slow_members: AtomicU64,
    /// No place at or above this index was ever in use.
    used_end: AtomicU64,
}

impl TableHeader {
    pub(super) fn is_slow(&self) -> bool {
        self.slow_members.load(Ordering::Relaxed) != 0
    }

    pub(super) fn is_member_slow(&self, number: u8) -> bool {
        self.slow_members.load(Ordering::Relaxed) & bit(number) != 0
    }

    pub(super) fn set_slow(&self, number: u8, is_slow: bool) {
        if is_slow {
            self.slow_members.fetch_or(bit(number), Ordering::Relaxed);
        } else {
            self.slow_members.fetch_and(!bit(number), Ordering::Relaxed);
        }
    }

    pub(super) fn used_end(&self) -> u64 {
        self.used_end.load(Ordering::Relaxed)
    }

    /// Puts one more place into use, and returns its index.
    pub(super) fn extend(&self) -> u64 {
        self.used_end.fetch_add(1, Ordering::Relaxed)
    }

    /// Forgets everything. The simulation uses one table for many runs.
    #[cfg(test)]
    pub(super) fn reset(&self) {
        self.slow_members.store(0, Ordering::Relaxed);
        self.used_end.store(0, Ordering::Relaxed);
    }
}

fn bit(number: u8) -> u64 {
    1u64.checked_shl(u32::from(number)).unwrap_or(0)
}
