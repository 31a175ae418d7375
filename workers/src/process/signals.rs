//! Signals that are sent to a worker directly: a handler stores the request and rings the doorbell.
//!
//! The worker uses sigaction(2) with SA_RESTART, not signalfd(2): the application's subprocesses would inherit the
//! blocked mask, and `Popen.terminate()` would do nothing. The handlers are installed after the application is
//! loaded, so that the worker sees and corrects what the application did to its signals at import.
//!
//! A child of the application starts with these handlers. After fork(2) they take the default action, because
//! otherwise `multiprocessing.Process.terminate()` would do nothing; execve(2) removes them. That is why the worker
//! catches the signals that it does not use, and does not ignore them: SIG_IGN would pass to every program that the
//! application runs, and a shell cannot trap a signal that was ignored when it started.
#![expect(unsafe_code, reason = "sigaction(2) takes a handler that runs at any moment")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd};
use std::sync::atomic::{AtomicI32, AtomicU8, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::process::fork_guard;
use crate::shared::fd;

/// A duplicate of the doorbell. It is never closed: a signal may come until the process has ended, and a closed
/// number may belong to a file of the application a moment later.
static DOORBELL: AtomicI32 = AtomicI32::new(-1);
/// The process that installed the handlers.
static WORKER: AtomicU32 = AtomicU32::new(0);
static REQUESTED: AtomicU8 = AtomicU8::new(0);
const DRAIN: u8 = 1;
const QUICK: u8 = 2;

/// Signals that do nothing to a worker from the moment it is forked, so that a `pkill -HUP` meant for the
/// supervisor does not kill workers. SIGUSR2 may be taken over while the application is loaded (CPython's stacks);
/// the others are caught again afterwards. WINCH does nothing by default.
const UNUSED: [Signal; 3] = [Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2];
/// If the first two were caught, a read of the terminal would restart for ever; if they are ignored, it fails.
const IGNORED: [Signal; 3] = [Signal::SIGTTIN, Signal::SIGTTOU, Signal::SIGPIPE];

/// Signals that make a worker exit.
const EXIT_SIGNALS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGQUIT, Signal::SIGINT];

/// What signals have requested of this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signalled {
    /// Nothing.
    Nothing,
    /// TERM, QUIT: finish every accepted request, then exit.
    Drain,
    /// INT: finish the replies under way, then exit.
    Quick,
}

/// The number of [`interrupt_signal`] above SIGRTMIN.
pub const INTERRUPT_OFFSET: libc::c_int = 12;

/// The signal that interrupts a request which takes too long.
///
/// A real-time signal, because the others have a meaning for the application or for its libraries. The C library uses
/// the first ones itself; programs that use such signals usually take the next ones or the last ones.
pub fn interrupt_signal() -> libc::c_int {
    libc::SIGRTMIN() + INTERRUPT_OFFSET
}

/// The signal that asks a worker for the connection of its running request ([`crate::process::passed_connection`]).
pub fn connection_signal() -> libc::c_int {
    interrupt_signal() + 1
}

/// The signal that asks a worker for a sample of its stack ([`crate::process::stack_sampler`]).
pub fn sample_signal() -> libc::c_int {
    interrupt_signal() + 2
}

/// Sends [`interrupt_signal`] to the main thread of a worker, which runs its requests.
///
/// Errors: ESRCH if there is no such process.
pub fn interrupt(pid: libc::pid_t) -> nix::Result<()> {
    send_to_main_thread(pid, interrupt_signal())
}

pub(super) fn send_to_main_thread(pid: libc::pid_t, signal: libc::c_int) -> nix::Result<()> {
    // SAFETY: tgkill(2) touches no memory. The main thread has the number of its process.
    let result = unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, signal) };
    Errno::result(result).map(drop)
}

/// Installs the dispositions of a worker that is still loading its application. It cannot exit gracefully yet, so
/// TERM, QUIT and INT keep their default action.
pub fn stand_by() -> nix::Result<()> {
    WORKER.store(std::process::id(), Ordering::Relaxed);
    for signal in UNUSED {
        set(signal, SigHandler::Handler(on_unused))?;
    }
    for signal in IGNORED {
        set(signal, SigHandler::SigIgn)?;
    }
    // Until an interpreter takes over the first, `passed_connection` the second, and `stack_sampler` the third.
    set_real_time(interrupt_signal(), on_unused)?;
    set_real_time(connection_signal(), on_unused)?;
    set_real_time(sample_signal(), on_unused)
}

