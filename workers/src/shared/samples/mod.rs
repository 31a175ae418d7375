//! The samples of a profile: what a worker writes about its Python stack, and what the supervisor reads.
//!
//! Each worker has an area of its own in the memory of the scoreboard. Only a profile touches it, so without one the
//! kernel never gives it a page. The area is a ring of words with one writer, the thread of the worker that runs requests,
//! and one reader, the supervisor, which empties it at every tick. Samples are written by the thread's signal handler, which
//! must not interrupt the thread while it writes a route. A ring that is full loses the newest sample, and counts it. It
//! always has room for the route of a request that was sampled.
//!
//! | part | written by | meaning |
//! |---|---|---|
//! | `session` | supervisor | the number of the running profile; 0 means that none runs |
//! | `tail` | supervisor | what was read |
//! | `installed` | worker | its pid, once its handler is installed |
//! | `head` | worker | what was written; a message counts only once it is complete |
//! | `lost` | worker | samples that had no room, or whose stack was unreadable |
//!
//! Readers trust nothing, because a worker may have overwritten its area with anything.

pub mod message;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub use message::{CodeRecord, Message, SampledFrame, TextRecord};

/// The number of words in a ring: 128 KB. The first sample of a profile names every function on the stack, which takes
/// about 25 KB for a view of Django; later ones take a word for each frame.
pub const RING_WORDS: usize = 16 * 1024;

/// One worker's area.
#[repr(C, align(128))]
pub struct SampleArea {
    control: Control,
    worker: WorkerPart,
    ring: Ring,
}

#[repr(C, align(128))]
struct Control {
    session: AtomicU32,
    tail: AtomicU64,
}

#[repr(C, align(128))]
struct WorkerPart {
    installed: AtomicU32,
    head: AtomicU64,
    lost: AtomicU64,
}

#[repr(C, align(128))]
struct Ring([AtomicU64; RING_WORDS]);

impl SampleArea {
    /// Where the ring begins in an area.
    pub const RING_OFFSET: usize = std::mem::offset_of!(Self, ring);

    const fn new() -> Self {
        Self {
            control: Control { session: AtomicU32::new(0), tail: AtomicU64::new(0) },
            worker: WorkerPart {
                installed: AtomicU32::new(0),
                head: AtomicU64::new(0),
                lost: AtomicU64::new(0),
            },
            ring: Ring([const { AtomicU64::new(0) }; RING_WORDS]),
        }
    }

    /// An area outside shared memory, for tests and embedded servers. It is never freed.
    pub fn detached() -> &'static Self {
        Box::leak(Box::new(Self::new()))
    }

    /// A profile with this number begins, and what earlier ones have left is dropped. Called by the supervisor.
    pub fn begin(&self, session: u32) {
        self.control.tail.store(self.worker.head.load(Ordering::Acquire), Ordering::Relaxed);
        self.control.session.store(session, Ordering::Release);
    }

    /// No profile runs from now on. Called by the supervisor.
    pub fn end(&self) {
        self.control.session.store(0, Ordering::Release);
    }

    /// The number of the running profile; `None` if none runs.
    pub fn session(&self) -> Option<u32> {
        Some(self.control.session.load(Ordering::Acquire)).filter(|session| *session != 0)
    }

    /// The worker can take samples. Called by the worker.
    pub fn set_installed(&self, pid: u32) {
        self.worker.installed.store(pid, Ordering::Release);
    }

    /// Whether the worker with this pid can take samples.
    pub fn is_installed(&self, pid: u32) -> bool {
        self.worker.installed.load(Ordering::Acquire) == pid
    }

    /// A sample could not be taken. Called by the worker.
    pub fn lose(&self) {
        let lost = self.worker.lost.load(Ordering::Relaxed);
        self.worker.lost.store(lost.wrapping_add(1), Ordering::Relaxed);
    }

    /// How many samples could not be taken, by all workers that had this area.
    pub fn lost(&self) -> u64 {
        self.worker.lost.load(Ordering::Relaxed)
    }

    /// Begins a message that leaves room for a route. Called by the worker; nothing is visible before [`Draft::finish`].
    pub fn draft(&self) -> Draft<'_> {
        self.draft_of(RING_WORDS as u64 - message::MAX_ROUTE_WORDS)
    }

    /// Begins a message with the route of a request that was sampled: after the sample, there is room for it.
    pub fn route_draft(&self) -> Draft<'_> {
        self.draft_of(RING_WORDS as u64)
    }

    fn draft_of(&self, words: u64) -> Draft<'_> {
        let start = self.worker.head.load(Ordering::Relaxed);
        let tail = self.control.tail.load(Ordering::Acquire);
        let used = start.wrapping_sub(tail);
        let room = words.saturating_sub(used);
        // The first word is the length, which is known at the end.
        Draft { area: self, start, next: start.wrapping_add(1), end: start.wrapping_add(room) }
    }

    /// Reads all complete messages, and makes room for others. Called by the supervisor.
    pub fn drain(&self, mut take: impl FnMut(&[u64])) {
        let head = self.worker.head.load(Ordering::Acquire);
        let mut tail = self.control.tail.load(Ordering::Relaxed);
        let mut words = Vec::new();
        while tail != head {
            let rest = head.wrapping_sub(tail);
            let length = self.word(tail).load(Ordering::Relaxed);
            if rest > RING_WORDS as u64 || length < 2 || length > rest {
                // No worker writes that, so everything in the ring is doubtful.
                tail = head;
                break;
            }
            words.clear();
            words.extend(
                (1..length).map(|i| self.word(tail.wrapping_add(i)).load(Ordering::Relaxed)),
            );
            take(&words);
            tail = tail.wrapping_add(length);
        }
        self.control.tail.store(tail, Ordering::Release);
    }

    fn word(&self, position: u64) -> &AtomicU64 {
        // The mask keeps the index below the length, which is a power of two.
        &self.ring.0[(position & (RING_WORDS as u64 - 1)) as usize]
    }
}

