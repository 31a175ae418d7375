//! Reads memory of this process at addresses that may be wrong, and is never killed for it.
//!
//! write(2) takes the bytes from an address into a pipe, and read(2) takes them out. If there is no memory at the
//! address, write(2) fails with EFAULT, where a load would raise SIGSEGV. Both are async-signal-safe, and every sandbox
//! permits them. process_vm_readv(2) on the own process does the same, but took 3.6 us where a pipe takes 2.1, and some
//! sandboxes refuse it.
//!
//! The pipe is open for one sample only, because the application may close any descriptor, and its number could then
//! belong to another file. If another thread forks meanwhile, the child keeps both descriptors until it ends or executes a
//! program. Nothing waits for them, because it has both ends. Guarding them ([`fork_guard`](crate::process::fork_guard))
//! prevents only some of these cases: fork(2) copies descriptors before memory, where the guard may be gone by then.
#![expect(unsafe_code, reason = "write(2) from an address that may be wrong")]

use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::libc;
use nix::unistd::{pipe2, read};

use super::memory::{AT_ONCE_BYTES, Memory};

/// The maximum number of places that are read at once.
const MAX_PLACES: usize = 64;

/// This process's memory.
pub struct OwnMemory {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl OwnMemory {
    /// Opens the pipe.
    ///
    /// Errors: EMFILE, ENFILE.
    pub fn open() -> nix::Result<Self> {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self { reader, writer })
    }

    /// Takes `into.len()` bytes out of the pipe, of which `written` have come.
    fn take(&self, written: isize, into: &mut [u8]) -> bool {
        let expected = into.len();
        if written == isize::try_from(expected).unwrap_or(-1) {
            return read(&self.reader, into) == Ok(expected);
        }
        if written > 0 {
            // A part of the memory is missing. What has come must not be taken for something else later.
            let _ = read(&self.reader, into);
        }
        false
    }
}

impl Memory for OwnMemory {
    fn read(&self, address: usize, into: &mut [u8]) -> bool {
        if into.is_empty() || into.len() > AT_ONCE_BYTES {
            return into.is_empty();
        }
        let from = std::ptr::with_exposed_provenance::<libc::c_void>(address);
        // SAFETY: the kernel reads from the address, and returns EFAULT if it cannot. Nothing of this process is written.
        let written = unsafe { libc::write(self.writer.as_raw_fd(), from, into.len()) };
        self.take(written, into)
    }

    fn gather(&self, addresses: &[usize], size: usize, into: &mut [u8]) -> bool {
        if addresses.len() > MAX_PLACES
            || into.len() > AT_ONCE_BYTES
            || addresses.len() * size != into.len()
        {
            return false;
        }
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let mut places = [empty; MAX_PLACES];
        for (place, address) in places.iter_mut().zip(addresses) {
            let iov_base = std::ptr::with_exposed_provenance_mut::<libc::c_void>(*address);
            *place = libc::iovec { iov_base, iov_len: size };
        }
        let count = addresses.len() as libc::c_int;
        // SAFETY: as in `read`; the array has at least `count` places.
        let written = unsafe { libc::writev(self.writer.as_raw_fd(), places.as_ptr(), count) };
        self.take(written, into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_where_there_is_some_and_refused_elsewhere() {
        let memory = OwnMemory::open().unwrap();
        let source: Vec<u8> = (0..200).collect();
        let address = source.as_ptr().expose_provenance();
        let mut into = [0; 200];
        assert!(memory.read(address, &mut into));
        assert_eq!(into[..], source);
        for bad in [0, 8, usize::MAX - 50, 1 << 63] {
            assert!(!memory.read(bad, &mut into), "{bad:x}");
        }
        let mut small = [0; 3];
        assert!(memory.read(address + 5, &mut small), "nothing of the failed reads is left");
        assert_eq!(small, [5, 6, 7]);
        assert!(!memory.read(address, &mut [0; AT_ONCE_BYTES + 1]));
    }

    #[test]
    fn a_read_over_the_end_of_a_mapping_is_refused_and_leaves_nothing_behind() {
        let page = 4096;
        let length = std::num::NonZeroUsize::new(2 * page).unwrap();
        let (all, flags) =
            (nix::sys::mman::ProtFlags::all(), nix::sys::mman::MapFlags::MAP_PRIVATE);
        // SAFETY: the kernel chooses the address.
        let start = unsafe { nix::sys::mman::mmap_anonymous(None, length, all, flags) }.unwrap();
        let start = start.as_ptr().expose_provenance();
        let second = std::ptr::NonNull::new(std::ptr::with_exposed_provenance_mut(start + page));
        // SAFETY: nothing uses the page.
        unsafe { nix::sys::mman::munmap(second.unwrap(), page) }.unwrap();
        let memory = OwnMemory::open().unwrap();
        let mut into = [0; 64];
        assert!(memory.read(start + page - 64, &mut into));
        assert!(!memory.read(start + page - 32, &mut into));
        let source = [9; 64];
        let address = source.as_ptr().expose_provenance();
        assert!(memory.read(address, &mut into));
        assert_eq!(into, source);
    }

    #[test]
    fn several_places_are_read_at_once() {
        let memory = OwnMemory::open().unwrap();
        let source: Vec<u8> = (0..100).collect();
        let address = source.as_ptr().expose_provenance();
        let mut into = [0; 6];
        assert!(memory.gather(&[address + 90, address, address + 7], 2, &mut into));
        assert_eq!(into, [90, 91, 0, 1, 7, 8]);
        assert!(!memory.gather(&[address, 8, address], 2, &mut into));
        assert!(memory.gather(&[address; 3], 2, &mut into));
        assert_eq!(into, [0, 1, 0, 1, 0, 1]);
        assert!(!memory.gather(&[address; MAX_PLACES + 1], 1, &mut [0; MAX_PLACES + 1]));
    }
}
