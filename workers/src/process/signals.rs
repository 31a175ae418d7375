//! Signals that reach a worker directly: a handler stores a word and rings the doorbell.
//!
//! Plain sigaction(2) with SA_RESTART, not signalfd(2): a blocked mask is inherited by the
//! application's subprocesses and makes `Popen.terminate()` do nothing. Installed after the application
//! is loaded, so that what it did to our signals at import can be seen and put right.
//!
//! A child of the application starts with our handlers. In one of fork(2) they take the default action,
//! or `multiprocessing.Process.terminate()` would do nothing; those of execve(2) lose them by
//! themselves. That is why what is of no use here is caught and not ignored: SIG_IGN would pass to
//! every program that the application runs, and a shell cannot trap what was ignored at its start.
#![expect(unsafe_code, reason = "sigaction(2) takes a handler that runs at any moment")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::process::fork_guard;
use crate::shared::fd;

/// A duplicate of the doorbell, which is never closed: a signal may come until the process has ended, and a
/// number that is closed may be a file of the application's a moment later.
static DOORBELL: AtomicI32 = AtomicI32::new(-1);
/// The process that installed the handlers.
static WORKER: AtomicU32 = AtomicU32::new(0);
static ASKED: AtomicU8 = AtomicU8::new(0);
const DRAIN: u8 = 1;
const QUICK: u8 = 2;

/// What does nothing to a worker from the moment it is forked, so that `pkill -HUP` meant for the
/// supervisor does not kill workers. Who boots the application may have a use for SIGUSR2 (CPython's stacks);
/// the others are caught anew when it is loaded. WINCH does nothing by default.
const UNUSED: [Signal; 3] = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];
/// Caught, the first two would make a read of the terminal start over for ever; ignored, it fails.
const IGNORED: [Signal; 3] = [Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGPIPE];

/// What the supervisor's owner may send to a worker.
const ORDERS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGINT];

/// What a signal asked of this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signalled {
    /// Nothing.
    Nothing,
    /// TERM, QUIT: finish what was taken and leave.
    Drain,
    /// INT: leave after the running request.
    Quick,
}

/// The dispositions of a worker that is still loading its application: it cannot leave tidily yet, so
/// that TERM, QUIT and INT are left at their defaults.
pub fn stand_by() -> nix::Result<()> {
    WORKER.store(std::process::id(), Ordering::Relaxed);
    for signal in UNUSED {
        set(signal, SigHandler::Handler(on_unused))?;
    }
    for signal in IGNORED {
        set(signal, SigHandler::SigIgn)?;
    }
    Ok(())
}

/// In a worker that was forked with its application loaded, by a process that stands by: the handlers are
/// there, and are this process's from now on. What the application took for itself stays.
pub fn inherit() {
    WORKER.store(std::process::id(), Ordering::Relaxed);
}

/// Installs the worker's dispositions; returns the signals whose disposition the application had
/// changed.
///
/// Errors: EMFILE.
pub fn install(doorbell: BorrowedFd<'_>) -> io::Result<Vec<Signal>> {
    let doorbell = fd::duplicate(doorbell.as_raw_fd())?;
    fork_guard::guard(doorbell.as_fd());
    DOORBELL.store(doorbell.into_raw_fd(), Ordering::Relaxed);
    WORKER.store(std::process::id(), Ordering::Relaxed);
    let handler = SigHandler::Handler(on_signal);
    let mut replaced = Vec::new();
    for signal in ORDERS {
        if was_changed(set(signal, handler)?, signal) {
            replaced.push(signal);
        }
    }
    for signal in UNUSED.into_iter().filter(|signal| *signal != Signal::SIGUSR2) {
        set(signal, SigHandler::Handler(on_unused))?;
    }
    for signal in IGNORED {
        set(signal, SigHandler::SigIgn)?;
    }
    Ok(replaced)
}

/// Puts back the handlers that the application has replaced since then; returns whose.
///
/// Nothing where they were never installed: in a process whose signals are somebody else's.
pub fn reinstall() -> Vec<Signal> {
    let is_ours = |signal: &Signal| handler(*signal) == Some(on_signal as *const () as usize);
    let mut replaced = Vec::new();
    if !is_worker() {
        return replaced;
    }
    for signal in ORDERS.into_iter().filter(|signal| !is_ours(signal)) {
        if set(signal, SigHandler::Handler(on_signal)).is_ok() {
            replaced.push(signal);
        }
    }
    replaced
}

/// Where the handler of a signal is, to be compared; `None` where the kernel knows no such signal.
pub fn handler(signal: Signal) -> Option<usize> {
    let mut found = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null action changes nothing; the kernel writes the present one to `found`.
    let asked =
        unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), found.as_mut_ptr()) };
    // SAFETY: the call succeeded, so it was written.
    (asked == 0).then(|| unsafe { found.assume_init() }.sa_sigaction)
}

/// What was asked so far. It only ever rises.
pub fn requested() -> Signalled {
    match ASKED.load(Ordering::Relaxed) {
        0 => Signalled::Nothing,
        DRAIN => Signalled::Drain,
        _ => Signalled::Quick,
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
    // SAFETY: both handlers are async-signal-safe: they use atomics, getpid(2), write(2), signal(2) and
    // raise(3) only.
    unsafe { sigaction(signal, &action) }
}

extern "C" fn on_unused(signal: libc::c_int) {
    if !is_worker() {
        take_default_action(signal);
    }
}

extern "C" fn on_signal(signal: libc::c_int) {
    if !is_worker() {
        return take_default_action(signal);
    }
    let asked = if signal == libc::SIGINT { QUICK } else { DRAIN };
    ASKED.fetch_max(asked, Ordering::Relaxed);
    let errno = Errno::last_raw();
    let one = 1_u64.to_ne_bytes();
    // SAFETY: write(2) is async-signal-safe and the buffer is eight bytes, as eventfd(2) wants. The number is
    // the doorbell's as long as the process lives (`install`); a full one is an error that needs no answer.
    unsafe { libc::write(DOORBELL.load(Ordering::Relaxed), one.as_ptr().cast(), one.len()) };
    Errno::set_raw(errno);
}

/// Whether this process installed the handlers. A child cannot be told so by pthread_atfork(3): a
/// signal may come before that has run.
fn is_worker() -> bool {
    WORKER.load(Ordering::Relaxed) == std::process::id()
}

/// What the signal does to a process that has no handler for it, once this handler returns.
fn take_default_action(signal: libc::c_int) {
    // SAFETY: signal(2) is async-signal-safe, and SIG_DFL is no function.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: raise(3) is async-signal-safe; the signal is blocked as long as its handler runs.
    unsafe { libc::raise(signal) };
}
