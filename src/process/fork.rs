//! The one fork: what a child closes, resets and keeps. [`Launch`] is how this crate starts a worker
//! without knowing Python; [`run_helper`] is for a child that is no worker.
//!
//! Owns fork(2), waitpid(2), dispositions and the child's way from fork to [`Launch::work`]. Knows
//! nothing of slots, backoffs or the reasons to start a worker.
//!
//! The child runs ordinary code, which fork(2) allows only to a process with one thread:
//! [`spawn`] refuses otherwise. All signals are blocked around the fork, so none can reach the
//! child while it still has the supervisor's handlers, which write to the supervisor's own socket.
//! How a zygote forks its workers, in other circumstances, is in [`twice`].
#![expect(unsafe_code, reason = "fork(2), sigaction(2), waitpid(2), prctl(2), _exit(2)")]

pub mod child;
pub(crate) mod double;
mod helper;

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

use arctos_worker::process::fork_guard;
use arctos_worker::process::signals;
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::{Level, Log, Value};
use arctos_worker::worker_init::{LIFE_FAILED, WorkerExit, WorkerInit, receive_stacks_pipe};
use nix::errno::Errno;
use nix::libc;
use nix::sys::prctl;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal};
use nix::unistd::{self, ForkResult, setpgid, write};
use thiserror::Error;

pub use helper::{HelperProcess, run_helper};

use crate::process::privileges::Identity;
use crate::process::signals::Signals;
use crate::supervisor::slot::ExitStatus;
use crate::system::descriptors::OwnDescriptors;
use crate::system::pid::Pid;
use crate::system::sd_notify;

/// Starts workers: the extension module implements it for CPython, tests for plain Rust.
pub trait Launch {
    /// Called in the supervisor right before fork (PyOS_BeforeFork).
    fn before_fork(&self) {}
    /// Called in the supervisor right after fork, also when it failed (PyOS_AfterFork_Parent).
    fn after_fork_parent(&self) {}
    /// Called in the child right after fork (PyOS_AfterFork_Child).
    fn after_fork_child(&self) {}
    /// Why new code cannot be loaded, where it cannot.
    fn reload_refusal(&self) -> Option<&'static str> {
        None
    }
    /// Why this program cannot start itself anew as a process of its own, where it cannot.
    fn upgrade_refusal(&self) -> Option<&'static str> {
        Some("this program cannot be started anew")
    }
    /// Runs a worker, in the child, to its end: loads the application, reports on the life socket,
    /// serves. The caller exits with the code; nothing of the supervisor's runs any more.
    fn work(&self, init: WorkerInit) -> WorkerExit;
    /// Does once for a load of the code, in a process of its own, what is to be done before its first
    /// worker.
    fn open(&self, _generation: Generation, _log: &Log) -> Result<(), LoadFailure> {
        Ok(())
    }
    /// Loads the application in a zygote, whose workers are then forked with it; before that, does what
    /// [`Launch::open`] would do. What goes wrong later goes to this log.
    fn preload(
        &self,
        _generation: Generation,
        _log: &Log,
    ) -> Result<Box<dyn Preloaded + '_>, LoadFailure> {
        let report = "This application cannot be loaded before its workers are forked.".to_owned();
        Err(LoadFailure { exit: WorkerExit::NotBooted, report })
    }
}

/// An application that was loaded before its workers.
pub trait Preloaded {
    /// Called in the zygote before a worker for this place is forked, while all is as it always was.
    fn before_fork(&self, _slot: SlotId) {}
    /// As [`Launch::work`], with nothing left to load.
    fn work(&self, init: WorkerInit) -> WorkerExit;
}

/// Why an application cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadFailure {
    /// How a worker would have ended.
    pub exit: WorkerExit,
    /// For a person: a traceback, as a rule.
    pub report: String,
}

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

/// Why there is no child.
#[derive(Debug, Error)]
pub enum ForkError {
    /// The threads of this process cannot be counted.
    #[error("cannot count the threads of this process: {0}")]
    Uncounted(io::Error),
    /// There are threads, whose locks the child would wait for.
    #[error("this process has threads beside the main one: {}", names.join(", "))]
    Threads {
        /// The names of all threads.
        names: Vec<String>,
    },
    /// fork(2) failed.
    #[error("fork: {0}")]
    System(Errno),
}

/// Forks a worker.
///
/// The parent's copies of the init's descriptors are closed on return. The child does not return.
pub fn spawn(
    launch: &dyn Launch,
    init: WorkerInit,
    setup: &ChildSetup<'_>,
) -> Result<Pid, ForkError> {
    spawn_child(launch, |mask| live(launch, init, setup, mask))
}

