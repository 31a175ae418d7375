//! The supervisor's signals, as values behind a descriptor for poll(2).
//!
//! This module owns the handlers and removes them in a child. Each handler, which comes from signal-hook, sets a flag
//! and writes a byte to one socket pair. What a signal means is decided elsewhere.
//!
//! Two equal signals between two calls of [`Signals::take`] count as one, as in the kernel (signal(7)). Different
//! signals are ordered by the variants of [`Signal`].
//!
//! The process may be a program that continues after the server has ended, so [`Dispositions`] saves and restores
//! the previous handlers.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{self, SigSet};
use signal_hook::SigId;
use signal_hook::low_level;

use crate::process::sigaction::{Disposition, SignalAction, set_disposition};
use crate::system::descriptors::OwnDescriptors;

/// signal-hook's handler. signal-hook installs it once per process, and then expects it to be there.
static HANDLER: OnceLock<SignalAction> = OnceLock::new();

/// A signal that the supervisor acts on; the strongest come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGTERM.
    Term,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
    /// SIGWINCH.
    Winch,
    /// SIGTTIN.
    Ttin,
    /// SIGTTOU.
    Ttou,
    /// SIGCHLD.
    Chld,
}

impl Signal {
    /// All signals, in order.
    pub const ALL: [Self; 10] = [
        Self::Int,
        Self::Quit,
        Self::Term,
        Self::Hup,
        Self::Usr1,
        Self::Usr2,
        Self::Winch,
        Self::Ttin,
        Self::Ttou,
        Self::Chld,
    ];

    /// The signal of the kernel.
    pub fn kernel(self) -> signal::Signal {
        match self {
            Self::Int => signal::Signal::SIGINT,
            Self::Quit => signal::Signal::SIGQUIT,
            Self::Term => signal::Signal::SIGTERM,
            Self::Hup => signal::Signal::SIGHUP,
            Self::Usr1 => signal::Signal::SIGUSR1,
            Self::Usr2 => signal::Signal::SIGUSR2,
            Self::Winch => signal::Signal::SIGWINCH,
            Self::Ttin => signal::Signal::SIGTTIN,
            Self::Ttou => signal::Signal::SIGTTOU,
            Self::Chld => signal::Signal::SIGCHLD,
        }
    }
}

/// The installed handlers.
pub struct Signals {
    receiver: UnixStream,
    caught: Vec<Caught>,
}

struct Caught {
    signal: Signal,
    flag: Arc<AtomicBool>,
    /// The two actions of the handler, which a child removes.
    actions: [SigId; 2],
}

impl Signals {
    /// Installs the handlers, ignores SIGPIPE, and unblocks signals that the parent process had blocked.
    ///
    /// signal-hook calls the handler that it replaces. CPython has one for SIGINT, which would raise
    /// KeyboardInterrupt in whatever Python code runs next, so the dispositions are reset first.
    pub fn install() -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        receiver.set_nonblocking(true)?;
        set_disposition(signal::Signal::SIGPIPE, Disposition::Ignore)?;
        let mut caught = Vec::with_capacity(Signal::ALL.len());
        let mut mask = SigSet::empty();
        for signal in Signal::ALL {
            let kernel = signal.kernel();
            set_disposition(kernel, Disposition::Default)?;
            let flag = Arc::new(AtomicBool::new(false));
            // The order matters: when the byte arrives, the flag is set.
            let actions = [
                signal_hook::flag::register(kernel as i32, Arc::clone(&flag))?,
                low_level::pipe::register(kernel as i32, sender.try_clone()?)?,
            ];
            caught.push(Caught { signal, flag, actions });
            match HANDLER.get() {
                Some(handler) => handler.install(kernel)?,
                // The first registration has just installed it. Another thread here stores the same value.
                None => drop(HANDLER.set(SignalAction::of(kernel)?)),
            }
            mask.add(kernel);
        }
        mask.thread_unblock()?;
        Ok(Self { receiver, caught })
    }

    /// The signals that arrived since the last call.
    pub fn take(&self) -> Vec<Signal> {
        use io::Read;
        let mut bytes = [0; 64];
        // The socket is emptied before the flags are read, so that a signal in between makes it readable again. An
        // error is EAGAIN: it is empty.
        while let Ok(1..) = (&self.receiver).read(&mut bytes) {}
        let set = self.caught.iter().filter(|caught| caught.flag.swap(false, Ordering::SeqCst));
        set.map(|caught| caught.signal).collect()
    }

    /// Adds the descriptors that a child closes, beside those that [`Signals::reset_in_child`] closes.
    pub(crate) fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.add(&self.receiver);
    }

    /// Resets all dispositions in a child, while all signals are blocked, and closes the parent's socket.
    pub(crate) fn reset_in_child(&self) -> io::Result<()> {
        for caught in &self.caught {
            set_disposition(caught.signal.kernel(), Disposition::Default)?;
            for action in caught.actions {
                low_level::unregister(action);
            }
        }
        Ok(())
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for action in self.caught.iter().flat_map(|caught| caught.actions) {
            low_level::unregister(action);
        }
    }
}

/// The dispositions and the signal mask of a process before a server changed them.
pub struct Dispositions {
    actions: Vec<(signal::Signal, SignalAction)>,
    mask: SigSet,
}

impl Dispositions {
    /// Saves everything that [`Signals::install`] changes.
    pub fn save() -> io::Result<Self> {
        let kernel = Signal::ALL.map(Signal::kernel);
        let all = kernel.into_iter().chain([signal::Signal::SIGPIPE]);
        let actions = all.map(|number| Ok((number, SignalAction::of(number)?)));
        Ok(Self { actions: actions.collect::<io::Result<_>>()?, mask: SigSet::thread_get_mask()? })
    }

    /// Restores everything; the handlers of [`Signals`] must be removed by then.
    pub fn restore(&self) -> io::Result<()> {
        for (number, action) in &self.actions {
            action.install(*number)?;
        }
        Ok(self.mask.thread_set_mask()?)
    }
}

impl AsFd for Signals {
    /// The descriptor that becomes readable when a signal arrives.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.receiver.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// This is a single test, because handlers belong to the process and the harness runs tests in threads.
    #[test]
    fn a_signal_is_reported_once_and_the_strongest_first_twice_over() {
        for _ in 0..2 {
            set_disposition(signal::Signal::SIGHUP, Disposition::Ignore).unwrap();
            let before = Dispositions::save().unwrap();
            reports_once();
            before.restore().unwrap();
            low_level::raise(signal::Signal::SIGHUP as i32).unwrap(); // Ignored, as before.
        }
    }

    fn reports_once() {
        let signals = Signals::install().unwrap();
        let is_readable = || {
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
        };
        assert!(!is_readable());
        for signal in [Signal::Ttin, Signal::Hup, Signal::Ttin, Signal::Int] {
            low_level::raise(signal.kernel() as i32).unwrap();
        }
        assert!(is_readable());
        assert_eq!(signals.take(), [Signal::Int, Signal::Hup, Signal::Ttin]);
        assert!(!is_readable());
        assert_eq!(signals.take(), []);
    }
}
