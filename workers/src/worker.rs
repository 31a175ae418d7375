//! Composition root of one worker: everything that happens once its application is loaded.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send};

use crate::application::Application;
use crate::event_loop::clock::Clock;
use crate::event_loop::{EventLoop, Unfinished};
use crate::process::hard_end;
use crate::process::passed_connection;
use crate::process::signals;
use crate::process::supervisor_process::SupervisorProcess;
use crate::shared::log::{Level, Log, Value};

pub use crate::worker_init::{
    BootFailure, CONTROL_BOOT_FAILED, CONTROL_READY, Listener, Owner, WorkerExit, WorkerInit,
};

/// How long the exit of a worker may take if its supervisor has ended just before.
const EXIT_LIMIT: Duration = Duration::from_secs(10);

/// Serves until the worker has to exit; [`crate::worker_init`] lists the causes.
///
/// The application is loaded. This installs the signal handlers, has the application answer the request of
/// `--reload-check` ([`crate::event_loop::readiness_check`]), calls [`Application::ready`], reports readiness and
/// runs the event loop.
pub fn run<A: Application>(init: WorkerInit, app: &mut A) -> WorkerExit {
    let (entry, log) = (init.entry, init.log.clone());
    let supervisor = Arc::clone(&init.supervisor);
    let (exit, exit_deadline) = serve(init, app).unwrap_or_else(|error| {
        log.line(Level::Critical, "worker.failed", &[("error", Value::Display(&error))]);
        (WorkerExit::Internal, None)
    });
    // The application's exit hooks come now; the supervisor limits them separately.
    entry.begin_exit(Clock::start().monotonic());
    bound_exit(&supervisor, exit_deadline, &log);
    exit
}

/// Makes sure that the exit ends, although the application may have a thread that never does. As long as the
/// supervisor runs, it looks after that. A worker that has lost its supervisor gets a deadline. One that loses it
/// from here on is killed by the kernel at once, because nobody is left to enforce a limit: every request that it
/// had accepted is answered.
fn bound_exit(supervisor: &SupervisorProcess, exit_deadline: Option<Instant>, log: &Log) {
    let bound = supervisor.bind().map_err(std::io::Error::from);
    let now = Instant::now();
    let exit_deadline = exit_deadline.or_else(|| supervisor.is_gone().then(|| now + EXIT_LIMIT));
    let limited = exit_deadline
        .map_or(Ok(()), |deadline| hard_end::kill_after(deadline.saturating_duration_since(now)));
    if let Err(error) = bound.and(limited) {
        log.line(Level::Error, "worker.exit_not_bounded", &[("error", Value::Display(&error))]);
    }
}

/// Serves in the process of another program. There is no supervisor, so this installs no signal handlers and
/// reports no readiness. It ends when [`Application::run_signal_handlers`] requests it.
///
/// Errors: those of epoll(7).
pub fn run_embedded<A: Application>(init: WorkerInit, app: &mut A) -> std::io::Result<Unfinished> {
    let entry = init.entry;
    entry.occupy(std::process::id());
    let event_loop = EventLoop::new(init, app)?;
    entry.set_ready();
    event_loop.run()
}

/// Sends the report of a failed boot to the supervisor, which logs it once for all workers. Returns how the worker
/// exits.
pub fn report_boot_failure(control_fd: BorrowedFd<'_>, failure: &BootFailure) -> WorkerExit {
    let message = [&[CONTROL_BOOT_FAILED], failure.report.as_bytes()].concat();
    let mut rest = message.as_slice();
    while !rest.is_empty() {
        match send(control_fd.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
            Ok(sent) => rest = &rest[sent..],
            // The supervisor is gone or does not read: the exit status says enough.
            Err(_) => break,
        }
    }
    failure.exit
}

fn serve<A: Application>(
    init: WorkerInit,
    app: &mut A,
) -> std::io::Result<(WorkerExit, Option<Instant>)> {
    for signal in signals::install(init.doorbell.as_fd())? {
        let pairs = [("signal", Value::Text(signal.as_str()))];
        init.log.line(Level::Warning, "worker.signal_handler_replaced", &pairs);
    }
    let (entry, log) = (init.entry, init.log.clone());
    let supervisor = Arc::clone(&init.supervisor);
    // A zygote's worker becomes the supervisor's child only now. Ignored: serving works without it.
    let _ = supervisor.bind();
    entry.occupy(std::process::id());
    passed_connection::install(entry, init.control_fd.as_fd())?;
    let check = init.settings.reload_check.clone();
    let mut event_loop = EventLoop::new(init, app)?;
    let checked = check.map_or(Ok(()), |path| event_loop.check_readiness(&path));
    let opened = checked.and_then(|()| event_loop.open_files());
    if let Err(failure) = opened.and_then(|()| event_loop.make_ready()) {
        let control_fd = event_loop.control_fd();
        let exit = control_fd.map_or(failure.exit, |fd| report_boot_failure(fd, &failure));
        return Ok((exit, None));
    }
    // Until here the kernel would have killed the worker with its supervisor ([`SupervisorProcess::bind`]). From
    // now on it finishes what it accepts.
    if let Err(error) = supervisor.unbind() {
        log.line(Level::Error, "worker.not_unbound", &[("error", Value::Display(&error))]);
    }
    entry.set_ready();
    if let Some(fd) = event_loop.control_fd() {
        // EPIPE: the supervisor is gone. The loop reads end of file at once, and drains.
        let _ = send(fd.as_raw_fd(), &[CONTROL_READY], MsgFlags::MSG_NOSIGNAL);
    }
    let unfinished = event_loop.run()?;
    let exit =
        if unfinished.abandoned_count == 0 { WorkerExit::Done } else { WorkerExit::Abandoned };
    Ok((exit, unfinished.exit_deadline))
}

#[cfg(test)]
mod tests;
