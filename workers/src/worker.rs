//! Composition root of one worker: its life once its application is loaded.

use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{MsgFlags, send};

use crate::application::Application;
use crate::event_loop::{EventLoop, Leftover};
use crate::log::{Level, Value};
use crate::signals;

pub use crate::post::{LIFE_FAILED, LIFE_READY, Listener, Owner, Post, WorkerExit};

/// Serves until told to leave. The application is loaded; this installs the signal handlers, reports
/// readiness and turns the loop.
pub fn run<A: Application>(post: Post, app: &mut A) -> WorkerExit {
    let log = post.log.clone();
    match serve(post, app) {
        Ok(exit) => exit,
        Err(error) => {
            log.line(Level::Critical, "worker.failed", &[("error", Value::Display(&error))]);
            WorkerExit::Internal
        }
    }
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

fn serve<A: Application>(post: Post, app: &mut A) -> std::io::Result<WorkerExit> {
    for signal in signals::install(post.doorbell.as_fd())? {
        let pairs = [("signal", Value::Text(signal.as_str()))];
        post.log.line(Level::Warning, "worker.signal_handler_replaced", &pairs);
    }
    let block = post.block;
    block.occupy(std::process::id());
    let life = post.life.try_clone()?;
    let event_loop = EventLoop::new(post, app)?;
    block.set_ready();
    // EPIPE: the supervisor is gone; the loop hears of it at once and drains.
    let _ = send(life.as_raw_fd(), &[LIFE_READY], MsgFlags::MSG_NOSIGNAL);
    drop(life);
    let leftover = event_loop.run()?;
    Ok(if leftover.abandoned_count == 0 { WorkerExit::Done } else { WorkerExit::Abandoned })
}
