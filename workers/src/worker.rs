//! Composition root of one worker: its life once its application is loaded.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::sys::socket::{MsgFlags, send};

use crate::application::Application;
use crate::clock::Clock;
use crate::event_loop::{EventLoop, Leftover};
use crate::log::{Level, Value};
use crate::signals;

pub use crate::post::{LIFE_FAILED, LIFE_READY, Listener, Owner, Post, WorkerExit};

/// Serves until told to leave. The application is loaded; this installs the signal handlers, has the
/// application answer one request if that is asked for ([`crate::rehearsal`]), tells it that it is about to
/// serve, reports readiness and turns the loop.
pub fn run<A: Application>(post: Post, app: &mut A) -> WorkerExit {
    let (block, log) = (post.block, post.log.clone());
    let exit = serve(post, app).unwrap_or_else(|error| {
        log.line(Level::Critical, "worker.failed", &[("error", Value::Display(&error))]);
        WorkerExit::Internal
    });
    // What comes now is the application's: its exit hooks, which have a limit of their own.
    block.begin_exit(Clock::start().monotonic());
    exit
}

/// Serves in a process that is somebody else's: it has no supervisor, so no signal handler is installed
/// and nobody is told of readiness. Ends when [`Application::signalled`] says so.
///
/// Errors: what epoll(7) refuses.
pub fn run_inside<A: Application>(post: Post, app: &mut A) -> std::io::Result<Leftover> {
    let block = post.block;
    block.occupy(std::process::id());
    let event_loop = EventLoop::new(post, app)?;
    block.set_ready();
    event_loop.run()
}

/// Sends the report of a failed boot to the supervisor, which logs it once for all workers.
pub fn tell_failure(life: BorrowedFd<'_>, report: &str) {
    let message = [&[LIFE_FAILED], report.as_bytes()].concat();
    let mut rest = message.as_slice();
    while !rest.is_empty() {
        match send(life.as_raw_fd(), rest, MsgFlags::MSG_NOSIGNAL) {
            Ok(sent) => rest = &rest[sent..],
            // The supervisor is gone, or does not read: the exit status tells as much as it needs.
            Err(_) => return,
        }
    }
}

fn serve<A: Application>(post: Post, app: &mut A) -> std::io::Result<WorkerExit> {
    for signal in signals::install(post.doorbell.as_fd())? {
        let pairs = [("signal", Value::Text(signal.as_str()))];
        post.log.line(Level::Warning, "worker.signal_handler_replaced", &pairs);
    }
    let block = post.block;
    block.occupy(std::process::id());
    let check = post.settings.reload_check.clone();
    let mut event_loop = EventLoop::new(post, app)?;
    if let Some(path) = &check
        && let Err(report) = event_loop.rehearse(path)
    {
        tell_failure(event_loop.life(), &report);
        return Ok(WorkerExit::NotBooted);
    }
    if let Err(report) = event_loop.make_ready() {
        tell_failure(event_loop.life(), &report);
        return Ok(WorkerExit::NotBooted);
    }
    block.set_ready();
    // EPIPE: the supervisor is gone; the loop hears of it at once and drains.
    let _ = send(event_loop.life().as_raw_fd(), &[LIFE_READY], MsgFlags::MSG_NOSIGNAL);
    let leftover = event_loop.run()?;
    Ok(if leftover.abandoned_count == 0 { WorkerExit::Done } else { WorkerExit::Abandoned })
}

#[cfg(test)]
mod tests;
