//! One record of the table: the state of a place, and what its holder leaves for the next one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::place::Place;

/// The maximum length of the facts about a connection, in bytes.
pub const FACT_BYTES: usize = 352;
const WORD_BYTES: usize = size_of::<u64>();

/// One record. Beside the place itself, only the holder of the place reads and writes it: the atomics are relaxed,
/// and [`Place::release`] and [`Place::claim`] order them.
#[repr(C, align(128))]
#[expect(missing_docs, reason = "the type says what the place is")]
pub struct Record {
    pub place: Place,
    /// CLOCK_MONOTONIC in microseconds. Anyone may read it at any time.
    used_us: AtomicU64,
    facts_len: AtomicU64,
    facts: [AtomicU64; FACT_BYTES / WORD_BYTES],
}

impl Record {
    /// When the last response of the connection was complete, since boot. It may be that of the connection before.
    pub fn used_at(&self) -> Duration {
        Duration::from_micros(self.used_us.load(Ordering::Relaxed))
    }

    /// Called by the holder, before it releases the place.
    pub fn set_used_at(&self, monotonic: Duration) {
        let us = u64::try_from(monotonic.as_micros()).unwrap_or(u64::MAX);
        self.used_us.store(us, Ordering::Relaxed);
    }

    /// Stores the facts about the connection. Called by the holder. Longer ones are refused.
    pub fn set_facts(&self, facts: &[u8]) -> Result<(), FactsTooLong> {
        if facts.len() > FACT_BYTES {
            return Err(FactsTooLong);
        }
        for (cell, chunk) in self.facts.iter().zip(facts.chunks(WORD_BYTES)) {
            let mut word = [0; WORD_BYTES];
            word[..chunk.len()].copy_from_slice(chunk);
            cell.store(u64::from_ne_bytes(word), Ordering::Relaxed);
        }
        self.facts_len.store(facts.len() as u64, Ordering::Relaxed);
        Ok(())
    }

    /// The facts about the connection. Called by the holder. Another process may have overwritten the table, so the
    /// reader of the facts trusts nothing in them.
    pub fn facts(&self, buffer: &mut [u8; FACT_BYTES]) -> usize {
        let len = self.facts_len.load(Ordering::Relaxed).min(FACT_BYTES as u64) as usize;
        let (words, _) = buffer.as_chunks_mut::<WORD_BYTES>();
        for (word, cell) in words.iter_mut().zip(&self.facts).take(len.div_ceil(WORD_BYTES)) {
            *word = cell.load(Ordering::Relaxed).to_ne_bytes();
        }
        len
    }
}

/// The facts do not fit into a record: the connection cannot be shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactsTooLong;
