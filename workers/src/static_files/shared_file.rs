//! An open file that several responses may send at the same time, and what is known of it in the page cache.

use std::cell::Cell;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::process::fork_guard::{self, GuardedFd};
use crate::shared::fd::file::FileId;

/// How long a part of the file is taken for cached once it was found there: the kernel may evict it at any time.
const LIFETIME: Duration = Duration::from_secs(1);

/// An open file.
pub struct SharedFile {
    fd: GuardedFd<OwnedFd>,
    cached: Cell<Option<CachedPart>>,
}

/// A part of a file that was found in the page cache.
#[derive(Clone, Copy)]
struct CachedPart {
    start: u64,
    end: u64,
    /// When the first byte of it was looked at.
    since: Instant,
}

impl CachedPart {
    fn holds(&self, offset: u64, now: Instant) -> bool {
        (self.start..=self.end).contains(&offset)
            && now.saturating_duration_since(self.since) < LIFETIME
    }
}

impl SharedFile {
    /// A file of which nothing is known.
    pub fn new(fd: OwnedFd) -> Rc<Self> {
        Rc::new(Self { fd: GuardedFd::new(fd), cached: Cell::new(None) })
    }

    /// Up to where the file was found in the page cache from `offset` on, within the last second.
    pub fn cached_until(&self, offset: u64, now: Instant) -> Option<u64> {
        let part = self.cached.get().filter(|part| part.holds(offset, now))?;
        (part.end > offset).then_some(part.end)
    }

    /// A part of the file was found in the page cache. Of several parts that do not touch, the last one is remembered.
    pub fn found(&self, offset: u64, length: u64, now: Instant) {
        let end = offset.saturating_add(length);
        let part = match self.cached.get().filter(|part| part.holds(offset, now)) {
            Some(part) => CachedPart { end: part.end.max(end), ..part },
            None => CachedPart { start: offset, end, since: now },
        };
        self.cached.set(Some(part));
    }

    /// Gives the descriptor up, without closing its number, if the application has closed it or has put another file in
    /// its place. Responses that are being sent must not close it, either.
    pub(super) fn give_up_if_lost(self: &Rc<Self>, id: FileId) {
        if FileId::of(&self.fd) != Some(id) {
            fork_guard::forget(self.fd.as_fd());
            std::mem::forget(Rc::clone(self));
        }
    }
}

impl AsFd for SharedFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_was_found_is_known_for_a_second() {
        let file = SharedFile::new(tempfile::tempfile().unwrap().into());
        let start = Instant::now();
        let late = start + LIFETIME - Duration::from_nanos(1);
        assert_eq!(file.cached_until(0, start), None);
        file.found(10, 90, start);
        assert_eq!(file.cached_until(9, start), None);
        assert_eq!(file.cached_until(10, late), Some(100));
        assert_eq!(file.cached_until(99, late), Some(100));
        assert_eq!(file.cached_until(100, late), None);
        assert_eq!(file.cached_until(10, start + LIFETIME), None);
        // What follows is added, but does not make the rest younger.
        file.found(100, 100, late);
        assert_eq!(file.cached_until(10, late), Some(200));
        assert_eq!(file.cached_until(150, start + LIFETIME), None);
        file.found(500, 1, late);
        assert_eq!((file.cached_until(10, late), file.cached_until(500, late)), (None, Some(501)));
        file.found(u64::MAX, 1, late);
        assert_eq!(file.cached_until(u64::MAX, late), None);
    }

    #[test]
    fn a_lost_descriptor_is_not_closed() {
        let other = FileId::of(tempfile::tempfile().unwrap()).unwrap();
        for (id, is_closed) in [(None, true), (Some(other), false)] {
            let (socket, mut peer) = UnixStream::pair().unwrap();
            peer.set_nonblocking(true).unwrap();
            let id = id.or(FileId::of(&socket)).unwrap();
            let file = SharedFile::new(socket.into());
            file.give_up_if_lost(id);
            drop(file);
            assert_eq!(peer.read(&mut [0]).is_ok_and(|count| count == 0), is_closed);
        }
    }
}
