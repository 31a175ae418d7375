//! What a fork of the application's must not share with its worker.
//!
//! An application may fork (os.fork, multiprocessing, a C library). The child must not hold our
//! listeners, connections and epoll instance open, and must never go on as a second worker. A
//! pthread_atfork(3) handler closes our descriptors in the child, whoever forked; after each call of the
//! application the loop asks [`is_forked`], before it counts or sends anything.
//!
//! All of this holds as long as a loop runs ([`begin`]): where the loop is not all that its process does,
//! a fork before or after it is nobody's business, and such a child may have a loop of its own.
#![expect(unsafe_code, reason = "pthread_atfork(3), and closing by number in the child it runs in")]

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nix::libc;

/// Descriptors above this are not guarded; it is above the usual RLIMIT_NOFILE.
const WORDS: usize = (1 << 20) / 64;

/// One bit a descriptor of ours. Pages are touched only as descriptors are used.
static OURS: [AtomicU64; WORDS] = [const { AtomicU64::new(0) }; WORDS];
static FORKED: AtomicBool = AtomicBool::new(false);

/// A loop runs in this process. When this is dropped, no descriptor is guarded any more.
pub struct Guarded {
    /// What held before: a child that came out of one loop may run another before it goes back there.
    was_forked: bool,
}

/// From now on a loop runs here, and this process is not the child of another one's.
pub fn begin() -> Guarded {
    install();
    Guarded { was_forked: FORKED.swap(false, Ordering::Relaxed) }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        for word in OURS.iter().filter(|word| word.load(Ordering::Relaxed) != 0) {
            word.store(0, Ordering::Relaxed);
        }
        FORKED.store(self.was_forked, Ordering::Relaxed);
    }
}

/// Installs the handler in this process, once.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: `in_child` is async-signal-safe: it reads atomics and calls close(2) only.
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
}
