//! The terminal in raw mode on its alternate screen. It is restored at the end, at a panic, at a signal, and while
//! the process is suspended.

use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use ratatui_core::buffer::Buffer;

use super::keys::{self, Key};
use super::paint::{ENTER, LEAVE, paint};

/// The size of a terminal that does not report one.
const SIZE: (u16, u16) = (80, 24);
/// Time limit for the rest of a sequence.
const CUT_MS: u16 = 50;

/// The terminal in raw mode.
pub(super) struct Terminal {
    signals: SignalFd,
    /// The previous settings.
    cooked: Termios,
    /// Whether the terminal is in raw mode at present. Restoring it twice would move the cursor over the message of a
    /// panic.
    is_taken: Arc<AtomicBool>,
    shown: Option<Buffer>,
}

/// An event from the terminal.
pub(super) enum Event {
    Keys(Vec<Key>),
    /// The size changed, or the process was continued: everything has to be painted again.
    Resized,
    /// SIGTSTP, the signal of Ctrl-Z.
    Suspend,
    /// SIGTERM, SIGINT, SIGQUIT or SIGHUP, or the end of standard input.
    End,
}

/// Whether both standard input and output are a terminal.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// The columns and lines of standard output.
pub(super) fn size() -> Option<(u16, u16)> {
    terminal_size::terminal_size_of(io::stdout()).map(|(width, height)| (width.0, height.0))
}

impl Terminal {
    /// Switches the terminal to raw mode. From here on, signals are read from a descriptor, and blocked in this thread
    /// and in those that it starts.
    pub(super) fn enter() -> io::Result<Self> {
        let mut mask = SigSet::empty();
        mask.extend([
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGQUIT,
            Signal::SIGHUP,
            Signal::SIGWINCH,
            Signal::SIGTSTP,
            Signal::SIGCONT,
        ]);
        mask.thread_block()?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let signals = SignalFd::with_flags(&mask, flags)?;
        let cooked = tcgetattr(io::stdin())?;
        let is_taken = Arc::new(AtomicBool::new(false));
        let terminal = Self { signals, cooked, is_taken, shown: None };
        terminal.restore_at_panic();
        terminal.take()?;
        Ok(terminal)
    }

    /// Waits for keys, for a signal, or until `wakeup` is readable.
    pub(super) fn wait(&self, wakeup: BorrowedFd<'_>) -> io::Result<Vec<Event>> {
        let stdin = io::stdin();
        let fds = [stdin.as_fd(), self.signals.as_fd(), wakeup];
        let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_keys = fds[0].any().unwrap_or_default();
        let mut events = Vec::new();
        while let Some(info) = self.signals.read_signal()? {
            let signal =
                i32::try_from(info.ssi_signo).ok().and_then(|it| Signal::try_from(it).ok());
            events.push(match signal {
                Some(Signal::SIGWINCH | Signal::SIGCONT) => Event::Resized,
                Some(Signal::SIGTSTP) => Event::Suspend,
                Some(_) | None => Event::End,
            });
        }
        if has_keys {
            events.push(read_keys()?);
        }
        Ok(events)
    }

    /// Shows a screen, and writes only the cells that changed.
    pub(super) fn show(&mut self, screen: Buffer) -> io::Result<()> {
        write(&paint(self.shown.as_ref(), &screen))?;
        self.shown = Some(screen);
        Ok(())
    }

    /// The columns and lines.
    pub(super) fn size(&self) -> (u16, u16) {
        size().unwrap_or(SIZE)
    }

    /// Forgets what the terminal shows, so that the next screen is written completely.
    pub(super) fn forget(&mut self) {
        self.shown = None;
    }

    /// Restores the terminal and stops this process until the shell continues it.
    pub(super) fn suspend(&mut self) -> io::Result<()> {
        restore(&self.cooked, &self.is_taken)?;
        raise(Signal::SIGSTOP)?;
        self.forget();
        self.take()
    }

    fn take(&self) -> io::Result<()> {
        let mut raw = self.cooked.clone();
        cfmakeraw(&mut raw);
        self.is_taken.store(true, Ordering::Relaxed);
        tcsetattr(io::stdin(), SetArg::TCSADRAIN, &raw)?;
        write(ENTER)
    }

    /// Restores the terminal before the message of a panic, which would be lost on the alternate screen.
    fn restore_at_panic(&self) {
        let cooked = SharedTermios(self.cooked.clone().into());
        let is_taken = Arc::clone(&self.is_taken);
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            // Ignored: the panic is the worse failure.
            let _ = restore(&cooked.0.into(), &is_taken);
            before(panic);
        }));
    }
}

/// The settings as the kernel has them, because [`Termios`] is not `Sync`.
struct SharedTermios(nix::libc::termios);

impl Drop for Terminal {
    fn drop(&mut self) {
        // Ignored: a closed terminal needs no restoring.
        let _ = restore(&self.cooked, &self.is_taken);
    }
}

fn restore(cooked: &Termios, is_taken: &AtomicBool) -> io::Result<()> {
    if !is_taken.swap(false, Ordering::Relaxed) {
        return Ok(());
    }
    let written = write(LEAVE);
    tcsetattr(io::stdin(), SetArg::TCSADRAIN, cooked)?;
    written
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

fn read_keys() -> io::Result<Event> {
    // This bypasses the buffer of standard input, whose content is invisible to poll(2).
    let mut stdin = std::fs::File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let mut buffer = [0; 256];
    let mut held = Vec::new();
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => return Ok(Event::End),
            Ok(count) => held.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let more = keys::is_cut(&held) && poll(&mut fds, PollTimeout::from(CUT_MS))? > 0;
        if !more {
            return Ok(Event::Keys(keys::read(&held)));
        }
    }
}
