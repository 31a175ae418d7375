//! Passes the connection of the running request to the supervisor, which asks for it by a signal once the request has
//! taken a while. The worker is in the application's code then, so the signal handler itself sends the descriptor.
//!
//! The handler does nothing unless the call runs for which the supervisor has asked. It runs in the thread that runs the
//! requests, so that call does not end meanwhile.
#![expect(unsafe_code, reason = "a signal handler, which finds its values in statics")]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::libc;

use super::signals::{self, connection_signal, is_worker, take_default_action};
use crate::shared::fd;
use crate::shared::scoreboard::WorkerEntry;

/// From a ready worker on the control socket: the connection of the running request comes with this byte.
pub const CONTROL_CONNECTION: u8 = b'C';

/// The worker's entry; null until the handler is installed.
static ENTRY: AtomicPtr<WorkerEntry> = AtomicPtr::new(ptr::null_mut());
/// The control socket, and the file that it is: the application may have closed the socket, and opened something else
/// under its number.
static CONTROL_FD: AtomicI32 = AtomicI32::new(-1);
static CONTROL_INODE: AtomicU64 = AtomicU64::new(0);

/// Asks a worker for the connection of its running request. [`WorkerEntry::ask_for_connection`] comes first.
///
/// Errors: ESRCH if there is no such process.
pub fn ask(pid: libc::pid_t) -> nix::Result<()> {
    signals::send_to_main_thread(pid, connection_signal())
}

/// Installs the handler. The control socket stays open at least as long as calls for requests run.
///
/// Errors: those of fstat(2).
pub fn install(entry: &'static WorkerEntry, control_fd: BorrowedFd<'_>) -> io::Result<()> {
    CONTROL_INODE.store(fd::inode(control_fd.as_raw_fd())?, Ordering::Relaxed);
    CONTROL_FD.store(control_fd.as_raw_fd(), Ordering::Relaxed);
    ENTRY.store(ptr::from_ref(entry).cast_mut(), Ordering::Release);
    // With SA_RESTART, so that most system calls go on.
    Ok(signals::set_real_time(connection_signal(), on_signal)?)
}

extern "C" fn on_signal(signal: c_int) {
    if !is_worker() {
        return take_default_action(signal);
    }
    let errno = Errno::last_raw();
    pass();
    Errno::set_raw(errno);
}

/// Sends the descriptor. It is async-signal-safe (signal-safety(7)): it uses lock-free atomics, fstat(2) and sendmsg(2).
fn pass() {
    // SAFETY: it is null, or an entry on the scoreboard, which is never unmapped.
    let Some(entry) = (unsafe { ENTRY.load(Ordering::Acquire).as_ref() }) else { return };
    let Some(connection) = entry.requested_connection() else { return };
    let control_fd = CONTROL_FD.load(Ordering::Relaxed);
    let is_same =
        fd::inode(control_fd).is_ok_and(|inode| inode == CONTROL_INODE.load(Ordering::Relaxed));
    if is_same {
        // SAFETY: it is open, as fstat(2) has shown, and nothing closes it meanwhile: this runs in the thread that would.
        let control_fd = unsafe { BorrowedFd::borrow_raw(control_fd) };
        // SAFETY: it belongs to the client whose request runs. If the application has closed it, sendmsg(2) refuses it.
        let connection = unsafe { BorrowedFd::borrow_raw(connection) };
        // EAGAIN, ETOOMANYREFS: the client gets no answer if this worker dies.
        let _ = fd::send_descriptor(control_fd, CONTROL_CONNECTION, connection);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::shared::fd::Message;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_handler_sends_the_connection_of_the_call_that_was_asked_for() {
        signals::inherit();
        let (supervisor, control) = UnixStream::pair().unwrap();
        let (connection, _client) = UnixStream::pair().unwrap();
        let entry = WorkerEntry::detached();
        install(entry, control.as_fd()).unwrap();
        let asked = || {
            ask_this_thread();
            fd::receive_message(supervisor.as_fd())
        };
        assert!(matches!(asked(), Message::Nothing), "no call runs");
        entry.begin_request(s(1), b"GET", b"/");
        entry.show_connection(Some(connection.as_raw_fd()));
        assert!(matches!(asked(), Message::Nothing), "nobody wants it");
        entry.ask_for_connection(s(2));
        assert!(matches!(asked(), Message::Nothing), "another call was meant");
        entry.ask_for_connection(s(1));
        let Message::Received { word: CONTROL_CONNECTION, descriptor: Some(received) } = asked()
        else {
            panic!("the connection has not come");
        };
        assert_eq!(fd::inode(received.as_raw_fd()).ok(), fd::inode(connection.as_raw_fd()).ok());
        entry.show_connection(None);
        assert!(matches!(asked(), Message::Nothing), "the response has begun");

        // The application has closed the control socket, and opened another one.
        entry.begin_request(s(1), b"GET", b"/");
        entry.show_connection(Some(connection.as_raw_fd()));
        let (other, peer) = UnixStream::pair().unwrap();
        // SAFETY: both numbers are open, and this test owns them.
        unsafe { libc::dup2(other.as_raw_fd(), control.as_raw_fd()) };
        ask_this_thread();
        assert!(matches!(fd::receive_message(peer.as_fd()), Message::Nothing));
    }

    fn ask_this_thread() {
        // SAFETY: raise(3) sends the signal to this thread, and its handler has run when it returns.
        unsafe { libc::raise(connection_signal()) };
    }
}
