//! The header of the table: what concerns all of its connections.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The maximum number of workers that share connections with each other. The descriptors that the workers of a group
/// hold, and the cost of sharing a connection, grow with it, while the gain hardly does.
pub const GROUP_SIZE: u8 = 8;
/// The maximum number of members of a group: a slot has two workers while one replaces the other.
pub const MAX_MEMBERS: usize = 2 * GROUP_SIZE as usize;

/// The bits of the first member of each slot.
const FIRST_MEMBERS: u64 = 0x5555_5555_5555_5555;

/// Readers trust no number in it: a process may have been killed between two steps, or have overwritten the table.
#[repr(C, align(128))]
pub struct TableHeader {
    /// One bit for each slot whose application is slow: that of its first member. A slot has two members.
    slow_slots: AtomicU64,
    /// One bit for each slot that has had a worker: that of its first member. Only the supervisor writes it.
    used_slots: AtomicU64,
    /// One bit for each member that serves. Only the supervisor writes it.
    serving: AtomicU64,
    /// No place at or above this index was ever in use.
    used_end: AtomicU64,
    own: [OwnCount; MAX_MEMBERS],
}

/// How many connections a member has for itself alone. Each count has a cache line, because it changes with each
/// connection.
#[repr(C, align(128))]
struct OwnCount(AtomicU32);

impl TableHeader {
    pub(super) fn is_slow(&self) -> bool {
        let serving = self.serving.load(Ordering::Relaxed);
        let slots = (serving | serving >> 1) & FIRST_MEMBERS;
        self.slow_slots.load(Ordering::Relaxed) & slots != 0
    }

    pub(super) fn is_slot_slow(&self, number: u8) -> bool {
        self.slow_slots.load(Ordering::Relaxed) & slot_bit(number) != 0
    }

    pub(super) fn set_slow(&self, number: u8, is_slow: bool) {
        if is_slow {
            self.slow_slots.fetch_or(slot_bit(number), Ordering::Relaxed);
        } else {
            self.slow_slots.fetch_and(!slot_bit(number), Ordering::Relaxed);
        }
    }

    pub(super) fn has_others(&self, number: u8) -> bool {
        self.used_slots.load(Ordering::Relaxed) & !slot_bit(number) != 0
    }

    pub(super) fn has_other_serving(&self, number: u8) -> bool {
        self.serving.load(Ordering::Relaxed) & !bit(number) != 0
    }

    pub(super) fn add_slot(&self, number: u8) {
        self.used_slots.fetch_or(slot_bit(number), Ordering::Relaxed);
    }

    pub(super) fn set_serving(&self, number: u8, is_serving: bool) {
        if is_serving {
            self.serving.fetch_or(bit(number), Ordering::Relaxed);
        } else {
            self.serving.fetch_and(!bit(number), Ordering::Relaxed);
        }
    }

    pub(super) fn set_own(&self, number: u8, count: u32) {
        if let Some(OwnCount(own)) = self.own.get(usize::from(number))
            && own.load(Ordering::Relaxed) != count
        {
            own.store(count, Ordering::Relaxed);
        }
    }

    pub(super) fn may_own_more(&self, number: u8) -> bool {
        let serving = self.serving.load(Ordering::Relaxed) | bit(number);
        let (mut sum, mut members, mut own) = (0, 0, 0);
        for (OwnCount(count), member) in self.own.iter().zip(0..) {
            if serving & bit(member) != 0 {
                let count = u64::from(count.load(Ordering::Relaxed));
                (sum, members) = (sum + count, members + 1);
                own = if member == number { count } else { own };
            }
        }
        own * members <= sum + members
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
        self.slow_slots.store(0, Ordering::Relaxed);
        self.used_slots.store(0, Ordering::Relaxed);
        self.serving.store(0, Ordering::Relaxed);
        self.used_end.store(0, Ordering::Relaxed);
        self.own.iter().for_each(|OwnCount(count)| count.store(0, Ordering::Relaxed));
    }
}

fn slot_bit(number: u8) -> u64 {
    bit(number & !1)
}

fn bit(number: u8) -> u64 {
    1u64.checked_shl(u32::from(number)).unwrap_or(0)
}
