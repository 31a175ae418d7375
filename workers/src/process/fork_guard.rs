//! Keeps the worker's descriptors from children that the application forks.
//!
//! An application may fork (`os.fork()`, multiprocessing, a C library). The child must not hold the worker's
//! listeners, connections and epoll instance open, and must never go on as a second worker. A pthread_atfork(3)
//! handler closes the guarded descriptors in the child, whoever forked. After each call of the application the
//! loop checks [`is_forked`], before it counts or sends anything.
//!
//! A worker guards its descriptors from the moment it is forked ([`begin`]), before the first line of the
//! application's code runs, because imports and hooks may fork as well. If the loop runs in the process of another
//! program, it guards them only while it runs: a fork before or after is none of its business, and such a child may
//! run a loop of its own. A zygote lets its own forks through ([`pass`]): the child is the next worker.
#![expect(unsafe_code, reason = "pthread_atfork(3), and closing by number in the child it runs in")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use nix::libc;

/// Descriptors above this are not guarded. It is above the usual RLIMIT_NOFILE.
const WORDS: usize = (1 << 20) / 64;

/// One bit per guarded descriptor. A page is touched only once its descriptors are used.
static GUARDED: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
static FORKED: AtomicBool = AtomicBool::new(false);
/// The descriptor that becomes standard error in children; -1 is none.
static REPLACED: AtomicI32 = AtomicI32::new(-1);
/// The process that guards its descriptors; 0 is none.
static GUARDING: AtomicU32 = AtomicU32::new(0);
/// The thread that forks by [`pass`]; 0 is none. It is no thread-local: the first use of one by a thread may allocate,
/// and a handler in the child of a process with threads must not.
static PASSING: AtomicUsize = AtomicUsize::new(0);

/// While this lives, the process guards its descriptors. Dropping the outermost one ends that.
pub struct ForkGuard {
    /// The state before; `None` if this process guarded already.
    before: Option<Before>,
}

struct Before {
    /// A child that was forked within one loop may run another one before it returns there.
    was_forked: bool,
    guarding: u32,
}

/// From now on this process guards its descriptors, and is not the child of another one that does.
pub fn begin() -> ForkGuard {
    install();
    let process = std::process::id();
    let guarding = GUARDING.swap(process, Ordering::Relaxed);
    if guarding == process {
        return ForkGuard { before: None };
    }
    let was_forked = FORKED.swap(false, Ordering::Relaxed);
    ForkGuard { before: Some(Before { was_forked, guarding }) }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        let Some(Before { was_forked, guarding }) = self.before else { return };
        for word in GUARDED.iter().filter(|word| word.load(Ordering::Relaxed) != 0) {
            word.store(0, Ordering::Relaxed);
        }
        FORKED.store(was_forked, Ordering::Relaxed);
        GUARDING.store(guarding, Ordering::Relaxed);
    }
}

/// Installs the handler in this process, but only once.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `in_child` may run in the child of a process with threads, because it is async-signal-safe
        // (signal-safety(7)): it uses lock-free atomics, and calls pthread_self(3), close(2) and dup3(2) only. It is
        // `extern "C"` and cannot panic. The code of this library is never unloaded: CPython does not close extensions.
        let result = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        debug_assert_eq!(result, 0, "pthread_atfork only fails without memory");
    });
}

/// Has children close this descriptor.
pub fn guard(fd: BorrowedFd<'_>) {
    set_guarded(fd.as_raw_fd(), true);
}

/// Undoes [`guard`]. Called before a descriptor is closed or given to another owner.
pub fn forget(fd: BorrowedFd<'_>) {
    set_guarded(fd.as_raw_fd(), false);
}

/// Has children replace this descriptor, which stays open to the end of the process, with a duplicate of standard
/// error. They cannot close it: `faulthandler` goes on writing to its number, which might then be another file.
pub fn replace_in_children(fd: BorrowedFd<'_>) {
    REPLACED.store(fd.as_raw_fd(), Ordering::Relaxed);
}