/// Forks a child that runs `life` to its end, and ends with its exit code.
fn spawn_child(launch: &dyn Launch, life: impl FnOnce(&SigSet) -> i32) -> Result<Pid, ForkError> {
    let names = thread_names().map_err(ForkError::Uncounted)?;
    if names.len() != 1 {
        return Err(ForkError::Threads { names });
    }
    launch.before_fork();
    let mask = block_signals();
    // SAFETY: the child runs more than async-signal-safe code (fork(2)), which is sound only while
    // this process has one thread: counted above, and nothing between starts one.
    let forked = unsafe { nix::unistd::fork() };
    if let Ok(ForkResult::Child) = forked {
        let code = life(&mask);
        // SAFETY: ends the process without destructors or atexit handlers, which are the parent's.
        unsafe { libc::_exit(code) }
    }
    mask.thread_set_mask().expect("the mask is valid");
    launch.after_fork_parent();
    match forked.map_err(ForkError::System)? {
        ForkResult::Parent { child } => {
            // The child does the same: whoever comes first, the group is there when it is signalled.
            let _ = setpgid(child, child); // It may have exited already, and needs no group.
            Ok(Pid(child.as_raw()))
        }
        ForkResult::Child => unreachable!("the child has exited"),
    }
}

/// Around a fork; what was blocked before.
fn block_signals() -> SigSet {
    SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK).expect("the mask is valid")
}

/// The child's life.
fn live(launch: &dyn Launch, mut init: WorkerInit, setup: &ChildSetup<'_>, mask: &SigSet) -> i32 {
    let log = init.log.with_identity(init.slot, std::process::id(), init.generation);
    init.log = log.with_row(&init.entry.counters);
    let log = init.log.clone();
    // Before the interpreter hears of the fork: what it calls then is foreign, too.
    let _guarded = fork_guard::begin();
    init.guard();
    guarded(&log, "worker.panic", || {
        let prepared = prepare(launch, setup, &[], mask);
        let exit = match prepared {
            Ok(()) => {
                // Until it is ready it has accepted nothing, and nobody else would end an import that hangs.
                let _ = init.supervisor.bind(); // Without it the worker can do all that it is for.
                if init.supervisor.is_gone() {
                    return WorkerExit::NotBooted.code();
                }
                init.log = init.log.with_stacks_pipe(receive_stacks_pipe(init.life.as_fd()));
                launch.work(init)
            }
            Err(error) => {
                let mut words = vec![LIFE_FAILED];
                words.extend(format!("{error}\n").bytes());
                // Nobody there to hear it: then the exit status must do.
                let _ = write(&init.life, &words);
                WorkerExit::NotBooted
            }
        };
        exit.code()
    })
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

/// Forks a zygote, which closes `ours` as well: our ends of what it is given. `life` hears whether it could be
/// made one. It dies with the supervisor, also where it hangs in an import.
pub(crate) fn spawn_zygote(
    launch: &dyn Launch,
    setup: &ChildSetup<'_>,
    log: &Log,
    ours: &[BorrowedFd<'_>],
    life: impl FnOnce(Result<(), BerthError>) -> i32,
) -> Result<Pid, ForkError> {
    spawn_bound(launch, setup, log, "zygote.panic", ours, life)
}

/// The same for a child that does something else; `panic` is the line in the log where it panics.
pub(crate) fn spawn_bound(
    launch: &dyn Launch,
    setup: &ChildSetup<'_>,
    log: &Log,
    panic: &str,
    ours: &[BorrowedFd<'_>],
    life: impl FnOnce(Result<(), BerthError>) -> i32,
) -> Result<Pid, ForkError> {
    let supervisor = unistd::getpid();
    spawn_child(launch, |mask| {
        guarded(log, panic, || {
            let prepared = prepare(launch, setup, ours, mask);
            // Only now: a change of the user undoes it (prctl(2)).
            life(prepared.and_then(|()| die_with(supervisor).map_err(BerthError::Parent)))
        })
    })
}

/// Asks the kernel for SIGKILL when `parent` ends; its thread that forked us, which is its only one.
fn die_with(parent: unistd::Pid) -> Result<(), Errno> {
    prctl::set_pdeathsig(Signal::SIGKILL)?;
    if unistd::getppid() != parent {
        return Err(Errno::ESRCH); // It was gone before the kernel was asked to tell.
    }
    Ok(())
}

/// To setpgid(2): the caller.
const SELF: unistd::Pid = unistd::Pid::from_raw(0);

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
fn prepare(
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

/// Reaps a child that is about to end: this waits for it.
pub fn await_end(pid: Pid) {
    let mut status = 0;
    // SAFETY: writes to `status` and nothing else.
    while unsafe { libc::waitpid(pid.0, &raw mut status, 0) } < 0 && Errno::last() == Errno::EINTR {
    }
}

/// What a server is called that has no other name.
pub const NAME: &str = "arctos";

/// The name of a worker in ps(1), `NAME: w0`: 15 bytes (prctl(2)), of which the slot keeps its own.
pub fn title(name: &str, slot: SlotId) -> CString {
    titled(name, &format!(": w{slot}"))
}

/// The name of a zygote in ps(1), `NAME: zygote`.
pub fn zygote_title(name: &str) -> CString {
    titled(name, ": zygote")
}

/// The name of the process in ps(1) that opens a generation, `NAME: start`.
pub fn opening_title(name: &str) -> CString {
    titled(name, ": start")
}

fn titled(name: &str, suffix: &str) -> CString {
    const TITLE_BYTES: usize = 15;
    let mut title = name.as_bytes().to_vec();
    title.retain(|&byte| byte != 0);
    title.truncate(TITLE_BYTES - suffix.len());
    title.extend(suffix.bytes());
    CString::new(title).expect("there is no NUL left")
}

/// The names of the threads of this process.
pub fn thread_names() -> io::Result<Vec<String>> {
    Ok(threads()?.into_iter().map(|(_, name)| name).collect())
}

/// The names of the threads beside the main one.
pub(crate) fn further_thread_names() -> io::Result<Vec<String>> {
    Ok(without_main(threads()?).into_iter().map(|(_, name)| name).collect())
}

fn without_main(threads: Vec<(OsString, String)>) -> Vec<(OsString, String)> {
    let main = std::process::id().to_string();
    threads.into_iter().filter(|(id, _)| *id != *main).collect()
}

/// The threads of this process: number and name.
fn threads() -> io::Result<Vec<(OsString, String)>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        // A thread that ends while it is listed has no name any more.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        threads.push((entry.file_name(), name.trim_end().to_owned()));
    }
    Ok(threads)
}

/// One child that has ended, whoever started it; `None` when there is none at present.
///
/// Not nix's waitpid(2): it fails on a status with a real-time signal, after the child was reaped.
pub fn reap() -> Option<(Pid, ExitStatus)> {
    loop {
        let mut status = 0;
        // SAFETY: writes to `status` and nothing else.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        if pid <= 0 {
            return None; // 0: none has ended; ECHILD: there is none.
        }
        if libc::WIFEXITED(status) {
            return Some((Pid(pid), ExitStatus::Code(libc::WEXITSTATUS(status))));
        }
        if libc::WIFSIGNALED(status) {
            return Some((Pid(pid), ExitStatus::Signal(libc::WTERMSIG(status))));
        }
        // Stopped under a debugger that is ourselves: not an end.
    }
}

/// What the kernel does with a signal, handler and all: to be put back later.
#[derive(Clone, Copy)]
pub struct Action(libc::sigaction);

impl Action {
    /// What it does at present.
    pub fn of(number: Signal) -> io::Result<Self> {
        let mut found = std::mem::MaybeUninit::uninit();
        // SAFETY: a null action changes nothing; the kernel writes the present one to `found`.
        let asked =
            unsafe { libc::sigaction(number as libc::c_int, std::ptr::null(), found.as_mut_ptr()) };
        Errno::result(asked)?;
        // SAFETY: the call succeeded, so it was written.
        Ok(Self(unsafe { found.assume_init() }))
    }

    /// Does it from now on.
    pub fn put(&self, number: Signal) -> io::Result<()> {
        // SAFETY: whoever installed this handler before vouched for it; it was in force in this process.
        let put = unsafe {
            libc::sigaction(number as libc::c_int, &raw const self.0, std::ptr::null_mut())
        };
        Ok(Errno::result(put).map(drop)?)
    }
}

/// What the kernel does with a signal, without a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// SIG_DFL.
    Default,
    /// SIG_IGN.
    Ignore,
}

