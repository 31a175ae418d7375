//! One file on its way to a client, and whether the page cache holds what is due next.
//!
//! A worker has one thread, and sendfile(2) waits for the disk if a page is not cached: every other client would wait,
//! too. So the loop looks first. If something is missing, it has the kernel read ahead (posix_fadvise(2)) and looks
//! again after [`POLL_INTERVAL`], while it serves others.
//!
//! | page cache | next |
//! |---|---|
//! | holds the next window | send |
//! | does not | read ahead, wait for [`POLL_INTERVAL`], look again |
//! | does not for [`PATIENCE`] | send, which waits for the disk and shows its error |
//! | cannot be looked at (the file system has no RWF_NOWAIT) | send |
//!
//! With a disk that reads 2 MB/s (blkio.throttle.read_bps_device), a client that requests hello while another one gets
//! 8 MB of a cold file from the same worker waits for 0.1 ms (median) and 6.8 ms (maximum), as on an idle worker. Without
//! looking it waits for 398 ms and 1624 ms.
//!
//! What one response has found in the page cache, others that send the same open file take for granted for a second.
//!
//! Each client that waits requests the same read-ahead. The kernel reads only pages that are neither there nor on their
//! way, so the disk is read once. A deadline does not end the wait, because the peer has no part in it.
//!
//! Looking reads one byte in each [`STRIDE`], because the kernel reads ahead in blocks of at least that length and
//! forgets pages that it read together at about the same time. A page in between may be missing, and then sendfile(2)
//! waits for that one block.

use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::http::Multipart;
use crate::shared::fd::file::{self, Cached};
use crate::static_files::SharedFile;

/// How long a client waits before the loop looks again whether the disk has delivered.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// The distance of the bytes that are looked at: the usual length of a read-ahead.
const STRIDE: u64 = 128 << 10;
/// How much is read ahead beyond what is due.
const AHEAD_BYTES: u64 = 1 << 20;
/// When a read-ahead that has not arrived is requested again: its pages may have been evicted before they were sent.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// After this time without data, the file is read as if it were there. An error of the disk shows only then.
const PATIENCE: Duration = Duration::from_secs(10);

/// A file that is being sent.
pub struct FileTransfer {
    file: Rc<SharedFile>,
    /// The parts that follow, if there are several.
    pub(super) further: Option<Box<Multipart>>,
    /// Up to where the file was found in the page cache.
    cached_until: u64,
    wait: Option<DiskWait>,
}

struct DiskWait {
    since: Instant,
    asked: Instant,
}

/// Whether a part of a file can be sent without waiting for a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// This many bytes can: never 0, but fewer than requested if the rest was not looked at.
    Here {
        /// The number of bytes.
        length: u64,
    },
    /// The kernel reads it now.
    Awaited,
}

impl FileTransfer {
    /// A file of which nothing is sent yet.
    pub fn new(file: Rc<SharedFile>, further: Option<Box<Multipart>>) -> Self {
        Self { file, further, cached_until: 0, wait: None }
    }

    /// The file.
    pub(super) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The next part may lie before the one that was sent.
    pub(super) fn start_part(&mut self) {
        self.cached_until = 0;
    }

    /// Looks for the next `length` bytes in the page cache. If some are missing, the kernel starts to read them.
    pub(super) fn look(&mut self, offset: u64, length: u64, now: Instant) -> Presence {
        if offset < self.cached_until {
            return Presence::Here { length: length.min(self.cached_until - offset) };
        }
        if let Some(until) = self.file.cached_until(offset, now) {
            self.cached_until = until.min(offset + length);
            self.wait = None;
            return Presence::Here { length: self.cached_until - offset };
        }
        if is_cached(self.file(), offset, length) {
            self.file.found(offset, length, now);
            self.cached_until = offset + length;
            self.wait = None;
            return Presence::Here { length };
        }
        let wait = match &mut self.wait {
            Some(wait) if now.saturating_duration_since(wait.since) >= PATIENCE => {
                self.cached_until = offset + length;
                self.wait = None;
                return Presence::Here { length };
            }
            Some(wait) if now.saturating_duration_since(wait.asked) < ASK_AGAIN => {
                return Presence::Awaited;
            }
            Some(wait) => wait,
            None => self.wait.insert(DiskWait { since: now, asked: now }),
        };
        wait.asked = now;
        let start = offset - offset % STRIDE;
        file::read_ahead(self.file(), start, offset - start + length + AHEAD_BYTES);
        Presence::Awaited
    }
}

/// Whether a part of a file is in the page cache, or cannot be looked at.
fn is_cached(file: BorrowedFd<'_>, offset: u64, length: u64) -> bool {
    let last = offset + length.saturating_sub(1);
    let mut at = offset;
    loop {
        match file::read_cached(file, &mut [0], at) {
            Cached::Nothing => return false,
            // Behind the end: sendfile(2) says so.
            Cached::Bytes(0) | Cached::Unknown => return true,
            Cached::Bytes(_) => {}
        }
        if at == last {
            return true;
        }
        at = at.saturating_add(STRIDE).min(last);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_behind_what_was_looked_at_is_sent() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(8192).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[b'x'; 8192], 0).unwrap();
        let mut transfer = FileTransfer::new(SharedFile::new(file.into()), None);
        let now = Instant::now();
        assert_eq!(transfer.look(0, 4096, now), Presence::Here { length: 4096 });
        assert_eq!(transfer.look(1000, 4096, now), Presence::Here { length: 3096 });
        assert_eq!(transfer.look(4096, 4096, now), Presence::Here { length: 4096 });
        assert_eq!(transfer.look(8000, 100, now), Presence::Here { length: 100 });
    }
}
