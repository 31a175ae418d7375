//! Shared memory, and typed references into it: a sealed memory file, or memory without a file.
//!
//! The references live as long as the process, because nothing ever unmaps the pages. They stay valid, because seals
//! keep every process from changing the size of the file (a shorter file would raise SIGBUS).
#![expect(unsafe_code, reason = "mmap(2), and references into what it returns")]

use std::ffi::CStr;
use std::io;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap, mmap_anonymous};
use nix::unistd::ftruncate;

use crate::shared::connection_table::header::TableHeader;
use crate::shared::connection_table::record::Record;
use crate::shared::samples::SampleArea;
use crate::shared::scoreboard::entry::WorkerEntry;
use crate::shared::scoreboard::header::Header;
use crate::shared::series::layout::{AreaHeader, RowBlock, TextChunk};
use crate::shared::series::values::ValueHistogram;

/// Marks types that may lie in memory that other processes write.
///
/// # Safety
/// Every field, at every level, is an atomic integer or an array of them: any bytes are a valid value, and another
/// process may change them at any time.
pub(super) unsafe trait Shared: Sync + 'static {}

// SAFETY: `Header` is made of atomics only.
unsafe impl Shared for Header {}
// SAFETY: `WorkerEntry` is made of atomics only, all the way down.
unsafe impl Shared for WorkerEntry {}
// SAFETY: `SampleArea` is made of atomics only, all the way down.
unsafe impl Shared for SampleArea {}
// SAFETY: `TableHeader` is made of atomics only.
unsafe impl Shared for TableHeader {}
// SAFETY: `Record` is made of atomics only: its place is one, too.
unsafe impl Shared for Record {}
// SAFETY: `AreaHeader` is made of atomics only.
unsafe impl Shared for AreaHeader {}
// SAFETY: `RowBlock` is made of atomics only, all the way down.
unsafe impl Shared for RowBlock {}
// SAFETY: `TextChunk` is made of atomics only.
unsafe impl Shared for TextChunk {}
// SAFETY: `ValueHistogram` is made of atomics only.
unsafe impl Shared for ValueHistogram {}

/// Whether a page boundary satisfies the alignment, and consecutive values stay aligned.
const fn is_laid_out<T>() -> bool {
    align_of::<T>() == 128 && size_of::<T>().is_multiple_of(128)
}
const _: () = assert!(is_laid_out::<Header>() && is_laid_out::<WorkerEntry>());
const _: () = assert!(is_laid_out::<SampleArea>());
const _: () = assert!(is_laid_out::<TableHeader>() && is_laid_out::<Record>());
const _: () = assert!(is_laid_out::<AreaHeader>() && is_laid_out::<RowBlock>());
const _: () = assert!(is_laid_out::<TextChunk>() && is_laid_out::<ValueHistogram>());

const ACCESS: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

/// A mapping that is zeroed at first. It is never unmapped.
#[derive(Clone, Copy)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the mapping is never unmapped, and all access to it is atomic.
unsafe impl Send for Mapping {}
// SAFETY: likewise.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Creates a memory file, with a size that can never change, and maps it. `name` is what /proc shows.
    pub(super) fn create(name: &CStr, bytes: usize) -> io::Result<(Self, OwnedFd)> {
        let length = NonZeroUsize::new(bytes).ok_or_else(invalid)?;
        let file = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
        ftruncate(&file, i64::try_from(bytes).map_err(|_| invalid())?)?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let start = unsafe { mmap(None, length, ACCESS, MapFlags::MAP_SHARED, &file, 0) }?;
        Ok((Self { start: start.cast(), bytes }, file))
    }

    /// Maps memory without a file, for this process and those that it forks later. Pages that nobody wrote to count
    /// against no limit (MAP_NORESERVE).
    pub(super) fn anonymous(bytes: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(bytes).ok_or_else(invalid)?;
        let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
        // SAFETY: the kernel chooses the address, so no memory in use is replaced.
        let start = unsafe { mmap_anonymous(None, length, ACCESS, flags) }?;
        Ok(Self { start: start.cast(), bytes })
    }

    /// Zeroes `bytes` bytes from `offset` on, both in whole pages, and gives their memory back (MADV_REMOVE of
    /// madvise(2)).
    pub(super) fn clear(&self, offset: usize, bytes: usize) -> io::Result<()> {
        let is_within = offset.checked_add(bytes).is_some_and(|end| end <= self.bytes);
        if !is_within {
            return Err(invalid());
        }
        // SAFETY: `offset` lies within the mapping, which is one allocation of `bytes` bytes.
        let place = unsafe { self.start.add(offset) }.cast();
        // SAFETY: the pages lie within the mapping, and zeroes are a value of every `Shared` type.
        Ok(unsafe { madvise(place, bytes, MmapAdvise::MADV_REMOVE) }?)
    }

    /// The value at `offset`; `None` if it does not fit there or is not aligned.
    pub(super) fn at<T: Shared>(&self, offset: usize) -> Option<&'static T> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.bytes {
            return None;
        }
        // SAFETY: `offset` lies within the mapping, which is one allocation of `bytes` bytes.
        let place = unsafe { self.start.add(offset) }.cast::<T>();
        if !place.is_aligned() {
            return None;
        }
        // SAFETY: `place` is aligned and `T` fits in the mapping behind it (both checked above); the
        // mapping is never unmapped and its file never shrinks, so the reference lives for ever; any
        // bytes are a `T`, and all access is atomic, as `Shared` promises.
        Some(unsafe { place.as_ref() })
    }
}

/// Gives pages of a memory file back to the kernel; they are zeros from then on. Only whole pages within the range are
/// given back.
pub(super) fn release(file: BorrowedFd<'_>, range: Range<usize>) -> io::Result<()> {
    const PAGE: usize = 4096;
    let (start, end) = (range.start.next_multiple_of(PAGE), range.end - range.end % PAGE);
    if start >= end {
        return Ok(());
    }
    let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let offset = i64::try_from(start).map_err(|_| invalid())?;
    let length = i64::try_from(end - start).map_err(|_| invalid())?;
    Ok(fallocate(file, mode, offset, length)?)
}

fn invalid() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidInput)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_where_it_fits_and_is_aligned() {
        let header = size_of::<Header>();
        let mapping = Mapping::anonymous(2 * header).unwrap();
        assert!(mapping.at::<Header>(0).is_some());
        assert!(mapping.at::<Header>(header).is_some());
        assert!(mapping.at::<Header>(64).is_none());
        assert!(mapping.at::<Header>(header + 1).is_none());
        assert!(mapping.at::<Header>(2 * header).is_none());
        assert!(mapping.at::<Header>(usize::MAX).is_none());
        let short = Mapping::anonymous(size_of::<WorkerEntry>() - 128).unwrap();
        assert!(short.at::<WorkerEntry>(0).is_none());
    }

    #[test]
    fn a_mapping_of_no_bytes_is_refused() {
        assert!(Mapping::create(c"arctos-test", 0).is_err());
        assert!(Mapping::anonymous(0).is_err());
    }

    #[test]
    fn fresh_memory_reads_like_a_new_entry() {
        let mapping = Mapping::anonymous(size_of::<WorkerEntry>()).unwrap();
        let entry = mapping.at::<WorkerEntry>(0).unwrap();
        assert_eq!(entry.command(), WorkerEntry::detached().command());
        assert_eq!(entry.request_start(), None);
        assert!(!entry.is_ready());
    }
}
