//! The workers of the test programs that fork: their loop, and a report of what they inherit.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use arctos_worker::shared::log::{Level, Value};
use arctos_worker::shared::scoreboard::Command;
use arctos_worker::worker_init::{WorkerExit, WorkerInit};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpgrp, read};

/// Number of descriptors that the server itself inherits: the standard streams, and any that the caller of
/// the tests has left open. The server does not close them.
static SERVER_INHERITED_COUNT: OnceLock<usize> = OnceLock::new();

/// Counts the descriptors that the server inherits. It calls this before it opens any.
pub(crate) fn count_inherited_descriptors() {
    SERVER_INHERITED_COUNT.set(open_count()).unwrap();
}

/// Carries out commands as a worker does, until it is told to stop or the supervisor is gone.
pub(crate) fn serve(init: &WorkerInit, ignores_stops: bool) -> WorkerExit {
    loop {
        let mut fds = [
            PollFd::new(init.control_fd.as_fd(), PollFlags::POLLIN),
            PollFd::new(init.doorbell.as_fd(), PollFlags::POLLIN),
        ];
        let polled = poll(&mut fds, PollTimeout::NONE);
        assert!(matches!(polled, Ok(_) | Err(Errno::EINTR)), "{polled:?}");
        if read(&init.control_fd, &mut [0; 8]) == Ok(0) {
            init.log.line(Level::Info, "app.orphaned", &[]);
            return WorkerExit::Done;
        }
        let _ = read(&init.doorbell, &mut [0; 8]); // EAGAIN: the doorbell has not rung.
        let command = init.entry.command();
        let pairs = [("command", Value::Text(&format!("{command:?}")))];
        init.log.line(Level::Info, "app.command", &pairs);
        match command {
            Command::Serve | Command::LameDuck => {}
            Command::Drain | Command::Quick if ignores_stops => {}
            Command::Drain | Command::Quick => return WorkerExit::Done,
        }
    }
}

/// Logs what this worker inherits. `excess` is the number of descriptors that are not its own.
pub(crate) fn log_inheritance(init: &WorkerInit) {
    let mut given: Vec<BorrowedFd<'_>> = vec![init.control_fd.as_fd(), init.doorbell.as_fd()];
    given.extend(init.listeners.iter().map(|listener| listener.socket.as_fd()));
    given.extend(init.group.iter().map(|group| group.mailbox.as_fd()));
    let optional = [
        init.access_log.is_some(),
        init.log.as_fd().is_some(),
        init.supervisor.as_fd().is_some(),
        true, // The pipe for its stacks.
    ];
    let own_count = given.len() + optional.into_iter().filter(|&is_there| is_there).count();
    let open_count = open_count() - SERVER_INHERITED_COUNT.get().unwrap();
    for fd in &given {
        // The descriptors are closed when the application executes another program.
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        assert_ne!(u32::from_str_radix(flags.trim(), 8).unwrap() & 0o2_000_000, 0, "{flags}");
    }
    let is_nonblocking = |fd: &&BorrowedFd<'_>| {
        let flags = fcntl(**fd, FcntlArg::F_GETFL).unwrap();
        OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK)
    };
    let nonblocking_count = given.iter().filter(is_nonblocking).count();
    let count = |key, signals: &[Signal]| {
        let mask = signal_mask(key);
        signals.iter().filter(|&&signal| is_in(mask, signal)).count() as i64
    };
    // A worker may catch other signals from its start on: an executed program does not inherit handlers.
    let caught = count("SigCgt:", &[Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    let ignored = count("SigIgn:", &[Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2]);
    let title = fs::read_to_string("/proc/self/comm").unwrap();
    let pairs = [
        ("excess", Value::Number(open_count as i64 - own_count as i64)),
        ("nonblocking", Value::Number(nonblocking_count as i64)),
        ("caught", Value::Number(caught)),
        ("ignored", Value::Number(ignored)),
        ("blocked", Value::Number(signal_mask("SigBlk:").cast_signed())),
        ("leads_group", Value::Number(i64::from(getpgrp() == Pid::this()))),
        ("notify", Value::Number(i64::from(std::env::var_os("NOTIFY_SOCKET").is_some()))),
        ("title", Value::Text(title.trim_end())),
    ];
    init.log.line(Level::Info, "app.inherited", &pairs);
}

/// Whether this process ignores a signal.
#[allow(dead_code, reason = "only the tests of the zygote use it")]
pub(crate) fn is_ignored(signal: Signal) -> bool {
    is_in(signal_mask("SigIgn:"), signal)
}

/// Reads a set of signals from /proc/self/status (proc(5)).
fn signal_mask(key: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap()
}

fn is_in(mask: u64, signal: Signal) -> bool {
    mask >> (signal as i32 - 1) & 1 == 1
}

/// Number of descriptors that this process has.
fn open_count() -> usize {
    // The directory itself is one more.
    fs::read_dir("/proc/self/fd").unwrap().count() - 1
}
