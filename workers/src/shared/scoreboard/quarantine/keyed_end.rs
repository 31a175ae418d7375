//! A key and its end, which one process writes while others read them: a seqlock. Its sequence is odd while the two
//! change. A reader that finds it odd or changed has found nothing, and does not wait.
//!
//! This file has no other imports than the atomics, because `workers/loom` compiles it once more, with those of loom.

use super::atomics::{AtomicU64, Ordering, fence};

/// A key, and a number that belongs to it.
#[repr(C)]
pub(super) struct KeyedEnd {
    sequence: AtomicU64,
    /// 0 while there is none.
    key: AtomicU64,
    end: AtomicU64,
}

impl KeyedEnd {
    /// Neither key nor end.
    pub(super) fn new() -> Self {
        Self { sequence: AtomicU64::new(0), key: AtomicU64::new(0), end: AtomicU64::new(0) }
    }

    /// Returns the end of this key, if it is here and does not change at this moment.
    pub(super) fn end_of(&self, key: u64) -> Option<u64> {
        let before = self.sequence.load(Ordering::Acquire);
        if self.key.load(Ordering::Relaxed) != key {
            return None;
        }
        let end = self.end.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let after = self.sequence.load(Ordering::Relaxed);
        (before == after && before.is_multiple_of(2)).then_some(end)
    }

    /// The key, for the only writer.
    pub(super) fn key(&self) -> u64 {
        self.key.load(Ordering::Relaxed)
    }

    /// Replaces key and end. There is one writer.
    pub(super) fn change(&self, key: u64, end: u64) {
        // Also odd if somebody has overwritten it.
        let odd = self.sequence.load(Ordering::Relaxed) | 1;
        self.sequence.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        self.key.store(key, Ordering::Relaxed);
        self.end.store(end, Ordering::Relaxed);
        self.sequence.store(odd.wrapping_add(1), Ordering::Release);
    }

    /// Fills all of it with this word, as a worker with a wild pointer may.
    #[cfg(test)]
    pub(super) fn overwrite(&self, word: u64) {
        for cell in [&self.sequence, &self.key, &self.end] {
            cell.store(word, Ordering::Relaxed);
        }
    }
}