/// Guards a descriptor while this lives. It has to be dropped before the descriptor is closed, because the number
/// may belong to another file a moment later.
#[must_use]
pub struct FdGuard(RawFd);

impl FdGuard {
    /// Guards a descriptor.
    pub fn of(fd: BorrowedFd<'_>) -> Self {
        guard(fd);
        Self(fd.as_raw_fd())
    }
}

impl Drop for FdGuard {
    fn drop(&mut self) {
        set_guarded(self.0, false);
    }
}

/// An open descriptor that is guarded until it is closed.
pub struct GuardedFd<F> {
    /// Declared first, because it has to be dropped first.
    _guard: FdGuard,
    fd: F,
}

impl<F: AsFd> GuardedFd<F> {
    /// Guards a descriptor.
    pub fn new(fd: F) -> Self {
        Self { _guard: FdGuard::of(fd.as_fd()), fd }
    }

    /// The descriptor, for another owner.
    pub fn into_inner(self) -> F {
        self.fd
    }
}

impl<F: AsFd> AsFd for GuardedFd<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Calls fork(2) for a child that keeps the guarded descriptors, and guards them in turn.
pub fn pass<T>(fork: impl FnOnce() -> T) -> T {
    PASSING.store(this_thread(), Ordering::Relaxed);
    let outcome = fork();
    PASSING.store(0, Ordering::Relaxed);
    GUARDING.store(std::process::id(), Ordering::Relaxed);
    outcome
}

/// Whether this process is a child that the application forked.
pub fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Ends a child that returned from the application, without any cleanup: everything that it has belongs to its
/// parent, including the counters.
pub fn leave() -> ! {
    leave_with(0)
}

/// The same with an exit status, for which the parent of the child may wait.
pub fn leave_with(status: i32) -> ! {
    // SAFETY: _exit(2) never returns and touches no memory.
    unsafe { libc::_exit(status) }
}

fn set_guarded(fd: RawFd, is_guarded: bool) {
    let Ok(index) = usize::try_from(fd) else { return };
    let Some(word) = GUARDED.get(index / 64) else { return };
    let bit = 1_u64 << (index % 64);
    // Only one thread of the worker writes, so a plain load and store is enough.
    let before = word.load(Ordering::Relaxed);
    word.store(if is_guarded { before | bit } else { before & !bit }, Ordering::Relaxed);
}

/// A number that the calling thread shares with no other one, and keeps in the child of its fork.
fn this_thread() -> usize {
    // SAFETY: this call has no arguments and cannot fail.
    let thread = unsafe { libc::pthread_self() };
    thread as usize
}

extern "C" fn in_child() {
    if PASSING.load(Ordering::Relaxed) == this_thread() {
        return;
    }
    FORKED.store(true, Ordering::Relaxed);
    for (index, word) in GUARDED.iter().enumerate() {
        let mut bits = word.load(Ordering::Relaxed);
        while bits != 0 {
            let fd = index * 64 + bits.trailing_zeros() as usize;
            // SAFETY: the number is that of a guarded descriptor and of no other file, because it is forgotten before it
            // is closed (`GuardedFd`). Closing this child's duplicate does not affect the owner in the parent. The copy of
            // the owner in this child never uses or closes it, because the loop does not run again here (`is_forked`), and
            // `leave` ends the process without destructors.
            unsafe { libc::close(fd as RawFd) };
            bits &= bits - 1;
        }
        if word.load(Ordering::Relaxed) != 0 {
            word.store(0, Ordering::Relaxed);
        }
    }
    let replaced = REPLACED.swap(-1, Ordering::Relaxed);
    if replaced >= 0 {
        // SAFETY: touches no memory. The descriptor stays open to the end of the process. EBADF, if the
        // application has closed standard error, leaves it as it is.
        unsafe { libc::dup3(libc::STDERR_FILENO, replaced, libc::O_CLOEXEC) };
    }
}
