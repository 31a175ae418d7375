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
//! A sample says which request ran, and not on which route: the application names it in an object of Python, at any time of
//! the call. So the event loop reports the route at the end of each call in which a sample was taken ([`end_call`]).
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
use std::sync::atomic::{AtomicPtr, Ordering, compiler_fence};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};

use super::signals::{self, is_worker, sample_signal, take_default_action};
use crate::shared::samples::{SampleArea, message};
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

/// Names the route of a request whose call has ended, and is not on the scoreboard any more. It costs nothing but a load
/// unless a sample was taken in this call.
#[inline]
pub fn end_call<'a>(entry: &WorkerEntry, route: impl FnOnce() -> Option<&'a [u8]>) {
    // A signal that comes later finds no request, as long as the compiler leaves these loads behind the end of the call.
    compiler_fence(Ordering::SeqCst);
    if let Some(request) = entry.take_sampled() {
        report_route(request, route().unwrap_or_default());
    }
}

#[cold]
fn report_route(request: Duration, route: &[u8]) {
    let Some(Sampler { area, pid, .. }) = sampler() else { return };
    if area.session().is_none() {
        return; // The profile has ended meanwhile.
    }
    // The handler writes to the same ring. If the mask cannot be read, which never happens, the request has no route.
    let Ok(mask) = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK) else { return };
    let mut draft = area.route_draft();
    message::write_route(&mut draft, *pid, number_of(request), route);
    let _ = draft.finish(); // The sample has left room for it.
    let _ = mask.thread_set_mask(); // The mask is valid.
}

fn sampler() -> Option<&'static Sampler> {
    // SAFETY: it is null, or was leaked.
    unsafe { SAMPLER.load(Ordering::Acquire).as_ref() }
}

/// The number of a request that began at this moment.
fn number_of(start: Duration) -> u64 {
    start.as_micros() as u64
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
    let Some(Sampler { interpreter, area, entry, pid }) = sampler() else { return };
    let Some(session) = area.session() else { return };
    let Ok(memory) = OwnMemory::open() else { return area.lose() };
    let start = entry.request_start();
    let request = start.map_or(0, number_of);
    let target = Target { area, known: &KNOWN, session, pid: *pid, request };
    let is_taken = walk::sample(&memory, interpreter, &target);
    if is_taken && let Some(start) = start {
        entry.set_sampled(start);
    }
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
    use crate::shared::samples::Message;

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

    /// The messages of a profile in which `run` takes samples; each is of a thread without frames.
    fn messages(entry: &'static WorkerEntry, run: impl FnOnce(&SampleArea)) -> Vec<Message> {
        static THREAD: [u64; 16] = [0; 16];
        let _alone = stage::ALONE.lock();
        signals::inherit();
        let (layout, thread) = (Layout::of(3, 13).unwrap(), THREAD.as_ptr().expose_provenance());
        let idle =
            Interpreter { layout, thread, base: 0, code_type: 0, text_type: 0, bytes_type: 0 };
        let area = SampleArea::detached();
        install(idle, area, entry).unwrap();
        area.begin(1);
        run(area);
        area.end();
        let mut messages = Vec::new();
        area.drain(|words| messages.push(message::read(words).unwrap()));
        messages
    }

    fn sample(request: u64) -> Message {
        Message::Sample { pid: std::process::id(), request, frames: Vec::new() }
    }

    fn route(request: u64, route: Option<&str>) -> Message {
        Message::Route { pid: std::process::id(), request, route: route.map(str::to_owned) }
    }

    #[test]
    fn a_call_with_samples_names_its_route_once_and_others_do_not() {
        let entry = WorkerEntry::detached();
        let call = |number: u64, samples: u32, route: Option<&str>| {
            entry.begin_request(Duration::from_micros(number), b"GET", b"/");
            (0..samples).for_each(|_| stage::ask_this_thread());
            entry.end_call(Duration::from_micros(number + 1));
            end_call(entry, || route.map(str::as_bytes));
        };
        let found = messages(entry, |_| {
            call(10, 2, Some("/orders/{id}"));
            call(20, 0, Some("/quick"));
            call(30, 1, None);
            end_call(entry, || panic!("no call has ended"));
        });
        let named = route(10, Some("/orders/{id}"));
        assert_eq!(found, [sample(10), sample(10), named, sample(30), route(30, None)]);
    }

    #[test]
    fn a_call_for_no_request_and_one_after_the_profile_name_no_route() {
        let entry = WorkerEntry::detached();
        let found = messages(entry, |area| {
            entry.begin_call(Duration::from_micros(10));
            stage::ask_this_thread();
            entry.end_call(Duration::from_micros(11));
            end_call(entry, || panic!("it was for no request"));
            entry.begin_request(Duration::from_micros(20), b"GET", b"/");
            stage::ask_this_thread();
            area.end();
            entry.end_call(Duration::from_micros(21));
            end_call(entry, || Some(b"/late"));
        });
        assert_eq!(found, [sample(0), sample(20)]);
        assert_eq!(entry.take_sampled(), None);
    }
}
