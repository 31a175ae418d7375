//! How much memory the request bodies of a worker may take while they arrive.
//!
//! Only bytes that have arrived count: if the announced lengths did, a few clients that send nothing could send the
//! bodies of all others to the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// If bodies have taken this much at once, the heap has grown by enough for its memory to be given back.
const LARGE_BYTES: usize = 4 << 20;

/// The limits on one body and on all bodies of a worker, and what those in memory take now.
pub struct BodyBudget {
    body_bytes: usize,
    total_bytes: usize,
    /// Atomic because the application may keep a body, and any thread may drop it.
    used_bytes: AtomicUsize,
    /// The maximum of `used_bytes` since the memory was given back.
    peak_bytes: AtomicUsize,
}

impl BodyBudget {
    /// A budget of which nothing is used: `body_bytes` for each body, and `total_bytes` for all.
    pub fn new(body_bytes: usize, total_bytes: usize) -> Arc<Self> {
        let (used_bytes, peak_bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { body_bytes, total_bytes, used_bytes, peak_bytes })
    }

    /// What all bodies in memory have taken.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Whether large bodies have come and gone since this last returned true.
    pub fn take_leftover(&self) -> bool {
        let is_left =
            self.used_bytes() == 0 && self.peak_bytes.load(Ordering::Relaxed) >= LARGE_BYTES;
        if is_left {
            self.peak_bytes.store(0, Ordering::Relaxed);
        }
        is_left
    }
}

/// What one body has taken of a budget. It is given back when this is dropped.
pub struct Share {
    budget: Arc<BodyBudget>,
    bytes: usize,
}

impl Share {
    /// A share of which nothing is taken.
    pub fn of(budget: &Arc<BodyBudget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// Whether `more` bytes exceed neither the limit of one body nor that of all.
    pub fn has_room(&self, more: usize) -> bool {
        let fits = |used: usize, limit: usize| used.saturating_add(more) <= limit;
        fits(self.bytes, self.budget.body_bytes)
            && fits(self.budget.used_bytes(), self.budget.total_bytes)
    }

    /// Takes `more` bytes, for which there is room.
    pub fn grow(&mut self, more: usize) {
        let used_bytes = self.budget.used_bytes.fetch_add(more, Ordering::Relaxed) + more;
        self.budget.peak_bytes.fetch_max(used_bytes, Ordering::Relaxed);
        self.bytes += more;
    }

    /// The maximum length of the body.
    pub fn limit(&self) -> usize {
        self.budget.body_bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_share_grows_up_to_both_limits_and_is_given_back() {
        let budget = BodyBudget::new(10, 15);
        let (mut first, mut second) = (Share::of(&budget), Share::of(&budget));
        assert!(first.has_room(10) && !first.has_room(11));
        first.grow(10);
        assert!(second.has_room(5) && !second.has_room(6));
        second.grow(5);
        assert_eq!(budget.used_bytes(), 15);
        drop(first);
        assert_eq!(budget.used_bytes(), 5);
        assert!(second.has_room(5) && !second.has_room(usize::MAX));
        drop(second);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn large_bodies_leave_memory_once_all_are_gone() {
        let budget = BodyBudget::new(usize::MAX, usize::MAX);
        let mut small = Share::of(&budget);
        small.grow(LARGE_BYTES - 1);
        drop(small);
        assert!(!budget.take_leftover());
        let (mut first, mut second) = (Share::of(&budget), Share::of(&budget));
        first.grow(LARGE_BYTES / 2);
        second.grow(LARGE_BYTES / 2);
        drop(first);
        assert!(!budget.take_leftover());
        drop(second);
        assert!(budget.take_leftover());
        assert!(!budget.take_leftover());
    }

    proptest! {
        #[test]
        fn what_is_used_is_the_sum_of_the_shares(
            growths in prop::collection::vec((0..4usize, 0..30usize, any::<bool>()), 0..50),
        ) {
            let budget = BodyBudget::new(40, 100);
            let mut shares: [Share; 4] = std::array::from_fn(|_| Share::of(&budget));
            for (index, more, is_dropped) in growths {
                if is_dropped {
                    shares[index] = Share::of(&budget);
                } else if shares[index].has_room(more) {
                    shares[index].grow(more);
                }
                prop_assert!(budget.used_bytes() <= 100 && shares.iter().all(|share| share.bytes <= 40));
                prop_assert_eq!(budget.used_bytes(), shares.iter().map(|share| share.bytes).sum::<usize>());
            }
        }
    }
}
