//! The Python stacks that a worker writes on SIGUSR2, assembled from the reads of its pipe.
//!
//! CPython's `faulthandler` writes a dump in pieces, in a signal handler, and nothing marks its end. A dump counts as
//! complete when nothing more has arrived for a moment.
//!
//! Anything that the application writes to this descriptor by mistake arrives here, too. There are therefore limits on
//! how much is kept and how often it is logged.

use std::time::{Duration, Instant};

/// A dump is complete when nothing has arrived for this long. The handler does not pause by itself, but its process may
/// have to wait for a processor.
const QUIET: Duration = Duration::from_millis(100);
/// Maximum time from the first byte of a dump until it is logged, even if more arrives.
const LONGEST: Duration = Duration::from_secs(1);
/// Maximum length of a dump; the rest is discarded. The log cuts out the middle if necessary.
const DUMP_BYTES: usize = 64 * 1024;

/// A dump that is arriving.
#[derive(Debug, Default)]
pub struct StackDump {
    text: Vec<u8>,
    /// When the first and the last bytes arrived; `None` while there are none.
    came: Option<(Instant, Instant)>,
}

impl StackDump {
    /// Adds bytes that arrived.
    pub fn add(&mut self, bytes: &[u8], now: Instant) {
        if bytes.is_empty() {
            return;
        }
        let room = DUMP_BYTES.saturating_sub(self.text.len());
        self.text.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let first = self.came.map_or(now, |(first, _)| first);
        self.came = Some((first, now));
    }

    /// Whether more may be read. Nothing is read while a full dump waits to be logged, so that its writer cannot keep
    /// the supervisor busy.
    pub fn has_room(&self) -> bool {
        self.text.len() < DUMP_BYTES
    }

    /// When the dump counts as complete, if nothing more arrives.
    pub fn deadline(&self) -> Option<Instant> {
        self.came.map(|(first, last)| (last + QUIET).min(first + LONGEST))
    }

    /// Takes the dump, if it is complete.
    pub fn take_whole(&mut self, now: Instant) -> Option<String> {
        self.deadline().filter(|deadline| *deadline <= now)?;
        self.take()
    }

    /// Takes the dump as far as it has arrived.
    pub fn take(&mut self) -> Option<String> {
        self.came.take()?;
        let text = std::mem::take(&mut self.text);
        Some(String::from_utf8_lossy(&text).trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_dump_is_complete_when_nothing_more_has_arrived_for_a_moment() {
        let start = Instant::now();
        let mut dump = StackDump::default();
        assert_eq!((dump.deadline(), dump.take_whole(start)), (None, None));
        dump.add(b"Thread 0x1", start);
        dump.add(b" (most recent call first):\n", ms(start, 60));
        assert_eq!(dump.take_whole(ms(start, 159)), None);
        assert_eq!(dump.deadline(), Some(ms(start, 160)));
        let whole = dump.take_whole(ms(start, 160));
        assert_eq!(whole.as_deref(), Some("Thread 0x1 (most recent call first):"));
        assert_eq!((dump.deadline(), dump.take()), (None, None));
    }

    #[test]
    fn a_dump_that_never_ends_is_logged_after_a_second() {
        let start = Instant::now();
        let mut dump = StackDump::default();
        for at in 0..20 {
            dump.add(b"x", ms(start, at * 50));
        }
        assert_eq!(dump.take_whole(ms(start, 999)), None);
        assert_eq!(dump.take_whole(ms(start, 1000)).map(|text| text.len()), Some(20));
    }

    #[test]
    fn an_endless_dump_is_truncated() {
        let start = Instant::now();
        let mut dump = StackDump::default();
        while dump.has_room() {
            dump.add(&[b'x'; 5000], start);
        }
        dump.add(b"more", start);
        assert_eq!(dump.take().map(|text| text.len()), Some(DUMP_BYTES));
        assert!(dump.has_room());
    }

    #[test]
    fn a_dump_that_is_not_utf_8_is_logged_anyway() {
        let mut dump = StackDump::default();
        dump.add(b"a\xffb\n", Instant::now());
        assert_eq!(dump.take().as_deref(), Some("a\u{fffd}b"));
    }
}
