//! The descriptor of a log, and a write to it that never blocks.
//!
//! poll(2) says that a pipe has room for a page. If several processes share the pipe, another one may use that page
//! before this process calls write(2), which then blocks until a reader comes that may have stopped for good.
//! O_NONBLOCK belongs to the open file, and the parent's shell and the application's children share it. So a pipe or
//! terminal is reopened through proc(5): that is the same pipe, but a separate open file, which is non-blocking for
//! this process only. A socket has MSG_DONTWAIT. What cannot be reopened (no /proc, another owner) is polled, and then
//! written to in pieces of at most a page.
//!
//! A pipe without a reader raises SIGPIPE, so the process has to ignore that signal; CPython does.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::unistd::isatty;

/// The outcome of one attempt to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// This many bytes were written; never 0.
    Bytes(usize),
    /// There is no room now.
    Blocked,
    /// Writing failed: the disk is full, the reader is gone, or the descriptor is closed.
    Failed(Errno),
}

/// Where log lines go.
#[derive(Debug)]
pub(crate) struct Sink {
    file: File,
    way: Way,
    /// Whether the last write ended within a line.
    torn: AtomicBool,
    /// Lost lines that were not reported yet.
    lost: AtomicU64,
}

/// How to write without blocking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// A file, which never blocks in this sense.
    File,
    /// A pipe or terminal, through a reopened, non-blocking file.
    Direct,
    /// A socket.
    Socket,
    /// Anything else, which blocks and is shared.
    Polled,
}

impl Sink {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let file = File::from(fd);
        let Ok(kind) = file.metadata().map(|metadata| metadata.file_type()) else {
            return Self::with(file, Way::Polled);
        };
        if kind.is_file() {
            Self::with(file, Way::File)
        } else if kind.is_socket() {
            Self::with(file, Way::Socket)
        } else if kind.is_fifo() || isatty(&file) == Ok(true) {
            match reopen(&file) {
                Ok(own) => Self::with(own, Way::Direct),
                Err(_) => Self::with(file, Way::Polled),
            }
        } else {
            Self::with(file, Way::Polled)
        }
    }

    fn with(file: File, way: Way) -> Self {
        Self { file, way, torn: AtomicBool::new(false), lost: AtomicU64::new(0) }
    }

    /// Calls write(2) or send(2) once, which may write only a part.
    pub(crate) fn write(&self, bytes: &[u8]) -> Written {
        loop {
            let taken = match self.way {
                Way::File | Way::Direct => (&self.file).write(bytes),
                Way::Socket => {
                    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
                    send(self.file.as_raw_fd(), bytes, flags).map_err(io::Error::from)
                }
                Way::Polled => match self.poll() {
                    Ok(true) => (&self.file).write(&bytes[..bytes.len().min(libc::PIPE_BUF)]),
                    Ok(false) => return Written::Blocked,
                    Err(error) => Err(error.into()),
                },
            };
            return match taken {
                Ok(0) => Written::Failed(Errno::EIO),
                Ok(count) => Written::Bytes(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Written::Blocked,
                Err(error) => Written::Failed(errno_of(&error)),
            };
        }
    }

    /// The maximum length of a piece that is written completely or not at all, even if others write at the same time.
    pub(crate) fn piece_bytes(&self) -> usize {
        match self.way {
            Way::File => usize::MAX,
            Way::Direct | Way::Socket | Way::Polled => libc::PIPE_BUF,
        }
    }

    /// Writes whole lines. Returns false if they were not written, or not completely; then the next write starts with a
    /// newline.
    pub(crate) fn write_whole(&self, lines: &[u8]) -> bool {
        // If two threads log at once, there is at worst an additional empty line.
        if self.torn.load(Ordering::Relaxed) {
            let repaired = [b"\n", lines].concat();
            self.torn.store(false, Ordering::Relaxed);
            return self.write_all(&repaired);
        }
        self.write_all(lines)
    }

    fn write_all(&self, lines: &[u8]) -> bool {
        let mut rest = lines;
        while !rest.is_empty() {
            match self.write(rest) {
                Written::Bytes(count) => rest = &rest[count..],
                Written::Blocked => {
                    if rest.len() < lines.len() {
                        self.torn.store(true, Ordering::Relaxed);
                    }
                    return false;
                }
                // On a full disk, another process may have written only a part of the previous line.
                Written::Failed(_) => {
                    self.torn.store(true, Ordering::Relaxed);
                    return false;
                }
            }
        }
        true
    }

    /// Adds lost lines.
    pub(crate) fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
    }

    /// The lines that were lost since the last call.
    pub(crate) fn take_lost(&self) -> u64 {
        match self.lost.load(Ordering::Relaxed) {
            0 => 0,
            _ => self.lost.swap(0, Ordering::Relaxed),
        }
    }

    /// Whether there is room for a piece of PIPE_BUF bytes.
    fn poll(&self) -> nix::Result<bool> {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        if poll(&mut fds, PollTimeout::ZERO)? == 0 {
            return Ok(false);
        }
        let ready = fds[0].revents().unwrap_or(PollFlags::empty());
        if ready.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL) {
            return Err(Errno::EPIPE);
        }
        Ok(ready.contains(PollFlags::POLLOUT))
    }
}

