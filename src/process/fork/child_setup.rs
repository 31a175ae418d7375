//! A child's way from fork to its work: what it closes, resets and keeps.
#![expect(unsafe_code, reason = "prctl(2), close(2) and the environment")]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arctos_worker::process::signals;
use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::worker_init::WorkerExit;
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::unistd::{self, setpgid};
use thiserror::Error;

use crate::process::launch::Launch;
use crate::process::privileges::Identity;
use crate::process::signals::Signals;
use crate::system::descriptors::OwnDescriptors;
use crate::system::sd_notify;

/// What a child needs on its way to what it is for.
pub struct ChildSetup<'a> {
    /// The supervisor's handlers, to be undone.
    pub signals: &'a Signals,
    /// Who it runs as.
    pub identity: &'a Identity,
    /// Its name in ps(1).
    pub title: CString,
    /// What the supervisor has open for itself, which the child closes.
    pub own: OwnDescriptors,
}

/// Around a fork; what was blocked before.
pub(super) fn block_signals() -> SigSet {
    SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).expect("the mask is valid")
}

/// Runs a child's life. A panic ends here: above are the frames of the parent, with its destructors.
pub(crate) fn guarded(log: &Log, event: &str, life: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(life)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<&str>().copied();
        let words = words.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let pairs = [("message", Value::Text(words.unwrap_or("no message")))];
        log.line(Level::Critical, event, &pairs);
        WorkerExit::Internal.code()
    })
}

/// Asks the kernel for SIGKILL when `parent` ends; its thread that forked us, which is its only one.
pub(super) fn die_with(parent: unistd::Pid) -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if unistd::getppid() != parent {
        return Err(Errno::ESRCH); // It was gone before the kernel was asked to tell.
    }
    Ok(())
}

/// To setpgid(2): the caller.
pub(super) const SELF: unistd::Pid = unistd::Pid::from_raw(0);

/// What can go wrong between fork and what the child is for.
#[derive(Debug, Error)]
pub(crate) enum BerthError {
    #[error("cannot reset the signals: {0}")]
    Signals(io::Error),
    #[error("cannot change user or group: {0}")]
    Identity(Errno),
    #[error("cannot be bound to the life of the supervisor: {0}")]
    Parent(Errno),
}

/// From fork to the worker or zygote, in this order: no signal is lost on the supervisor's handlers, no
/// descriptor of the supervisor's and no right of root's is left when the application is loaded.
pub(super) fn prepare(
    launch: &dyn Launch,
    setup: &ChildSetup<'_>,
    ours: &[BorrowedFd<'_>],
    mask: &SigSet,
) -> Result<(), BerthError> {
    setup.signals.forsake().map_err(BerthError::Signals)?;
    close_own(&setup.own, ours);
    // Before the application is imported, which may take long: `pkill -HUP` must not kill a worker that
    // boots. TERM, QUIT and INT stay default until then, because nobody could be told to leave.
    signals::stand_by().map_err(|error| BerthError::Signals(error.into()))?;
    mask.thread_set_mask().expect("the mask is valid");
    launch.after_fork_child();
    // A group of its own, so that a kill takes the processes that the application started with it.
    let _ = setpgid(SELF, SELF); // The supervisor does the same.
    for name in sd_notify::own_variables() {
        // SAFETY: this process has one thread, so nobody else reads the environment.
        unsafe { std::env::remove_var(name) };
    }
    become_somebody(setup.identity).map_err(BerthError::Identity)?;
    let _ = prctl::set_name(&setup.title); // A name in ps(1), and no more.
    Ok(())
}

/// Takes the identity on.
fn become_somebody(identity: &Identity) -> Result<(), Errno> {
    if identity.gives_up_privileges() {
        empty_bounding_set(); // Root alone may.
        identity.assume()?;
        return prctl::set_no_new_privs();
    }
    identity.assume()
}

/// Takes every capability out of what a program could give to this process or its children. Without CAP_SETPCAP,
/// in a container that has dropped it, it stays: PR_SET_NO_NEW_PRIVS holds all the same.
fn empty_bounding_set() {
    const NONE: libc::c_ulong = 0;
    for capability in 0..libc::c_ulong::from(u8::MAX) {
        // SAFETY: this command touches no memory.
        let outcome = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, NONE, NONE, NONE) };
        if outcome != 0 {
            return; // EINVAL: the kernel knows no more; EPERM: see above.
        }
    }
}

/// Closes what the supervisor keeps for itself. All else that is open belongs to the child, or to somebody
/// whose code goes on running in it.
fn close_own(own: &OwnDescriptors, ours: &[BorrowedFd<'_>]) {
    let ours = ours.iter().map(AsRawFd::as_raw_fd);
    for number in own.numbers().iter().copied().chain(ours) {
        // SAFETY: the descriptor is the child's copy of one whose owner is a value of the supervisor's. It was
        // open at the fork, nothing has run since, and the owner is neither used nor dropped in the child.
        unsafe { libc::close(number) };
    }
}
