//! Takes samples of the Python stack of this worker, when a signal of the supervisor asks for one.
//!
//! The handler runs in the thread that runs requests, wherever it is: in the interpreter, in C code that never returns,
//! in a system call. It does not use the interpreter, which may be in the middle of anything. It reads the frames from
//! memory, at the offsets of the running version ([`layout`]), and every read goes through the kernel, which refuses an
//! address without memory ([`own_memory`]). So it cannot crash, and takes no lock.
//!
//! | way | why not |
//! |---|---|
//! | py-spy's: the supervisor reads the memory of its workers (process_vm_readv(2)) | refused (EPERM) for workers that have changed their user, and for those that are not dumpable, unless the supervisor has CAP_SYS_PTRACE, which Docker does not give; refused by Yama from `ptrace_scope` 2 on; the crate brings 84 packages; a consistent sample needs ptrace(2) to stop the worker |
//! | a sample at the next check of the eval loop (`Py_AddPendingCall`, a handler in Python) | C code that does not return is never seen, and time in an operator is seen in a later line; `Py_AddPendingCall` takes a lock, so a handler may not call it |
//! | a thread that samples | os.fork() warns in a process with threads, and the thread cannot be started while the worker is in C code |
//! | a timer in the worker | it has to be armed and stopped; the supervisor, which reaps its workers, can send a signal at no risk, and none to a worker that is idle |
//!
//! SA_RESTART lets most system calls go on. poll(2), select(2) and sleeps are interrupted by any handler: Python
//! continues them by itself (PEP 475).
#![expect(unsafe_code, reason = "a signal handler, which finds its values in statics")]

pub mod layout;
mod memory;
mod own_memory;
mod walk;

use std::ffi::c_int;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use nix::errno::Errno;
use nix::libc;

use super::signals::{self, is_worker, sample_signal, take_default_action};
use crate::shared::samples::SampleArea;
use crate::shared::scoreboard::WorkerEntry;

pub use layout::Layout;
pub use memory::Memory;
pub use own_memory::OwnMemory;
pub use walk::Interpreter;
use walk::{KnownCode, Target};

/// What the handler needs; null until it is installed.
static SAMPLER: AtomicPtr<Sampler> = AtomicPtr::new(ptr::null_mut());
static KNOWN: KnownCode = KnownCode::new();

/// The values of the handler. They live as long as the process, because a signal may come at any time.
struct Sampler {
    interpreter: Interpreter,
    area: &'static SampleArea,
    entry: &'static WorkerEntry,
    pid: u32,
}

/// Asks a worker for a sample. [`SampleArea::is_installed`] comes first.
///
/// Errors: ESRCH if there is no such process.
pub fn ask(pid: libc::pid_t) -> nix::Result<()> {
    signals::send_to_main_thread(pid, sample_signal())
}

/// Installs the handler in the thread that runs requests.
///
/// Errors: those of sigaction(2).
pub fn install(
    interpreter: Interpreter,
    area: &'static SampleArea,
    entry: &'static WorkerEntry,
) -> nix::Result<()> {
    let pid = std::process::id();
    let sampler = Box::leak(Box::new(Sampler { interpreter, area, entry, pid }));
    SAMPLER.store(sampler, Ordering::Release);
    signals::set_real_time(sample_signal(), on_signal)?;
    area.set_installed(pid);
    Ok(())
}

extern "C" fn on_signal(signal: c_int) {
    if !is_worker() {
        return take_default_action(signal);
    }
    let errno = Errno::last_raw();
    take();
    Errno::set_raw(errno);
}

/// Takes a sample. It is async-signal-safe (signal-safety(7)): it uses lock-free atomics, and the system calls pipe2(2),
/// write(2), writev(2), read(2) and close(2). Its arrays take 20 KB of the stack.
fn take() {
    // SAFETY: it is null, or was leaked.
    let Some(sampler) = (unsafe { SAMPLER.load(Ordering::Acquire).as_ref() }) else { return };
    let Sampler { interpreter, area, entry, pid } = sampler;
    let Some(session) = area.session() else { return };
    let Ok(memory) = OwnMemory::open() else { return area.lose() };
    let request = entry.call_start().map_or(0, |start| start.as_micros() as u64);
    let target = Target { area, known: &KNOWN, session, pid: *pid, request };
    walk::sample(&memory, interpreter, &target);
}

#[cfg(test)]
pub(crate) mod stage {
    use std::sync::Mutex;

    use super::*;

    /// The handler belongs to the process, so the tests that install one run one after another.
    pub(crate) static ALONE: Mutex<()> = Mutex::new(());

    /// Takes a sample of this thread, as a signal would.
    pub(crate) fn ask_this_thread() {
        // SAFETY: raise(3) sends the signal to this thread, and its handler has run when it returns.
        unsafe { libc::raise(sample_signal()) };
    }

    /// The number of this thread, for [`ask_thread`].
    pub(crate) fn this_thread() -> libc::c_long {
        // SAFETY: gettid(2) has no preconditions.
        unsafe { libc::syscall(libc::SYS_gettid) }
    }

    /// Asks a thread of this process for a sample.
    pub(crate) fn ask_thread(thread: libc::c_long) {
        let process = std::process::id();
        // SAFETY: tgkill(2) touches no memory.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, sample_signal()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_that_cannot_be_read_is_lost_and_errno_stays() {
        let _alone = stage::ALONE.lock();
        signals::inherit();
        let layout = Layout::of(3, 12).unwrap();
        let nowhere =
            Interpreter { layout, thread: 8, base: 0, code_type: 0, text_type: 0, bytes_type: 0 };
        let area = SampleArea::detached();
        install(nowhere, area, WorkerEntry::detached()).unwrap();
        assert!(area.is_installed(std::process::id()));
        stage::ask_this_thread();
        assert_eq!(area.lost(), 0, "no profile runs");
        area.begin(1);
        Errno::ENOTTY.set();
        stage::ask_this_thread();
        assert_eq!((area.lost(), Errno::last()), (1, Errno::ENOTTY));
        stage::ask_thread(stage::this_thread());
        assert_eq!(area.lost(), 2);
        area.end();
    }
}
