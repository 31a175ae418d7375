//! The restart backoff of a slot.

use std::time::{Duration, Instant};

/// Delays before the first, second and later retries after workers that never served, without jitter. The last delay
/// repeats.
const DELAYS_MS: [u64; 5] = [0, 500, 1_000, 2_000, 5_000];

/// The restart backoff after workers that never served.
///
/// A worker that has served shows that a new one can work, so its end never delays the next one. Otherwise a few
/// requests that crash workers could leave the server without any.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    /// Number of consecutive workers that never served.
    failures_count: usize,
}

impl Backoff {
    /// Counts a worker that never served. Returns the time of the next attempt.
    pub(super) fn failed(&mut self, now: Instant, jitter: &mut Jitter) -> Instant {
        let step = self.failures_count.min(DELAYS_MS.len() - 1);
        self.failures_count += 1;
        now + jitter.spread(Duration::from_millis(DELAYS_MS[step]))
    }

    /// Forgets earlier failures.
    pub(super) fn forget(&mut self) {
        self.failures_count = 0;
    }
}

/// Random jitter, so that slots that fail together do not return together.
///
/// The generator is splitmix64. The same seed yields the same numbers, so that a simulation can be replayed.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Returns the sequence for this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns the next number of the sequence.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns `wait`, shortened or prolonged by up to a tenth.
    pub fn spread(&mut self, wait: Duration) -> Duration {
        let thousandths = 900 + self.draw() % 201;
        wait * thousandths as u32 / 1000
    }
}
