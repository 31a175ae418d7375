//! Text about the running request (method and path, or its identifier), which another process can read while the worker
//! writes it.
//!
//! A seqlock, whose reader tries again if the text changes. It gives up after a limited number of attempts, because the
//! writer may have been stopped or killed half-way.

use std::sync::atomic::{AtomicU64, Ordering};

use super::seqlock;

const WORD_BYTES: usize = size_of::<u64>();
/// A write takes about 30 ns. If this many attempts fail, the writer was stopped half-way.
const MAX_ATTEMPTS: usize = 64;

/// Method and path; longer ones are cut to 200 bytes.
pub(super) type RequestLineCell = TextCell<25>;
/// The identifier of a request, which is never longer than 128 bytes, and if it belongs to a trace, a space and 32 bytes.
pub(super) type RequestIdCell = TextCell<21>;

/// A text of at most so many words of eight bytes.
#[repr(C, align(128))]
pub(super) struct TextCell<const WORDS: usize> {
    sequence: AtomicU64,
    len: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> TextCell<WORDS> {
    pub(super) const fn new() -> Self {
        Self {
            sequence: AtomicU64::new(0),
            len: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
        }
    }

    /// The maximum length; longer texts are cut.
    pub(super) const BYTES: usize = WORDS * WORD_BYTES;

    /// Writes the parts, one after the other. There is one writer at a time.
    #[inline]
    pub(super) fn write(&self, parts: &[&[u8]]) {
        let mut line = [[0; WORD_BYTES]; WORDS];
        let bytes = line.as_flattened_mut();
        let mut len = 0;
        for part in parts {
            let room = &mut bytes[len..];
            let count = part.len().min(room.len());
            room[..count].copy_from_slice(&part[..count]);
            len += count;
        }
        self.store(&line, len);
    }

    /// Writes one text, word by word, without the copy that several parts need.
    #[inline]
    pub(super) fn write_one(&self, text: &[u8]) {
        let text = &text[..text.len().min(WORDS * WORD_BYTES)];
        let (words, rest) = text.as_chunks::<WORD_BYTES>();
        self.change(|cell| {
            cell.len.store(text.len() as u64, Ordering::Relaxed);
            for (cell, word) in cell.words.iter().zip(words) {
                cell.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            }
            if !rest.is_empty() {
                let mut word = [0; WORD_BYTES];
                word[..rest.len()].copy_from_slice(rest);
                cell.words[words.len()].store(u64::from_ne_bytes(word), Ordering::Relaxed);
            }
        });
    }

    pub(super) fn clear(&self) {
        self.store(&[[0; WORD_BYTES]; WORDS], 0);
    }

    #[inline]
    fn store(&self, line: &[[u8; WORD_BYTES]; WORDS], len: usize) {
        self.change(|cell| {
            cell.len.store(len as u64, Ordering::Relaxed);
            for (cell, word) in cell.words.iter().zip(line).take(len.div_ceil(WORD_BYTES)) {
                cell.store(u64::from_ne_bytes(*word), Ordering::Relaxed);
            }
        });
    }

    #[inline]
    fn change(&self, change: impl FnOnce(&Self)) {
        seqlock::change(&self.sequence, || change(self));
    }

    /// The text; `None` if it changes all the time.
    pub(super) fn read(&self) -> Option<String> {
        self.read_bytes().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes of the text; `None` if it changes all the time.
    pub(super) fn read_bytes(&self) -> Option<Vec<u8>> {
        for _ in 0..MAX_ATTEMPTS {
            let bytes = seqlock::read(&self.sequence, || {
                let mut line = [[0; WORD_BYTES]; WORDS];
                // A worker that overwrites its entry can leave any length.
                let len = self.len.load(Ordering::Relaxed).min((WORDS * WORD_BYTES) as u64);
                for (chunk, cell) in line.iter_mut().zip(&self.words) {
                    *chunk = cell.load(Ordering::Relaxed).to_ne_bytes();
                }
                (line, len as usize)
            });
            if let Some((line, len)) = bytes {
                return Some(line.as_flattened()[..len].to_vec());
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
        line.write(&[b"DELETE", b" ", b"/a/longer/path"]);
        line.write(&[b"GET", b" ", b"/"]);
        assert_eq!(line.read().unwrap(), "GET /");
        line.clear();
        assert_eq!(line.read().unwrap(), "");
    }

    #[test]
    fn an_identifier_of_any_length_is_read_as_it_was_written() {
        let id = RequestIdCell::new();
        for length in [1, 7, 8, 9, 24, 36, 127, 128] {
            let text = "0123456789abcdef".repeat(8)[..length].to_owned();
            id.write_one(text.as_bytes());
            assert_eq!(id.read(), Some(text));
        }
        id.write_one(&[b'x'; 300]);
        assert_eq!(id.read(), Some("x".repeat(168)));
        id.write_one(b"");
        assert_eq!(id.read().unwrap(), "");
    }

    #[test]
    fn a_long_line_is_cut() {
        let line = RequestLineCell::new();
        line.write(&[b"GET ", &[b'a'; 4096]]);
        assert_eq!(line.read().unwrap(), format!("GET {}", "a".repeat(196)));
        line.write(&[&[b'M'; 300], b" /"]);
        assert_eq!(line.read().unwrap(), "M".repeat(200));
    }

    #[test]
    fn a_writer_killed_half_way_leaves_nothing_to_read_until_the_next_write() {
        let line = RequestLineCell::new();
        line.write(&[b"GET", b" ", b"/old"]);
        line.sequence.store(line.sequence.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        assert_eq!(line.read(), None);
        line.write(&[b"GET", b" ", b"/new"]);
        assert_eq!(line.read().unwrap(), "GET /new");
    }

    #[test]
    fn an_impossible_length_is_cut_to_the_line() {
        let line = RequestLineCell::new();
        line.len.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(line.read().unwrap().len(), 200);
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
                line.write(&[b"GET", b" ", b"/short"]);
                line.write(&[b"POST", b" ", &long.as_bytes()[5..]]);
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert_eq!(line.read(), Some(long), "{complete} lines were read while they changed");
    }
}
