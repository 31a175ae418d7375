//! Signals that reach a worker directly: a handler stores a word and rings the doorbell.
//!
//! Plain sigaction(2) with SA_RESTART, not signalfd(2): a blocked mask is inherited by the
//! application's subprocesses and makes `Popen.terminate()` do nothing. Installed after the application
//! is loaded, so that what it did to our signals at import can be seen and put right.
#![expect(unsafe_code, reason = "sigaction(2) takes a handler that runs at any moment")]

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

static DOORBELL: AtomicI32 = AtomicI32::new(-1);
static ASKED: AtomicU8 = AtomicU8::new(0);
const DRAIN: u8 = 1;
const QUICK: u8 = 2;

/// What a worker ignores from the moment it is forked, so that `pkill -HUP` meant for the supervisor does
/// not kill workers. An application may take SIGUSR2 for itself at import; the others are ignored anew
/// when it is loaded.
pub const IGNORED: [Signal; 7] = [
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGWINCH,
    Signal::SIGPIPE,
];

/// What a signal asked of this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// Nothing.
    Nothing,
    /// TERM, QUIT: finish what was taken and leave.
    Drain,
    /// INT: leave after the running request.
    Quick,
}

/// Installs the worker's dispositions; returns the signals whose disposition the application had
/// changed.
pub fn install(doorbell: BorrowedFd<'_>) -> nix::Result<Vec<Signal>> {
    DOORBELL.store(doorbell.as_raw_fd(), Ordering::Relaxed);
    let handler = SigHandler::Handler(on_signal);
    let mut replaced = Vec::new();
    for signal in [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGINT] {
        if was_changed(set(signal, handler)?, signal) {
            replaced.push(signal);
        }
    }
    for signal in IGNORED.into_iter().filter(|signal| *signal != Signal::SIGUSR2) {
        set(signal, SigHandler::SigIgn)?;
    }
    Ok(replaced)
}

/// What was asked so far. It only ever rises.
pub fn asked() -> Asked {
    match ASKED.load(Ordering::Relaxed) {
        0 => Asked::Nothing,
        DRAIN => Asked::Drain,
        _ => Asked::Quick,
    }
}

/// SIGINT is CPython's own until the application or we take it; any other handler on these three was
/// put there by the application.
fn was_changed(before: SigAction, signal: Signal) -> bool {
    match before.handler() {
        // Ignored is what nohup(1) and shells' background jobs hand down.
        SigHandler::SigDfl | SigHandler::SigIgn => false,
        SigHandler::Handler(_) | SigHandler::SigAction(_) => signal != Signal::SIGINT,
    }
}

fn set(signal: Signal, handler: SigHandler) -> nix::Result<SigAction> {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: `on_signal` is async-signal-safe: it uses atomics and write(2) only.
    unsafe { sigaction(signal, &action) }
}

extern "C" fn on_signal(signal: libc::c_int) {
    let asked = if signal == libc::SIGINT { QUICK } else { DRAIN };
    ASKED.fetch_max(asked, Ordering::Relaxed);
    let errno = Errno::last_raw();
    let one = 1_u64.to_ne_bytes();
    // SAFETY: write(2) is async-signal-safe and the buffer is eight bytes, as eventfd(2) wants; a
    // closed or full descriptor is an error that needs no answer here.
    unsafe { libc::write(DOORBELL.load(Ordering::Relaxed), one.as_ptr().cast(), one.len()) };
    Errno::set_raw(errno);
}
