//! What a child does between the fork and its work: what it closes, resets and keeps.

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

/// What a child needs to set itself up.
pub struct ChildSetup<'a> {
    /// The supervisor's handlers, which the child removes.
    pub signals: &'a Signals,
    /// The user and groups of the child.
    pub identity: &'a Identity,
    /// The name of the child in ps(1).
    pub title: CString,
    /// The supervisor's own descriptors, which the child closes.
    pub own: OwnDescriptors,
}

/// Blocks all signals around a fork, and returns the previous mask.
pub(super) fn block_signals() -> SigSet {
    SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).expect("the mask is valid")
}

/// Runs a child to its exit code. A panic stops here, because the parent's frames above would run its destructors.
pub(crate) fn catch_panic(log: &Log, event: &str, run: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let pairs = [("message", Value::Text(text.unwrap_or("no message")))];
        log.line(Level::Critical, event, &pairs);
        WorkerExit::Internal.code()
    })
}

/// Asks the kernel for SIGKILL when `parent` ends, or more precisely its only thread, which forked this child.
pub(super) fn die_with(parent: unistd::Pid) -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if unistd::getppid() != parent {
        return Err(Errno::ESRCH); // The parent ended before the request.
    }
    Ok(())
}

/// The caller itself, as an argument of setpgid(2).
pub(super) const SELF: unistd::Pid = unistd::Pid::from_raw(0);

/// Why a child cannot start its work.
#[derive(Debug, Error)]
pub(crate) enum ChildSetupError {
    #[error("cannot reset the signals: {0}")]
    Signals(io::Error),
    #[error("cannot change user or group: {0}")]
    Identity(Errno),
    #[error("cannot ask for SIGKILL at the end of the supervisor: {0}")]
    Parent(Errno),
}

/// Sets up a child. The order ensures that no signal reaches the supervisor's handlers, and that neither a
/// descriptor of the supervisor nor a privilege of root is left when the application is loaded.
pub(super) fn prepare(
    launch: &dyn Launch,
    setup: &ChildSetup<'_>,
    ours: &[BorrowedFd<'_>],
    mask: &SigSet,
) -> Result<(), ChildSetupError> {
    setup.signals.reset_in_child().map_err(ChildSetupError::Signals)?;
    close_own(&setup.own, ours);
    // This comes before the import of the application, which may take long: `pkill -HUP` must not kill a worker
    // that boots. TERM, QUIT and INT keep their default until then, because nothing could handle them yet.
    signals::stand_by().map_err(|error| ChildSetupError::Signals(error.into()))?;
    // The child leads a process group, so that a kill includes the processes that the application started.
    let _ = setpgid(SELF, SELF); // The supervisor does the same, whichever comes first.
    for name in sd_notify::own_variables() {
        // SAFETY: no other thread reads the environment, because this process has a single one: it was forked by a
        // process with a single thread, and no foreign code has run since.
        unsafe { std::env::remove_var(name) };
    }
    change_identity(setup.identity).map_err(ChildSetupError::Identity)?;
    let _ = prctl::set_name(&setup.title); // Cosmetic: a name in ps(1).
    mask.thread_set_mask().expect("the mask is valid");
    // This comes last, because hooks of the program run here (`os.register_at_fork`). A thread that one of them starts
    // would read the environment, and would keep capabilities: they and `no_new_privs` belong to a thread.
    launch.after_fork_child();
    Ok(())
}

/// Changes user and groups, and gives up what could undo that.
fn change_identity(identity: &Identity) -> Result<(), Errno> {
    if identity.gives_up_privileges() {
        empty_bounding_set(); // Only root may do this.
        identity.assume()?;
        return prctl::set_no_new_privs();
    }
    identity.assume()
}

/// Drops every capability from the bounding set, so that no program can give one to this process or its children.
/// This fails without CAP_SETPCAP, as in a container that dropped it; PR_SET_NO_NEW_PRIVS still holds then.
fn empty_bounding_set() {
    const NONE: libc::c_ulong = 0;
    for capability in 0..libc::c_ulong::from(u8::MAX) {
        // SAFETY: this command touches no memory.
        let outcome = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, NONE, NONE, NONE) };
        if outcome != 0 {
            return; // EINVAL: the kernel knows no further capability. EPERM: see above.
        }
    }
}

/// Closes the supervisor's own descriptors. All other descriptors belong to the child, or to code that continues to
/// run in it.
fn close_own(own: &OwnDescriptors, ours: &[BorrowedFd<'_>]) {
    let ours = ours.iter().map(AsRawFd::as_raw_fd);
    for number in own.numbers().iter().copied().chain(ours) {
        // SAFETY: the descriptor is the child's copy of one that a value of the supervisor owns. It was open at the
        // fork, nothing has run since, and its owner is neither used nor dropped in the child.
        unsafe { libc::close(number) };
    }
}
