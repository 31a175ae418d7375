//! The memory of a request body. The application's side makes it, so that the application gets what has arrived without
//! a copy.

use std::any::Any;

/// The bytes of one body, in the order of their arrival.
pub trait BodyMemory: Any + Send + Sync {
    /// The bytes that were appended.
    fn bytes(&self) -> &[u8];

    /// How many bytes there is room for, with those that were appended.
    fn capacity(&self) -> usize;

    /// Makes room for `capacity` bytes, with those that were appended. Returns whether there was memory for that; if not,
    /// nothing has changed.
    fn reserve(&mut self, capacity: usize) -> bool;

    /// Appends bytes. Those for which there is no room are left out.
    fn append(&mut self, bytes: &[u8]);
}

impl BodyMemory for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }

    fn capacity(&self) -> usize {
        self.capacity()
    }

    fn reserve(&mut self, capacity: usize) -> bool {
        self.try_reserve_exact(capacity.saturating_sub(self.len())).is_ok()
    }

    fn append(&mut self, bytes: &[u8]) {
        let room = self.capacity() - self.len();
        self.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}