/// Replaces whatever handler there is.
pub fn set_disposition(number: Signal, disposition: Disposition) -> io::Result<()> {
    let handler = match disposition {
        Disposition::Default => SigHandler::SigDfl,
        Disposition::Ignore => SigHandler::SigIgn,
    };
    // SAFETY: installs no function, so none can be run at a bad time.
    unsafe { signal(number, handler) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_leaves_room_for_the_slot() {
        assert_eq!(title("arctos", SlotId(0)).as_bytes(), b"arctos: w0");
        assert_eq!(title("a-very-long-name", SlotId(12)).as_bytes(), b"a-very-lon: w12");
        assert_eq!(title("a-very-long-name", SlotId(u16::MAX)).as_bytes(), b"a-very-: w65535");
        assert_eq!(zygote_title("a-very-long-name").as_bytes(), b"a-very-: zygote");
    }

    #[test]
    fn threads_are_found_by_name() {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let (named, is_named) = std::sync::mpsc::channel::<()>();
        let wait = move || {
            named.send(()).unwrap();
            let _ = receiver.recv(); // Until the sender is dropped.
        };
        let thread = std::thread::Builder::new().name("stray".into()).spawn(wait).unwrap();
        is_named.recv().unwrap();
        assert!(thread_names().unwrap().contains(&"stray".to_owned()));
        let further = further_thread_names().unwrap();
        assert!(further.contains(&"stray".to_owned()));
        let all = threads().unwrap(); // Once: other tests have threads that come and go.
        assert_eq!(without_main(all.clone()).len() + 1, all.len(), "all but the main one");
        drop(sender);
        thread.join().unwrap();
    }
}
