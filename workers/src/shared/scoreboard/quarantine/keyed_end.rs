//! A key and its end, which one process writes while others read them: a seqlock.
//!
//! This file imports only the atomics and the seqlock, because `workers/loom` compiles it once more, with the atomics of
//! loom.

use super::atomics::{AtomicU64, Ordering};
use super::seqlock;

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
        let words = || (self.key.load(Ordering::Relaxed), self.end.load(Ordering::Relaxed));
        let (found, end) = seqlock::read(&self.sequence, words)?;
        (found == key).then_some(end)
    }

    /// The key, for the only writer.
    pub(super) fn key(&self) -> u64 {
        self.key.load(Ordering::Relaxed)
    }

    /// Replaces key and end. There is one writer.
    pub(super) fn change(&self, key: u64, end: u64) {
        seqlock::change(&self.sequence, || {
            self.key.store(key, Ordering::Relaxed);
            self.end.store(end, Ordering::Relaxed);
        });
    }

    /// Fills all of it with this word, as a worker with a wild pointer may.
    #[cfg(test)]
    pub(super) fn overwrite(&self, word: u64) {
        for cell in [&self.sequence, &self.key, &self.end] {
            cell.store(word, Ordering::Relaxed);
        }
    }
}
