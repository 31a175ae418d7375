//! System calls on regular files whose bytes are sent to a client, and on the directories that contain them.

use std::ffi::{OsStr, c_ulong};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, PosixFadviseAdvice, ResolveFlag, open, openat2, posix_fadvise};
use nix::libc;
use nix::sys::stat::{Mode, SFlag, fstat};

use super::retry;

const BENEATH: ResolveFlag = ResolveFlag::RESOLVE_BENEATH.union(ResolveFlag::RESOLVE_NO_MAGICLINKS);

/// Which file a descriptor stands for. All eventfds have the same identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileId {
    device: libc::dev_t,
    inode: libc::ino_t,
}

impl FileId {
    /// The file that this number stands for now; `None` if it is closed.
    pub fn of(fd: impl AsFd) -> Option<Self> {
        let found = fstat(fd).ok()?;
        Some(Self { device: found.st_dev, inode: found.st_ino })
    }
}

/// What a read of a file finds in the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// This many bytes, which may be fewer than requested; 0 is the end of the file.
    Bytes(usize),
    /// Nothing: the disk has to be read first.
    Nothing,
    /// The file system cannot say.
    Unknown,
}

/// Opens a directory for [`open_beneath`].
///
/// Errors: those of open(2) and openat2(2): EACCES if this process may not search the directory; ENOSYS or EPERM if the
///         kernel or a filter of the container has no openat2(2).
pub fn open_dir(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = retry(|| open(path, flags, Mode::empty()))?;
    let how = OpenHow::new().flags(flags).resolve(BENEATH);
    retry(|| openat2(&dir, c".", how))?;
    Ok(dir)
}

/// Opens a file below a directory for reading: no symbolic link, no `..` and no absolute path leads out of the directory
/// (openat2(2), Linux 5.6). Opening never waits for the other end of a FIFO.
///
/// Errors: those of openat2(2); EXDEV if the file lies outside.
pub fn open_beneath(dir: BorrowedFd<'_>, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let how = OpenHow::new().flags(flags).resolve(BENEATH);
    retry(|| openat2(dir, name, how))
}

/// Size and times of a regular file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileStatus {
    /// Which file it is.
    pub id: FileId,
    /// In bytes.
    pub size: u64,
    /// When the file was last changed, in seconds since 1970; 0 for a time before.
    pub modified: u64,
    /// The nanoseconds of that second.
    pub modified_ns: u32,
    /// When its content, permissions, owner or number of names were last changed, in the same way: seconds and
    /// nanoseconds.
    pub changed: (libc::time_t, libc::c_long),
}

/// Calls fstat(2); `None` for anything but a regular file.
pub fn regular_status(file: BorrowedFd<'_>) -> Result<Option<FileStatus>, Errno> {
    let status = fstat(file)?;
    let kind = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT;
    Ok((kind == SFlag::S_IFREG).then(|| FileStatus {
        id: FileId { device: status.st_dev, inode: status.st_ino },
        size: u64::try_from(status.st_size).unwrap_or(0),
        modified: u64::try_from(status.st_mtime).unwrap_or(0),
        modified_ns: u32::try_from(status.st_mtime_nsec).unwrap_or(0),
        changed: (status.st_ctime, status.st_ctime_nsec),
    }))
}

/// Reads what the page cache has of a file from `offset`, and never waits for a disk: preadv2(2) with RWF_NOWAIT. `buffer`
/// must not be empty.
pub fn read_cached(file: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Cached {
    let slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let (low, high) = (offset as c_ulong, (u128::from(offset) >> c_ulong::BITS) as c_ulong);
    let read = retry(|| {
        // SAFETY: `slice` describes `buffer`, which is borrowed for writing and lives through the call, and the
        // kernel writes at most its length. glibc has had a wrapper only since 2.26.
        let read = unsafe {
            libc::syscall(
                libc::SYS_preadv2,
                file.as_raw_fd(),
                &raw const slice,
                1 as c_ulong,
                low,
                high,
                libc::RWF_NOWAIT,
            )
        };
        Errno::result(read)
    });
    match read {
        Ok(count) => usize::try_from(count).map_or(Cached::Unknown, Cached::Bytes),
        Err(Errno::EAGAIN) => Cached::Nothing,
        // EOPNOTSUPP: the file system has no such reads. Any other error shows in the read that waits.
        Err(_) => Cached::Unknown,
    }
}

/// Has the kernel read a part of a file into the page cache, and does not wait for it.
pub fn read_ahead(file: BorrowedFd<'_>, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    // Ignored: the read that waits shows any error.
    let _ = posix_fadvise(file.as_fd(), offset, length, PosixFadviseAdvice::POSIX_FADV_WILLNEED);
}
