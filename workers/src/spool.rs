//! The spool of a request body: in memory while the worker's budget allows, then in an unlinked temporary file.
//!
//! The crate tempfile creates the file: with O_TMPFILE if the file system supports it, otherwise a file that it
//! unlinks at once. The spool keeps its own position and uses pread(2) and pwrite(2), so rewinding costs nothing,
//! and an append that fails half-way leaves what was there.

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::body_budget::{BodyBudget, Share};
use crate::body_memory::BodyMemory;
use crate::process::fork_guard::FdGuard;

/// Small pieces of a body are collected up to this length before they are written. Each chunk of a chunked body is
/// a piece, and may have a single byte. Longer pieces are written at once.
const GATHER_BYTES: usize = 16 * 1024;

/// How many times what has arrived of a body is reserved for what its client has announced.
const AHEAD_TIMES: usize = 16;

/// A request body that is first written, then rewound and read.
pub struct Spool {
    dir: PathBuf,
    /// The length that the client announced, or 0.
    announced: u64,
    store: Store,
    /// The next byte to read, at most the length.
    position: u64,
}

enum Store {
    Memory {
        memory: Box<dyn BodyMemory>,
        /// As many bytes as there are.
        share: Share,
    },
    File {
        /// Guards the file until the application gets it. A child that the application forks then has the file
        /// like any other one.
        guard: Option<FdGuard>,
        file: File,
        /// The number of bytes in the file.
        written: u64,
        /// The bytes after those, which are not written yet: less than [`GATHER_BYTES`].
        gathered: Vec<u8>,
    },
}

impl Spool {
    /// An empty spool that keeps in `memory`, which is empty, what `budget` allows. If it needs a file, it creates it in
    /// `dir` with mode 0600, and unlinks it at once. The client has `announced` so many bytes, if it has.
    pub fn new(
        memory: Box<dyn BodyMemory>,
        budget: &Arc<BodyBudget>,
        announced: Option<u64>,
        dir: &Path,
    ) -> Self {
        let store = Store::Memory { memory, share: Share::of(budget) };
        Self { dir: dir.to_owned(), announced: announced.unwrap_or(0), store, position: 0 }
    }

