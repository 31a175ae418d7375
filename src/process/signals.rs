//! Signals to the supervisor, turned into values behind a descriptor that poll(2) can wait for.
//!
//! Owns the handlers (signal-hook's: each sets a flag and writes a byte to one socket pair) and their
//! end in a child. Knows nothing of what a signal means.
//!
//! Two of the same signal between two looks are one, as in the kernel (signal(7)); the order among
//! different ones is that of [`Signal`]'s variants.
//!
//! The process may be a program that goes on when the server has ended: [`Dispositions`] remembers what
//! was there before.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{self, SigSet};
use signal_hook::SigId;
use signal_hook::low_level;

use crate::process::sigaction::{Action, Disposition, set_disposition};
use crate::system::descriptors::OwnDescriptors;

/// signal-hook's handler, which it installs once in a process and then takes for granted.
static HANDLER: OnceLock<Action> = OnceLock::new();

/// A signal that the supervisor acts on; first those that say more.
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
    /// All of them.
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

    /// As the kernel knows it.
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
    bell: UnixStream,
    caught: Vec<Caught>,
}

struct Caught {
    signal: Signal,
    flag: Arc<AtomicBool>,
    /// The two actions of the handler, to be undone in a child.
    actions: [SigId; 2],
}

impl Signals {
    /// Installs the handlers, ignores SIGPIPE, and unblocks what whoever started us had blocked.
    ///
    /// signal-hook calls the handler that it replaces. CPython has one for SIGINT, which would raise
    /// KeyboardInterrupt in whatever Python runs next; so the dispositions are made default first.
    pub fn install() -> io::Result<Self> {
        let (bell, ringer) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        set_disposition(signal::Signal::SIGPIPE, Disposition::Ignore)?;
        let mut caught = Vec::with_capacity(Signal::ALL.len());
        let mut mask = SigSet::empty();
        for signal in Signal::ALL {
            let kernel = signal.kernel();
            set_disposition(kernel, Disposition::Default)?;
            let flag = Arc::new(AtomicBool::new(false));
            // In this order: whoever hears the bell finds the flag set.
            let actions = [
                signal_hook::flag::register(kernel as i32, Arc::clone(&flag))?,
                low_level::pipe::register(kernel as i32, ringer.try_clone()?)?,
            ];
            caught.push(Caught { signal, flag, actions });
            match HANDLER.get() {
                Some(handler) => handler.put(kernel)?,
                // Just installed by the first of the two; whoever is here meanwhile has the same.
                None => drop(HANDLER.set(Action::of(kernel)?)),
            }
            mask.add(kernel);
        }
        mask.thread_unblock()?;
        Ok(Self { bell, caught })
    }

    /// What came since the last call.
    pub fn take(&self) -> Vec<Signal> {
        use io::Read;
        let mut bytes = [0; 64];
        // Emptied before the flags are read, so that a signal in between rings again. An error is
        // EAGAIN: it is empty.
        while let Ok(1..) = (&self.bell).read(&mut bytes) {}
        let set = self.caught.iter().filter(|caught| caught.flag.swap(false, Ordering::SeqCst));
        set.map(|caught| caught.signal).collect()
    }

    /// The descriptors that a child closes, beside those that [`Signals::forsake`] does.
    pub(crate) fn list_descriptors(&self, own: &mut OwnDescriptors) {
        own.add(&self.bell);
    }

    /// In a child, with all signals blocked: default dispositions, and no way to the parent's bell.
    pub(crate) fn forsake(&self) -> io::Result<()> {
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

/// What a process did with its signals before a server took them.
pub struct Dispositions {
    actions: Vec<(signal::Signal, Action)>,
    mask: SigSet,
}

impl Dispositions {
    /// Looks at all that [`Signals::install`] changes.
    pub fn save() -> io::Result<Self> {
        let kernel = Signal::ALL.map(Signal::kernel);
        let all = kernel.into_iter().chain([signal::Signal::SIGPIPE]);
        let actions = all.map(|number| Ok((number, Action::of(number)?)));
        Ok(Self { actions: actions.collect::<io::Result<_>>()?, mask: SigSet::thread_get_mask()? })
    }

    /// Puts it all back; the handlers of [`Signals`] are gone by then.
    pub fn restore(&self) -> io::Result<()> {
        for (number, action) in &self.actions {
            action.put(*number)?;
        }
        Ok(self.mask.thread_set_mask()?)
    }
}

impl AsFd for Signals {
    /// Readable when a signal came.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    /// One test, because handlers are the process's and the harness runs tests in threads.
    #[test]
    fn a_signal_rings_once_is_told_once_and_strong_ones_come_first_also_the_second_time() {
        for _ in 0..2 {
            set_disposition(signal::Signal::SIGHUP, Disposition::Ignore).unwrap();
            let before = Dispositions::save().unwrap();
            rings_once();
            before.restore().unwrap();
            low_level::raise(signal::Signal::SIGHUP as i32).unwrap(); // Ignored: we live.
        }
    }

    fn rings_once() {
        let signals = Signals::install().unwrap();
        let is_rung = || {
            let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
        };
        assert!(!is_rung());
        for signal in [Signal::Ttin, Signal::Hup, Signal::Ttin, Signal::Int] {
            low_level::raise(signal.kernel() as i32).unwrap();
        }
        assert!(is_rung());
        assert_eq!(signals.take(), [Signal::Int, Signal::Hup, Signal::Ttin]);
        assert!(!is_rung());
        assert_eq!(signals.take(), []);
    }
}
