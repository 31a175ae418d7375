//! Composition root of one worker: its life once its application is loaded.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::socket::{MsgFlags, send};

use crate::application::Application;
use crate::event_loop::clock::Clock;
use crate::event_loop::{EventLoop, Unfinished};
use crate::process::hard_end;
use crate::process::signals;
use crate::process::supervisor_process::SupervisorProcess;
use crate::shared::log::{Level, Log, Value};

pub use crate::worker_init::{
    CONTROL_BOOT_FAILED, CONTROL_READY, Listener, Owner, WorkerExit, WorkerInit,
};

/// How long the exit of a worker may take whose supervisor has ended just before.
const EXIT_PATIENCE: Duration = Duration::from_secs(10);

/// Serves until told to leave. The application is loaded; this installs the signal handlers, has the
/// application answer one request if that is asked for ([`crate::event_loop::readiness_check`]), tells it that it is about to
/// serve, reports readiness and turns the loop.
pub fn run<A: Application>(init: WorkerInit, app: &mut A) -> WorkerExit {
    let (entry, log) = (init.entry, init.log.clone());
    let supervisor = Arc::clone(&init.supervisor);
    let (exit, exit_deadline) = serve(init, app).unwrap_or_else(|error| {
        log.line(Level::Critical, "worker.failed", &[("error", Value::Display(&error))]);
        (WorkerExit::Internal, None)
    });
    // What comes now is the application's: its exit hooks, which have a limit of their own.
    entry.begin_exit(Clock::start().monotonic());
    bound_exit(&supervisor, exit_deadline, &log);
    exit
}

/// Sees to it that the exit has an end, which is the application's: it may have a thread that never ends. The
/// supervisor looks after that as long as it lives. A worker that has lost it has a time of its own; one that
/// loses it from here on is killed by the kernel at once, because nobody is left to count its time: all that it
/// had accepted is answered.
fn bound_exit(supervisor: &SupervisorProcess, exit_deadline: Option<Instant>, log: &Log) {
    let bound = supervisor.bind().map_err(std::io::Error::from);
    let now = Instant::now();
    let exit_deadline = exit_deadline.or_else(|| supervisor.is_gone().then(|| now + EXIT_PATIENCE));
    let limited = exit_deadline
        .map_or(Ok(()), |end| hard_end::kill_after(end.saturating_duration_since(now)));
    if let Err(error) = bound.and(limited) {
        log.line(Level::Error, "worker.exit_not_bounded", &[("error", Value::Display(&error))]);
    }
}

/// Serves in a process that is somebody else's: it has no supervisor, so no signal handler is installed
/// and nobody is told of readiness. Ends when [`Application::run_signal_handlers`] says so.
///
/// Errors: what epoll(7) refuses.
pub fn run_embedded<A: Application>(init: WorkerInit, app: &mut A) -> std::io::Result<Unfinished> {
    let entry = init.entry;
    entry.occupy(std::process::id());
    let event_loop = EventLoop::new(init, app)?;
    entry.set_ready();
    event_loop.run()
}

/// Sends the report of a failed boot to the supervisor, which logs it once for all workers.
pub fn report_boot_failure(control_fd: BorrowedFd<'_>, report: &str) {
    let message = [&[CONTROL_BOOT_FAILED], report.as_bytes()].concat();
    let mut rest = message.as_slice();
    while !rest.is_empty() {
        match send(control_fd.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
            Ok(sent) => rest = &rest[sent..],
            // The supervisor is gone, or does not read: the exit status tells as much as it needs.
            Err(_) => return,
        }
    }
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
    let _ = supervisor.bind(); // A zygote's worker is its child only now. It does without, as well.
    entry.occupy(std::process::id());
    let check = init.settings.reload_check.clone();
    let mut event_loop = EventLoop::new(init, app)?;
    if let Some(path) = &check
        && let Err(report) = event_loop.check_readiness(path)
    {
        report_boot_failure(event_loop.control_fd(), &report);
        return Ok((WorkerExit::NotBooted, None));
    }
    if let Err(report) = event_loop.make_ready() {
        report_boot_failure(event_loop.control_fd(), &report);
        return Ok((WorkerExit::NotBooted, None));
    }
    // It was bound while it booted ([`SupervisorProcess::bind`]). From now on it finishes what it accepts.
    if let Err(error) = supervisor.unbind() {
        log.line(Level::Error, "worker.not_unbound", &[("error", Value::Display(&error))]);
    }
    entry.set_ready();
    // EPIPE: the supervisor is gone; the loop hears of it at once and drains.
    let _ = send(event_loop.control_fd().as_raw_fd(), &[CONTROL_READY], MsgFlags::MSG_NOSIGNAL);
    let unfinished = event_loop.run()?;
    let exit =
        if unfinished.abandoned_count == 0 { WorkerExit::Done } else { WorkerExit::Abandoned };
    Ok((exit, unfinished.exit_deadline))
}

#[cfg(test)]
mod tests;