impl AsFd for Sink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn reopen(file: &File) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    fn pipe() -> (io::PipeReader, OwnedFd) {
        let (reader, writer) = io::pipe().unwrap();
        (reader, writer.into())
    }

    /// Writes until the pipe or socket is full.
    fn fill(sink: &Sink) {
        while let Written::Bytes(_) = sink.write(&[b'x'; 65536]) {}
    }

    #[test]
    fn a_reopened_pipe_stays_blocking_for_its_other_owners() {
        let (_reader, writer) = pipe();
        let shared = writer.try_clone().unwrap();
        let sink = Sink::new(writer);
        assert_eq!(sink.way, Way::Direct);
        let flags =
            |fd: BorrowedFd<'_>| OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).unwrap());
        assert!(flags(sink.as_fd()).contains(OFlag::O_NONBLOCK));
        assert!(!flags(shared.as_fd()).contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn a_full_pipe_with_a_stopped_reader_is_blocked() {
        let (_reader, writer) = pipe();
        let sink = Sink::new(writer);
        fill(&sink);
        assert_eq!(sink.write(b"x"), Written::Blocked);
        assert!(!sink.write_whole(b"line\n"));
    }

    #[test]
    fn a_full_pipe_that_cannot_be_reopened_is_blocked() {
        let (_reader, writer) = pipe();
        let sink = Sink::with(File::from(writer), Way::Polled);
        fill(&sink);
        assert_eq!(sink.write(b"x"), Written::Blocked);
    }

    #[test]
    fn a_polled_pipe_takes_a_long_line_in_pieces_while_it_has_room() {
        let (mut reader, writer) = pipe();
        let sink = Sink::with(File::from(writer), Way::Polled);
        let line = [b'x'; 3 * libc::PIPE_BUF + 1];
        assert_eq!(sink.write(&line), Written::Bytes(libc::PIPE_BUF));
        assert!(sink.write_whole(&line));
        drop(sink);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all.len(), libc::PIPE_BUF + line.len());
    }

    #[test]
    fn a_full_socket_is_blocked() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let sink = Sink::new(ours.into());
        assert_eq!(sink.way, Way::Socket);
        fill(&sink);
        assert_eq!(sink.write(b"x"), Written::Blocked);
    }

    #[test]
    fn a_reader_that_is_gone_is_a_failure() {
        for way in [Way::Direct, Way::Polled] {
            let (reader, writer) = pipe();
            drop(reader);
            let written = Sink::with(File::from(writer), way).write(b"x");
            assert_eq!(written, Written::Failed(Errno::EPIPE));
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        assert_eq!(Sink::new(ours.into()).write(b"x"), Written::Failed(Errno::EPIPE));
    }

    #[test]
    fn a_full_device_is_a_failure() {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        assert_eq!(Sink::new(full.into()).write(b"x"), Written::Failed(Errno::ENOSPC));
    }

    #[test]
    fn a_descriptor_that_cannot_be_written_is_a_failure() {
        let file = File::open("/dev/null").unwrap();
        assert_eq!(Sink::new(file.into()).write(b"x"), Written::Failed(Errno::EBADF));
    }

    #[test]
    fn a_file_is_written_at_its_position() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"before\n").unwrap();
        let sink = Sink::new(file.as_file().try_clone().unwrap().into());
        assert!(sink.write_whole(b"after\n"));
        assert_eq!(std::fs::read(file.path()).unwrap(), b"before\nafter\n");
    }

    #[test]
    fn the_line_after_a_torn_one_starts_with_a_newline() {
        let (mut reader, writer) = pipe();
        let sink = Sink::new(writer);
        let long = [b'x'; 1 << 20];
        assert!(!sink.write_whole(&long), "a pipe holds 64 KB");
        reader.read_exact(&mut [0; 32768]).unwrap();
        assert!(sink.write_whole(b"next\n"));
        assert!(sink.write_whole(b"after\n"));
        drop(sink);
        let mut rest = String::new();
        reader.read_to_string(&mut rest).unwrap();
        assert_eq!(rest.trim_start_matches('x'), "\nnext\nafter\n");
    }
}