/// Takes over the handlers in a worker that was forked with its application loaded, by a process that has called
/// [`stand_by`]. Signals that the application handles itself stay as they are.
pub fn inherit() {
    WORKER.store(std::process::id(), Ordering::Relaxed);
}

/// Installs the dispositions of a worker that serves. Returns the signals whose disposition the application had
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
    for signal in EXIT_SIGNALS {
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

/// Reinstalls the handlers that the application has replaced since then, and returns their signals.
///
/// Does nothing in a process in which they were never installed, because its signals belong to another program.
pub fn reinstall() -> Vec<Signal> {
    let is_ours = |signal: &Signal| handler(*signal) == Some(on_signal as *const () as usize);
    let mut replaced = Vec::new();
    if !is_worker() {
        return replaced;
    }
    for signal in EXIT_SIGNALS.into_iter().filter(|signal| !is_ours(signal)) {
        if set(signal, SigHandler::Handler(on_signal)).is_ok() {
            replaced.push(signal);
        }
    }
    replaced
}

/// The address of the handler of a signal, for comparison; `None` if the kernel knows no such signal.
pub fn handler(signal: Signal) -> Option<usize> {
    // Zeroed, because not every C library writes all fields: musl leaves out `sa_restorer`.
    let mut found = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: a null action changes nothing; the C library writes the current one to `found`.
    let result =
        unsafe { libc::sigaction(signal as libc::c_int, std::ptr::null(), found.as_mut_ptr()) };
    // SAFETY: zeros are a valid action (SIG_DFL), and what the call wrote over them is one, too.
    (result == 0).then(|| unsafe { found.assume_init() }.sa_sigaction)
}

/// What was requested so far. It only becomes stricter.
pub fn requested() -> Signalled {
    match REQUESTED.load(Ordering::Relaxed) {
        0 => Signalled::Nothing,
        DRAIN => Signalled::Drain,
        _ => Signalled::Quick,
    }
}

/// Whether the application installed this handler. CPython has one of its own for SIGINT, for none of the other
/// signals.
fn was_changed(before: SigAction, signal: Signal) -> bool {
    match before.handler() {
        // nohup(1) and the background jobs of a shell ignore signals.
        SigHandler::SigDfl | SigHandler::SigIgn => false,
        SigHandler::Handler(_) | SigHandler::SigAction(_) => signal != Signal::SIGINT,
    }
}

fn set(signal: Signal, handler: SigHandler) -> nix::Result<SigAction> {
    let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
    // SAFETY: both handlers are async-signal-safe (signal-safety(7)): they use lock-free atomics, errno, which they
    // restore, getpid(2), write(2), signal(2) and raise(3) only. They are `extern "C"` and cannot panic.
    unsafe { sigaction(signal, &action) }
}

/// The same for a signal that [`Signal`] does not have.
pub(super) fn set_real_time(
    signal: libc::c_int,
    handler: extern "C" fn(libc::c_int),
) -> nix::Result<()> {
    // SAFETY: zeros are a valid action (SIG_DFL) with an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_RESTART;
    // SAFETY: the action is complete, and nobody asks for the former one; the handlers are as in `set`, or those of
    // `passed_connection` and `stack_sampler`, which are async-signal-safe as well.
    let result = unsafe { libc::sigaction(signal, &action, std::ptr::null_mut()) };
    Errno::result(result).map(drop)
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
    let requested = if signal == libc::SIGINT { QUICK } else { DRAIN };
    REQUESTED.fetch_max(requested, Ordering::Relaxed);
    let errno = Errno::last_raw();
    let one = 1_u64.to_ne_bytes();
    // SAFETY: write(2) is async-signal-safe, and eventfd(2) takes eight bytes. The number is the doorbell's as
    // long as the process lives (`install`). A full doorbell is an error that can be ignored.
    unsafe { libc::write(DOORBELL.load(Ordering::Relaxed), one.as_ptr().cast(), one.len()) };
    Errno::set_raw(errno);
}

/// Whether this process installed the handlers. A pthread_atfork(3) handler could not record that, because a
/// signal may come before it has run.
pub(super) fn is_worker() -> bool {
    WORKER.load(Ordering::Relaxed) == std::process::id()
}

/// Has the signal take its default action once this handler returns.
pub(super) fn take_default_action(signal: libc::c_int) {
    // SAFETY: signal(2) is async-signal-safe, and SIG_DFL is no function.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    // SAFETY: raise(3) is async-signal-safe; the signal is blocked as long as its handler runs.
    unsafe { libc::raise(signal) };
}
