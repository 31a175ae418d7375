//! Method and path of the running request, which another process can read while the worker writes them.
//!
//! A seqlock: the sequence is odd while the line changes, and a reader that finds it odd or changed reads again. The
//! writer never waits. A reader gives up after a limited number of attempts, because the writer may have been stopped
//! or killed half-way.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// The maximum length of a line; longer ones are cut.
const LINE_BYTES: usize = 200;
const WORD_BYTES: usize = size_of::<u64>();
/// A write takes about 30 ns. If this many attempts fail, the writer was stopped half-way.
const MAX_ATTEMPTS: usize = 64;

#[repr(C, align(128))]
pub(super) struct RequestLineCell {
    sequence: AtomicU64,
    len: AtomicU64,
    words: [AtomicU64; LINE_BYTES / WORD_BYTES],
}

impl RequestLineCell {
    pub(super) const fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            len: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; LINE_BYTES / WORD_BYTES],
        }
    }

    /// Writes `method`, a space and `path`. There is one writer at a time.
    pub(super) fn write(&self, method: &[u8], path: &[u8]) {
        let mut line = [0; LINE_BYTES];
        let mut len = 0;
        for part in [method, b" ", path] {
            let room = &mut line[len..];
            let count = part.len().min(room.len());
            room[..count].copy_from_slice(&part[..count]);
            len += count;
        }
        self.store(&line, len);
    }

    pub(super) fn clear(&self) {
        self.store(&[0; LINE_BYTES], 0);
    }

    fn store(&self, line: &[u8; LINE_BYTES], len: usize) {
        // Also odd if an earlier writer was killed between the two stores.
        let odd = self.sequence.load(Ordering::Relaxed) | 1;
        self.sequence.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        self.len.store(len as u64, Ordering::Relaxed);
        let (words, _) = line.as_chunks::<WORD_BYTES>();
        for (cell, word) in self.words.iter().zip(words).take(len.div_ceil(WORD_BYTES)) {
            cell.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
        }
        self.sequence.store(odd.wrapping_add(1), Ordering::Release);
    }

    /// The line; `None` if it changes all the time.
    pub(super) fn read(&self) -> Option<String> {
        for _ in 0..MAX_ATTEMPTS {
            let before = self.sequence.load(Ordering::Acquire);
            let mut line = [0; LINE_BYTES];
            // A worker that overwrites its entry can leave any length.
            let len = self.len.load(Ordering::Relaxed).min(LINE_BYTES as u64) as usize;
            let (chunks, _) = line.as_chunks_mut::<WORD_BYTES>();
            for (chunk, cell) in chunks.iter_mut().zip(&self.words) {
                *chunk = cell.load(Ordering::Relaxed).to_ne_bytes();
            }
            fence(Ordering::Acquire);
            let after = self.sequence.load(Ordering::Relaxed);
            if before == after && before.is_multiple_of(2) {
                return Some(String::from_utf8_lossy(&line[..len]).into_owned());
            }
            std::hint::spin_loop();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let line = RequestLineCell::new();
        assert_eq!(line.read().unwrap(), "");
        line.write(b"DELETE", b"/a/longer/path");
        line.write(b"GET", b"/");
        assert_eq!(line.read().unwrap(), "GET /");
        line.clear();
        assert_eq!(line.read().unwrap(), "");
    }

    #[test]
    fn a_long_line_is_cut() {
        let line = RequestLineCell::new();
        line.write(b"GET", &[b'a'; 4096]);
        assert_eq!(line.read().unwrap(), format!("GET {}", "a".repeat(196)));
        line.write(&[b'M'; 300], b"/");
        assert_eq!(line.read().unwrap(), "M".repeat(200));
    }

    #[test]
    fn a_writer_killed_half_way_leaves_nothing_to_read_until_the_next_write() {
        let line = RequestLineCell::new();
        line.write(b"GET", b"/old");
        line.sequence.store(line.sequence.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        assert_eq!(line.read(), None);
        line.write(b"GET", b"/new");
        assert_eq!(line.read().unwrap(), "GET /new");
    }

    #[test]
    fn an_impossible_length_is_cut_to_the_line() {
        let line = RequestLineCell::new();
        line.len.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(line.read().unwrap().len(), LINE_BYTES);
    }

    #[test]
    fn a_reader_never_sees_half_a_line() {
        let line = RequestLineCell::new();
        let done = AtomicBool::new(false);
        let (short, long) = ("GET /short".to_owned(), format!("POST /{}", "x".repeat(190)));
        let complete = thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut complete = 0;
                while !done.load(Ordering::Relaxed) {
                    if let Some(seen) = line.read() {
                        assert!(seen.is_empty() || seen == short || seen == long, "{seen}");
                        complete += 1;
                    }
                }
                complete
            });
            for _ in 0..100_000 {
                line.write(b"GET", b"/short");
                line.write(b"POST", &long.as_bytes()[5..]);
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert_eq!(line.read(), Some(long), "{complete} lines were read while they changed");
    }
}