    /// Appends bytes. Small pieces may be written by a later call or by [`Spool::rewind`].
    ///
    /// Errors: those of the file. The caller answers `StorageFull` and `QuotaExceeded` with 507. After an error the
    /// spool is as it was before.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.store {
            Store::Memory { memory, share } => {
                let may_fit = self.announced <= share.limit() as u64;
                if may_fit
                    && share.has_room(bytes.len())
                    && reserve(memory.as_mut(), bytes.len(), self.announced, share.limit())
                {
                    share.grow(bytes.len());
                    memory.append(bytes);
                    return Ok(());
                }
                let file = unlinked_file(&self.dir)?;
                let former = memory.bytes();
                file.write_all_at(former, 0)?;
                file.write_all_at(bytes, former.len() as u64)?;
                let written = (former.len() + bytes.len()) as u64;
                let guard = Some(FdGuard::of(file.as_fd()));
                self.store = Store::File { guard, file, written, gathered: Vec::new() };
            }
            Store::File { gathered, .. } if gathered.len() + bytes.len() < GATHER_BYTES => {
                gathered.extend_from_slice(bytes);
            }
            Store::File { file, written, gathered, .. } => {
                file.write_all_at(gathered, *written)?;
                let end = *written + gathered.len() as u64;
                file.write_all_at(bytes, end)?;
                *written = end + bytes.len() as u64;
                gathered.clear();
            }
        }
        Ok(())
    }

    /// The number of bytes appended.
    pub fn len(&self) -> u64 {
        match &self.store {
            Store::Memory { memory, .. } => memory.bytes().len() as u64,
            Store::File { written, gathered, .. } => written + gathered.len() as u64,
        }
    }

    /// Whether nothing was appended.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes what was collected and goes to the first byte, for the application to read. Children that the
    /// application forks from now on have the file, too.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.write_gathered()?;
        if let Store::File { guard, .. } = &mut self.store {
            *guard = None;
        }
        self.position = 0;
        Ok(())
    }

    fn write_gathered(&mut self) -> io::Result<()> {
        if let Store::File { file, written, gathered, .. } = &mut self.store
            && !gathered.is_empty()
        {
            file.write_all_at(gathered, *written)?;
            *written += gathered.len() as u64;
            *gathered = Vec::new();
        }
        Ok(())
    }

    /// Reads up to `out.len()` bytes from the current position, and returns 0 only at the end.
    pub fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.write_gathered()?;
        let count = match &self.store {
            Store::Memory { memory, .. } => {
                let unread = &memory.bytes()[self.position as usize..];
                let count = unread.len().min(out.len());
                out[..count].copy_from_slice(&unread[..count]);
                count
            }
            Store::File { file, written, .. } => {
                let unread = written - self.position;
                let room =
                    usize::try_from(unread).map_or(out.len(), |unread| unread.min(out.len()));
                read_some(file, &mut out[..room], self.position)?
            }
        };
        self.position += count as u64;
        Ok(count)
    }

    /// The unread bytes, if the body lies in memory.
    pub fn in_memory(&self) -> Option<&[u8]> {
        match &self.store {
            Store::Memory { memory, .. } => Some(&memory.bytes()[self.position as usize..]),
            Store::File { .. } => None,
        }
    }

    /// Gives the whole body away, with its share of the budget, if it lies in memory.
    pub fn into_memory(self) -> Result<(Box<dyn BodyMemory>, Share), Self> {
        match self.store {
            Store::Memory { memory, share } => Ok((memory, share)),
            Store::File { .. } => Err(self),
        }
    }

    /// Moves the position forward by `count` bytes, at most to the end.
    pub fn skip(&mut self, count: u64) -> io::Result<()> {
        self.position = self.position.saturating_add(count).min(self.len());
        Ok(())
    }
}

/// Grows to the announced length, so that a body is not copied while it arrives, but to at most
/// [`AHEAD_TIMES`] what is there: a client that announces much and sends nothing takes no address space. Without an
/// announcement it grows by doubling as a vector does. It never grows beyond the limit: with one of 512 KB, a body of
/// 300 KB must not take 600. Returns whether there was memory for that.
fn reserve(memory: &mut dyn BodyMemory, more: usize, announced: u64, limit: usize) -> bool {
    let needed = memory.bytes().len() + more;
    if needed <= memory.capacity() {
        return true;
    }
    let announced = usize::try_from(announced).unwrap_or(usize::MAX);
    let target = if announced >= needed {
        announced.min(needed.saturating_mul(AHEAD_TIMES))
    } else {
        needed.max(memory.capacity() * 2)
    };
    memory.reserve(target.min(limit))
}

