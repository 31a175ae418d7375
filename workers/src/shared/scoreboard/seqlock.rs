//! A seqlock: words in shared memory that change together, while other processes read them.
//!
//! Its sequence is odd while the words change. A reader that finds it odd or changed has read nothing. The writer never
//! waits, and there is one at a time. It may be stopped or killed half-way, so readers do not wait for it either.
//!
//! This file has no other imports than the atomics, because `workers/loom` compiles it once more, with those of loom.

use super::atomics::{AtomicU64, Ordering, fence};

/// Changes the words that belong to a sequence. They are written with `Relaxed` stores.
#[inline]
pub(super) fn change(sequence: &AtomicU64, change: impl FnOnce()) {
    // Also odd if an earlier writer was killed between the two stores.
    let odd = sequence.load(Ordering::Relaxed) | 1;
    sequence.store(odd, Ordering::Relaxed);
    fence(Ordering::Release);
    change();
    sequence.store(odd.wrapping_add(1), Ordering::Release);
}

/// Reads the words that belong to a sequence, with `Relaxed` loads. `None` if they change meanwhile.
#[inline]
pub(super) fn read<T>(sequence: &AtomicU64, read: impl FnOnce() -> T) -> Option<T> {
    let before = sequence.load(Ordering::Acquire);
    let words = read();
    fence(Ordering::Acquire);
    let after = sequence.load(Ordering::Relaxed);
    (before == after && before.is_multiple_of(2)).then_some(words)
}
