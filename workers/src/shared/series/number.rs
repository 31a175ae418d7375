//! A floating-point number in shared memory, with any number of writers.

use super::atomics::{AtomicU64, Ordering};

/// Shape: the bits of an `f64`, so that zeroed memory holds 0. One of the many NaN says that there is no number.
#[repr(transparent)]
pub struct SharedNumber(AtomicU64);

/// A NaN that no calculation results in.
const REMOVED: u64 = 0x7ff8_0000_dead_0000;

impl SharedNumber {
    /// Zero, for the model checks: shared memory is zeroed.
    #[cfg(test)]
    pub fn zero() -> Self {
        Self(AtomicU64::new(0))
    }

    /// The number.
    #[inline]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Replaces the number.
    #[inline]
    pub fn set(&self, number: f64) {
        self.0.store(number.to_bits(), Ordering::Relaxed);
    }

    /// From now on, there is no number.
    #[inline]
    pub fn remove(&self) {
        self.0.store(REMOVED, Ordering::Relaxed);
    }

    /// The number; `None` if it was removed.
    #[inline]
    pub fn get_unless_removed(&self) -> Option<f64> {
        let bits = self.0.load(Ordering::Relaxed);
        (bits != REMOVED).then_some(f64::from_bits(bits))
    }

    /// Adds `amount`. Nothing that another thread or process adds meanwhile is lost.
    #[inline]
    pub fn add(&self, amount: f64) {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let sum = (f64::from_bits(seen) + amount).to_bits();
            match self.0.compare_exchange_weak(seen, sum, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => seen = now,
            }
        }
    }
}
