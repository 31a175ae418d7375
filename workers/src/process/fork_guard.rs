//! What a fork of the application's must not share with its worker.
//!
//! An application may fork (os.fork, multiprocessing, a C library). The child must not hold our
//! listeners, connections and epoll instance open, and must never go on as a second worker. A
//! pthread_atfork(3) handler closes our descriptors in the child, whoever forked; after each call of the
//! application the loop asks [`is_forked`], before it counts or sends anything.
//!
//! In a worker this holds from the moment it is forked ([`begin`]), before the first line of the application's
//! code: its imports and hooks may fork as well. Where the loop is not all that its process does, it holds as
//! long as the loop runs: a fork before or after it is nobody's business, and such a child may have a loop of its
//! own. A fork of ours, in a zygote, is let through ([`pass`]): its child is the next worker.
#![expect(unsafe_code, reason = "pthread_atfork(3), and closing by number in the child it runs in")]

use std::cell::Cell;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};

use nix::libc;

/// Descriptors above this are not guarded; it is above the usual RLIMIT_NOFILE.
const WORDS: usize = (1 << 20) / 64;

/// One bit a descriptor of ours. Pages are touched only as descriptors are used.
static OURS: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
static FORKED: AtomicBool = AtomicBool::new(false);
/// What becomes standard error in children; -1 is none.
static REPLACED: AtomicI32 = AtomicI32::new(-1);
/// The process that guards; 0 is none.
static GUARDING: AtomicU32 = AtomicU32::new(0);

thread_local! {
    /// Whether this thread's fork is ours.
    static PASSING: Cell<bool> = const { Cell::new(false) };
}

/// This process guards its descriptors. When the outermost of these is dropped, it guards none any more.
pub struct Guarded {
    /// What held before this process began; `None` where it had begun already.
    before: Option<Before>,
}

struct Before {
    /// A child that came out of one loop may run another before it goes back there.
    was_forked: bool,
    guarding: u32,
}

/// From now on this process guards, and is not the child of another one that does.
pub fn begin() -> Guarded {
    install();
    let process = std::process::id();
    let guarding = GUARDING.swap(process, Ordering::Relaxed);
    if guarding == process {
        return Guarded { before: None };
    }
    let was_forked = FORKED.swap(false, Ordering::Relaxed);
    Guarded { before: Some(Before { was_forked, guarding }) }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let Some(Before { was_forked, guarding }) = self.before else { return };
        for word in OURS.iter().filter(|word| word.load(Ordering::Relaxed) != 0) {
            word.store(0, Ordering::Relaxed);
        }
        FORKED.store(was_forked, Ordering::Relaxed);
        GUARDING.store(guarding, Ordering::Relaxed);
    }
}

/// Installs the handler in this process, once.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `in_child` is async-signal-safe: it reads atomics and a thread-local that was
        // initialized at compile time, and calls close(2) and dup3(2) only.
        let result = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        debug_assert_eq!(result, 0, "pthread_atfork only fails without memory");
    });
}

/// This descriptor is closed in children.
pub fn guard(fd: BorrowedFd<'_>) {
    mark(fd.as_raw_fd(), true);
}

/// Called before a guarded descriptor is closed or handed away.
pub fn forget(fd: BorrowedFd<'_>) {
    mark(fd.as_raw_fd(), false);
}

/// This descriptor, which stays open to the end of the process, is a duplicate of standard error in children.
/// It cannot be closed there: `faulthandler` goes on writing to its number, which would be somebody else's.
pub fn replace_in_children(fd: BorrowedFd<'_>) {
    REPLACED.store(fd.as_raw_fd(), Ordering::Relaxed);
}

/// A descriptor that is guarded as long as this lives. It is to be dropped before the descriptor is closed: the
/// number may be somebody else's a moment later.
#[must_use]
pub struct Mark(RawFd);

impl Mark {
    /// Guards it.
    pub fn of(fd: BorrowedFd<'_>) -> Self {
        guard(fd);
        Self(fd.as_raw_fd())
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        mark(self.0, false);
    }
}

/// The owner of a descriptor that is guarded as long as it is open.
pub struct Private<F> {
    /// First, because it goes first.
    _mark: Mark,
    own: F,
}

impl<F: AsFd> Private<F> {
    /// Guards it.
    pub fn new(own: F) -> Self {
        Self { _mark: Mark::of(own.as_fd()), own }
    }
}

impl<F: AsFd> AsFd for Private<F> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.own.as_fd()
    }
}

/// Calls fork(2) for a child that goes on with the guarded descriptors, and guards them in turn.
pub fn pass<T>(fork: impl FnOnce() -> T) -> T {
    PASSING.set(true);
    let outcome = fork();
    PASSING.set(false);
    GUARDING.store(std::process::id(), Ordering::Relaxed);
    outcome
}

/// Whether this process is a child that the application forked off the loop's process.
pub fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Ends a child that came back from the application, without any cleaning up: everything it has is
/// its parent's, the counters among it.
pub fn leave() -> ! {
    leave_with(0)
}

/// The same with an exit status, which the child's parent may wait for.
pub fn leave_with(status: i32) -> ! {
    // SAFETY: _exit(2) never returns and touches no memory of ours.
    unsafe { libc::_exit(status) }
}

fn mark(fd: RawFd, is_ours: bool) {
    let Ok(index) = usize::try_from(fd) else { return };
    let Some(word) = OURS.get(index / 64) else { return };
    let bit = 1_u64 << (index % 64);
    // One thread of the worker writes; a plain load and store is enough.
    let before = word.load(Ordering::Relaxed);
    word.store(if is_ours { before | bit } else { before & !bit }, Ordering::Relaxed);
}

extern "C" fn in_child() {
    if PASSING.get() {
        return;
    }
    FORKED.store(true, Ordering::Relaxed);
    for (index, word) in OURS.iter().enumerate() {
        let mut bits = word.load(Ordering::Relaxed);
        while bits != 0 {
            let fd = index * 64 + bits.trailing_zeros() as usize;
            // SAFETY: the descriptor is this child's duplicate of one of ours; nothing in the child
            // uses it, because the loop never runs again here (`is_forked`).
            unsafe { libc::close(fd as RawFd) };
            bits &= bits - 1;
        }
        if word.load(Ordering::Relaxed) != 0 {
            word.store(0, Ordering::Relaxed);
        }
    }
    let replaced = REPLACED.swap(-1, Ordering::Relaxed);
    if replaced >= 0 {
        // SAFETY: touches no memory. The number is of a descriptor of ours that is open to the end of the
        // process. EBADF, where the application has closed standard error: then it stays what it is.
        unsafe { libc::dup3(libc::STDERR_FILENO, replaced, libc::O_CLOEXEC) };
    }
}
