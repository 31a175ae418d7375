//! Memory that is read at addresses which may be wrong: this process's, or that of a test.

/// The maximum number of bytes that are read at once: what a pipe takes even if its user has used up the memory for
/// pipes.
pub(super) const AT_ONCE_BYTES: usize = 4096;

/// Memory that is read at addresses which may be wrong.
pub trait Memory {
    /// Copies what is at an address; false if it is not all there.
    fn read(&self, address: usize, into: &mut [u8]) -> bool;

    /// Copies `size` bytes from each address; false if one of them is not there.
    fn gather(&self, addresses: &[usize], size: usize, into: &mut [u8]) -> bool {
        let mut pairs = addresses.iter().zip(into.chunks_exact_mut(size));
        pairs.all(|(address, chunk)| self.read(*address, chunk))
    }
}