/// Creates a temporary file that only its owner can open. tempfile leaves the mode of an O_TMPFILE to the umask,
/// and other users could open the file through /proc/PID/fd.
fn unlinked_file(dir: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(dir)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Calls pread(2) until it returns bytes. The file is as long as what was written, so an early end means that
/// something truncated it.
fn read_some(file: &File, out: &mut [u8], position: u64) -> io::Result<usize> {
    if out.is_empty() {
        return Ok(0);
    }
    loop {
        match file.read_at(out, position) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use proptest::prelude::*;

    use super::*;

    fn spool(memory_bytes: usize) -> Spool {
        Spool::new(
            Box::new(Vec::new()),
            &BodyBudget::new(memory_bytes, usize::MAX),
            None,
            &std::env::temp_dir(),
        )
    }

    fn rest(spool: &mut Spool) -> Vec<u8> {
        let mut all = Vec::new();
        let mut piece = [0; 7];
        loop {
            match spool.read(&mut piece).unwrap() {
                0 => return all,
                count => all.extend_from_slice(&piece[..count]),
            }
        }
    }

    fn file(spool: &Spool) -> Option<&File> {
        match &spool.store {
            Store::Memory { .. } => None,
            Store::File { file, .. } => Some(file),
        }
    }

    #[test]
    fn an_empty_spool_has_nothing_to_read() {
        let mut spool = spool(10);
        assert!(spool.is_empty());
        assert_eq!(spool.in_memory(), Some(&[][..]));
        assert_eq!(rest(&mut spool), b"");
    }

    #[test]
    fn a_body_at_the_limit_stays_in_memory() {
        let mut spool = spool(10);
        spool.append(b"01234").unwrap();
        spool.append(b"56789").unwrap();
        assert_eq!(spool.in_memory(), Some(&b"0123456789"[..]));
        assert_eq!(spool.len(), 10);
    }

    #[test]
    fn a_body_above_the_limit_moves_to_a_file_and_reads_the_same() {
        let mut spool = spool(10);
        spool.append(b"01234").unwrap();
        spool.append(b"567890").unwrap();
        spool.append(b"abc").unwrap();
        assert_eq!(spool.in_memory(), None);
        assert_eq!(spool.len(), 14);
        assert_eq!(rest(&mut spool), b"01234567890abc");
        spool.rewind().unwrap();
        assert_eq!(rest(&mut spool), b"01234567890abc");
    }

    #[test]
    fn small_pieces_are_gathered_before_they_are_written() {
        let mut spool = spool(0);
        spool.append(b"first").unwrap(); // creates the file
        let in_file = |spool: &Spool| file(spool).unwrap().metadata().unwrap().len();
        for _ in 1..GATHER_BYTES {
            spool.append(b"x").unwrap();
            assert_eq!(in_file(&spool), 5);
        }
        assert_eq!(spool.len(), 5 + GATHER_BYTES as u64 - 1);
        spool.append(b"x").unwrap();
        assert_eq!(in_file(&spool), 5 + GATHER_BYTES as u64);
        spool.append(b"rest").unwrap();
        spool.append(&[b'y'; GATHER_BYTES]).unwrap();
        spool.append(b"end").unwrap();
        spool.rewind().unwrap();
        let all = rest(&mut spool);
        let (x, y) = ([b'x'; GATHER_BYTES], [b'y'; GATHER_BYTES]);
        let expected: [&[u8]; 5] = [b"first", &x, b"rest", &y, b"end"];
        assert_eq!(all, expected.concat());
    }

    #[test]
    fn the_file_has_no_name_and_only_its_owner_can_open_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = Spool::new(Box::new(Vec::new()), &BodyBudget::new(0, 0), None, dir.path());
        spool.append(b"secret").unwrap();
        let metadata = file(&spool).unwrap().metadata().unwrap();
        assert_eq!(metadata.nlink(), 0);
        assert_eq!(metadata.mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn memory_is_never_reserved_beyond_the_limit() {
        let mut spool = spool(1000);
        for _ in 0..10 {
            spool.append(&[0; 99]).unwrap();
            let Store::Memory { memory, .. } = &spool.store else { panic!("below the limit") };
            assert!(memory.capacity() <= 1000);
        }
    }

    #[test]
    fn many_small_pieces_are_not_copied_each_time() {
        let mut memory = Vec::new();
        let mut growths = 0;
        for _ in 0..1000 {
            let before = memory.capacity();
            assert!(reserve(&mut memory, 1, 0, 512 * 1024));
            memory.push(0);
            growths += u32::from(memory.capacity() != before);
        }
        assert!(growths <= 12, "{growths} growths");
    }

    #[test]
    fn an_announced_body_is_reserved_once_it_begins_to_arrive() {
        let capacity = |announced, arrived: usize| {
            let budget = BodyBudget::new(16_000, usize::MAX);
            let mut spool =
                Spool::new(Box::new(Vec::new()), &budget, Some(announced), &std::env::temp_dir());
            spool.append(&vec![0; arrived]).unwrap();
            assert_eq!(budget.used_bytes(), arrived);
            let Store::Memory { memory, .. } = &spool.store else { panic!("below the limit") };
            memory.capacity()
        };
        assert_eq!(capacity(10_000, 1000), 10_000);
        assert_eq!(capacity(10_000, 10), 160);
        assert_eq!(capacity(16_000, 1000), 16_000);
        assert_eq!(capacity(100, 1000), 1000);
    }

    #[test]
    fn a_body_that_is_announced_to_be_too_long_goes_to_the_file_at_once() {
        let budget = BodyBudget::new(10, usize::MAX);
        let mut spool = Spool::new(Box::new(Vec::new()), &budget, Some(11), &std::env::temp_dir());
        spool.append(b"01234").unwrap();
        assert!(spool.in_memory().is_none());
        assert_eq!(budget.used_bytes(), 0);
        assert_eq!(rest(&mut spool), b"01234");
    }

    #[test]
    fn bodies_take_memory_only_while_all_together_are_within_the_total() {
        let budget = BodyBudget::new(10, 15);
        let new = || Spool::new(Box::new(Vec::new()), &budget, None, &std::env::temp_dir());
        let (mut first, mut second) = (new(), new());
        first.append(&[1; 10]).unwrap();
        second.append(&[2; 5]).unwrap();
        assert_eq!(budget.used_bytes(), 15);
        second.append(&[2; 1]).unwrap();
        assert!(first.in_memory().is_some() && second.in_memory().is_none());
        assert_eq!(budget.used_bytes(), 10);
        assert_eq!(rest(&mut second), [2; 6]);
        drop(first);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn a_failed_move_to_a_file_takes_no_more_than_there_is() {
        let budget = BodyBudget::new(4, 4);
        let mut spool =
            Spool::new(Box::new(Vec::new()), &budget, None, Path::new("/nonexistent/dir"));
        spool.append(b"abcd").unwrap();
        spool.append(b"e").unwrap_err();
        assert_eq!(budget.used_bytes(), 4);
    }

    #[test]
    fn a_missing_directory_fails_once_it_is_needed_and_loses_nothing() {
        let mut spool = Spool::new(
            Box::new(Vec::new()),
            &BodyBudget::new(4, 4),
            None,
            Path::new("/nonexistent/dir"),
        );
        spool.append(b"abcd").unwrap();
        assert_eq!(spool.append(b"e").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(spool.in_memory(), Some(&b"abcd"[..]));
    }

    #[test]
    fn skipping_goes_at_most_to_the_end() {
        for memory_bytes in [0, 100] {
            let mut spool = spool(memory_bytes);
            spool.append(b"0123456789").unwrap();
            spool.skip(4).unwrap();
            let mut piece = [0; 2];
            spool.read(&mut piece).unwrap();
            assert_eq!(&piece, b"45");
            spool.skip(u64::MAX).unwrap();
            assert_eq!(rest(&mut spool), b"");
            spool.rewind().unwrap();
            assert_eq!(rest(&mut spool), b"0123456789");
        }
    }

    #[test]
    fn a_truncated_file_is_an_error_and_no_end() {
        let mut spool = spool(0);
        spool.append(b"0123456789").unwrap();
        file(&spool).unwrap().set_len(5).unwrap();
        let mut piece = [0; 10];
        assert_eq!(spool.read(&mut piece).unwrap(), 5);
        assert_eq!(spool.read(&mut piece).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn what_was_appended_is_read(
            memory_bytes in 0..100usize,
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        ) {
            let mut spool = spool(memory_bytes);
            for piece in &pieces {
                spool.append(piece).unwrap();
            }
            let all = pieces.concat();
            prop_assert_eq!(spool.len(), all.len() as u64);
            prop_assert_eq!(spool.in_memory().is_some(), all.len() <= memory_bytes);
            prop_assert_eq!(rest(&mut spool), all);
        }
    }
}
