//! Lines of the access log that are still to be written, and those that were lost.
//!
//! Several workers write to one log. So a line is written in one piece if possible: between two pieces there might
//! be lines of another worker.

use std::fmt;

use nix::errno::Errno;

/// Why lines were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossCause {
    /// write(2) failed.
    Failed(Errno),
    /// The reader of the log was too slow.
    SlowReader,
}

impl fmt::Display for LossCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(errno) => f.write_str(errno.desc()),
            Self::SlowReader => f.write_str("its reader is too slow"),
        }
    }
}

/// Lost lines, and why the last of them was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields say what they are")]
pub struct Lost {
    pub lines: u64,
    pub cause: LossCause,
}

/// The buffer of unwritten lines.
#[derive(Default)]
pub(super) struct LineBuffer {
    bytes: Vec<u8>,
    /// Whether the buffer begins in the middle of a line whose start was written.
    is_torn: bool,
    /// Whether the last write failed. What this or another worker wrote before may have ended in the middle of a
    /// line, so the next line starts with a newline.
    has_failed: bool,
    lost: Option<Lost>,
}

impl LineBuffer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Where to append the next line.
    pub(super) fn open_line(&mut self) -> &mut Vec<u8> {
        if self.bytes.is_empty() && self.has_failed {
            self.bytes.push(b'\n');
        }
        &mut self.bytes
    }

    /// What to write next: as many whole lines as fit in `limit` bytes, but at least one.
    pub(super) fn piece(&self, limit: usize) -> &[u8] {
        if self.bytes.len() <= limit {
            return &self.bytes;
        }
        let end = match memchr::memrchr(b'\n', &self.bytes[..limit]) {
            Some(end) => end + 1,
            None => memchr::memchr(b'\n', &self.bytes).map_or(self.bytes.len(), |end| end + 1),
        };
        &self.bytes[..end]
    }

    /// The first line, without its newline, to be sent as a message.
    pub(super) fn first_line(&self) -> Option<&[u8]> {
        let end = memchr::memchr(b'\n', &self.bytes)?;
        Some(&self.bytes[..end])
    }

    /// The first line was sent as a message.
    pub(super) fn sent_line(&mut self) {
        if let Some(end) = memchr::memchr(b'\n', &self.bytes) {
            self.bytes.drain(..=end);
        }
    }

    /// The first line cannot be sent as a message.
    pub(super) fn lose_line(&mut self, errno: Errno) {
        self.sent_line();
        self.lose_sent(errno);
    }

    /// A message that was sent before has not arrived.
    pub(super) fn lose_sent(&mut self, errno: Errno) {
        self.lose(1, LossCause::Failed(errno));
    }

    /// `count` bytes were written.
    pub(super) fn wrote(&mut self, count: usize) {
        self.is_torn = self.bytes.drain(..count).next_back() != Some(b'\n');
        self.has_failed = false;
    }

    /// Writing failed: every line in the buffer is lost.
    pub(super) fn fail(&mut self, errno: Errno) {
        let ends = memchr::memchr_iter(b'\n', &self.bytes).count();
        // A newline alone belongs to a line that was written, or to none.
        let lines = ends - usize::from(self.bytes.first() == Some(&b'\n'));
        self.lose(lines as u64, LossCause::Failed(errno));
        self.bytes.clear();
        self.is_torn = false;
        self.has_failed = true;
    }

    /// A line is lost because the buffer is full.
    pub(super) fn refuse(&mut self) {
        self.lose(1, LossCause::SlowReader);
    }

    /// The rest goes to another file, so it has to start with a whole line.
    pub(super) fn restart_line(&mut self) {
        let is_torn = std::mem::take(&mut self.is_torn);
        let has_failed = std::mem::take(&mut self.has_failed);
        if is_torn {
            self.lose(1, LossCause::SlowReader);
        }
        if (is_torn || has_failed)
            && let Some(end) = memchr::memchr(b'\n', &self.bytes)
        {
            self.bytes.drain(..=end);
        }
    }

    /// The lines that were lost since the last call.
    pub(super) fn take_lost(&mut self) -> Option<Lost> {
        self.lost.take()
    }

    fn lose(&mut self, lines: u64, cause: LossCause) {
        if lines > 0 {
            let before = self.lost.map_or(0, |lost| lost.lines);
            self.lost = Some(Lost { lines: before + lines, cause });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_ROOM: LossCause = LossCause::Failed(Errno::ENOSPC);

    fn add(buffer: &mut LineBuffer, line: &[u8]) {
        buffer.open_line().extend_from_slice(line);
    }

    #[test]
    fn the_line_after_a_torn_one_starts_with_a_newline() {
        let mut buffer = LineBuffer::default();
        add(&mut buffer, b"first\n");
        add(&mut buffer, b"second\n");
        buffer.wrote(8);
        buffer.fail(Errno::ENOSPC);
        assert_eq!(buffer.take_lost(), Some(Lost { lines: 1, cause: NO_ROOM }));
        add(&mut buffer, b"third\n");
        add(&mut buffer, b"fourth\n");
        assert_eq!(buffer.piece(100), b"\nthird\nfourth\n");
        buffer.wrote(14);
        add(&mut buffer, b"fifth\n");
        assert_eq!(buffer.piece(100), b"fifth\n");
        assert_eq!(buffer.take_lost(), None);
    }

    #[test]
    fn lost_lines_are_counted_once_however_often_writing_fails() {
        let mut buffer = LineBuffer::default();
        for _ in 0..3 {
            add(&mut buffer, b"a\n");
            add(&mut buffer, b"b\n");
            buffer.fail(Errno::ENOSPC);
        }
        assert_eq!(buffer.take_lost(), Some(Lost { lines: 6, cause: NO_ROOM }));
    }

    #[test]
    fn a_line_that_lacks_only_its_newline_is_not_lost() {
        let mut buffer = LineBuffer::default();
        add(&mut buffer, b"a\n");
        buffer.wrote(1);
        buffer.fail(Errno::EIO);
        assert_eq!(buffer.take_lost(), None);
        add(&mut buffer, b"b\n");
        assert_eq!(buffer.piece(9), b"\nb\n");
    }

    #[test]
    fn a_piece_is_as_many_whole_lines_as_fit_but_at_least_one() {
        let mut buffer = LineBuffer::default();
        for line in [&b"one\n"[..], b"two\n", b"thirteen\n"] {
            add(&mut buffer, line);
        }
        assert_eq!(buffer.piece(11), b"one\ntwo\n");
        assert_eq!(buffer.piece(8), b"one\ntwo\n");
        assert_eq!(buffer.piece(7), b"one\n");
        assert_eq!(buffer.piece(2), b"one\n");
        assert_eq!(buffer.piece(17), b"one\ntwo\nthirteen\n");
    }

    #[test]
    fn another_file_starts_with_a_whole_line() {
        let mut buffer = LineBuffer::default();
        add(&mut buffer, b"first\n");
        add(&mut buffer, b"second\n");
        buffer.wrote(3);
        buffer.restart_line();
        assert_eq!(buffer.piece(99), b"second\n");
        assert_eq!(buffer.take_lost(), Some(Lost { lines: 1, cause: LossCause::SlowReader }));
        buffer.fail(Errno::EIO);
        add(&mut buffer, b"third\n");
        buffer.restart_line();
        assert_eq!(buffer.piece(99), b"third\n");
        assert_eq!(buffer.take_lost().map(|lost| lost.lines), Some(1));
    }
}