const _: () = assert!(RING_WORDS.is_power_of_two());

/// A message that a worker is writing.
pub struct Draft<'a> {
    area: &'a SampleArea,
    start: u64,
    next: u64,
    /// The end of the room.
    end: u64,
}

impl Draft<'_> {
    /// Adds a word; it is lost if there is no room.
    pub fn word(&mut self, word: u64) {
        // One word more than the room marks a message that does not fit.
        if self.end.wrapping_sub(self.next) as i64 > 0 {
            self.area.word(self.next).store(word, Ordering::Relaxed);
        }
        self.next = self.next.wrapping_add(1);
    }

    /// Adds bytes, eight a word.
    pub fn bytes(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            self.word(u64::from_ne_bytes(word));
        }
    }

    /// Publishes the message; false if there was no room for it.
    pub fn finish(self) -> bool {
        if (self.end.wrapping_sub(self.next) as i64) < 0 {
            return false;
        }
        let length = self.next.wrapping_sub(self.start);
        self.area.word(self.start).store(length, Ordering::Relaxed);
        self.area.worker.head.store(self.next, Ordering::Release);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of words in the longest message, without its length.
    const LONGEST: usize = RING_WORDS - message::MAX_ROUTE_WORDS as usize - 1;

    fn write(area: &SampleArea, words: &[u64]) -> bool {
        let mut draft = area.draft();
        words.iter().for_each(|word| draft.word(*word));
        draft.finish()
    }

    fn read(area: &SampleArea) -> Vec<Vec<u64>> {
        let mut found = Vec::new();
        area.drain(|words| found.push(words.to_vec()));
        found
    }

    #[test]
    fn messages_arrive_complete_and_in_order_also_around_the_end_of_the_ring() {
        let area = SampleArea::detached();
        for round in 0..5000 {
            assert!(write(area, &[round, 1, 2, 3, 4]));
            assert!(write(area, &[round + 1]));
            assert_eq!(read(area), [vec![round, 1, 2, 3, 4], vec![round + 1]]);
        }
        assert_eq!(read(area), Vec::<Vec<u64>>::new());
    }

    #[test]
    fn an_unfinished_message_is_not_visible_and_is_overwritten() {
        let area = SampleArea::detached();
        let mut draft = area.draft();
        draft.word(7);
        assert!(read(area).is_empty());
        assert!(write(area, &[8]));
        assert_eq!(read(area), [vec![8]]);
    }

    #[test]
    fn a_full_ring_refuses_a_message_and_takes_it_once_there_is_room() {
        let area = SampleArea::detached();
        let long = vec![5; LONGEST];
        assert!(write(area, &long));
        assert!(!write(area, &[1]));
        assert_eq!(read(area), [long]);
        assert!(write(area, &[1]));
        assert!(!write(area, &[5; LONGEST + 1]), "it never fits");
        assert_eq!(read(area), [vec![1]]);
    }

    #[test]
    fn a_full_ring_has_room_for_the_longest_route() {
        let area = SampleArea::detached();
        assert!(write(area, &[5; LONGEST]));
        let mut draft = area.route_draft();
        message::write_route(&mut draft, 5, 99, &[b'r'; 1000]);
        assert!(draft.finish());
        assert!(!write(area, &[1]));
        let mut draft = area.route_draft();
        message::write_route(&mut draft, 5, 99, b"/");
        assert!(!draft.finish(), "there was no sample in between");
        assert_eq!(read(area).len(), 2);
    }

    #[test]
    fn a_ring_with_nonsense_is_emptied() {
        let area = SampleArea::detached();
        for (head, length) in [(10, 0), (10, 1), (10, 11), (u64::MAX, 5), (1 << 40, 2)] {
            area.control.tail.store(0, Ordering::Relaxed);
            area.worker.head.store(head, Ordering::Relaxed);
            area.word(0).store(length, Ordering::Relaxed);
            assert!(read(area).is_empty(), "{head} {length}");
            assert!(write(area, &[1]));
            assert_eq!(read(area), [vec![1]]);
        }
    }

    #[test]
    fn a_profile_begins_without_what_earlier_ones_left() {
        let area = SampleArea::detached();
        assert_eq!(area.session(), None);
        area.begin(1);
        assert!(write(area, &[1]));
        area.end();
        assert_eq!(area.session(), None);
        area.begin(2);
        assert_eq!(area.session(), Some(2));
        assert!(read(area).is_empty());
    }

    #[test]
    fn only_the_worker_with_its_pid_takes_samples() {
        let area = SampleArea::detached();
        assert!(!area.is_installed(7));
        area.set_installed(7);
        assert!(area.is_installed(7) && !area.is_installed(8));
        area.lose();
        assert_eq!(area.lost(), 1);
    }

    #[test]
    fn bytes_are_padded_to_words() {
        let area = SampleArea::detached();
        let mut draft = area.draft();
        draft.bytes(b"abcdefghi");
        assert!(draft.finish());
        let expected = [u64::from_ne_bytes(*b"abcdefgh"), u64::from_ne_bytes(*b"i\0\0\0\0\0\0\0")];
        assert_eq!(read(area), [expected.to_vec()]);
    }
}
