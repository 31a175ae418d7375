//! A request body: in memory up to a limit, then in an unlinked temporary file.

use std::io;
use std::path::Path;

/// A request body, first written, then rewound and read.
pub struct Spool {
    _private: (),
}

impl Spool {
    /// An empty spool that keeps up to `memory_bytes` in memory; the file, if one is needed, is made
    /// in `dir` (mode 0600, unlinked at once).
    pub fn new(_memory_bytes: usize, _dir: &Path) -> Self {
        todo!()
    }
    /// Appends. `ErrorKind::StorageFull` and `QuotaExceeded` are the caller's 507.
    pub fn append(&mut self, _bytes: &[u8]) -> io::Result<()> {
        todo!()
    }
    /// Bytes appended.
    pub fn len(&self) -> u64 {
        todo!()
    }
    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        todo!()
    }
    /// Goes to the first byte.
    pub fn rewind(&mut self) -> io::Result<()> {
        todo!()
    }
    /// Reads up to `out.len()` bytes from the current position; 0 only at the end.
    pub fn read(&mut self, _out: &mut [u8]) -> io::Result<usize> {
        todo!()
    }
    /// The unread bytes, where the body lies in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        todo!()
    }
    /// Moves the position `count` bytes on; at most to the end.
    pub fn skip(&mut self, _count: u64) -> io::Result<()> {
        todo!()
    }
}
