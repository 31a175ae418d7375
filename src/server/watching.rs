//! `--reload`: what is watched, and a first start that fails because the code is broken.

use std::io;
use std::os::fd::AsFd;
use std::time::{Instant, UNIX_EPOCH};

use arctos_worker::shared::log::{Level, Log, Value};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::config::{Config, Watching};
use crate::process::fork::wait;
use crate::process::launch::Launch;
use crate::process::signals::{Signal, Signals};
use crate::system::exit_code::ExitCode;
use crate::watch::watcher::SHORT_LIFE;
use crate::watch::{Message, WatchPlan, Watcher};

/// Starts to watch the files of the application, if that is configured. The directory of the application must have been
/// entered.
///
/// Errors: what keeps it from being watched.
pub(super) fn start(config: &Config, launch: &dyn Launch) -> Result<Option<Watcher>, String> {
    let Some(watching) = &config.watching else { return Ok(None) };
    if let Some(reason) = launch.reload_refusal() {
        return Err(format!("--reload: {reason}"));
    }
    let watcher = plan(config, watching).and_then(|plan| {
        launch.warm_up(&plan.sources);
        Watcher::start(plan)
    });
    watcher.map(Some).map_err(|error| format!("--reload: cannot watch files: {error}"))
}

fn plan(config: &Config, watching: &Watching) -> io::Result<WatchPlan> {
    let directory = std::env::current_dir()?;
    let sources = config.application.pythonpath.iter().cloned().chain([directory.clone()]);
    let file = config.file().map(|(path, _)| directory.join(path));
    Ok(WatchPlan {
        engine: watching.engine,
        started_at: UNIX_EPOCH.elapsed().unwrap_or_default().as_secs_f64(),
        sources: sources.collect(),
        extra: watching.extra.iter().cloned().chain(file).collect(),
        directory,
    })
}

/// Whether a start that ended with this code failed because of the application.
pub(super) fn is_failed_start(code: ExitCode) -> bool {
    match code {
        ExitCode::NotBooted | ExitCode::NotImportable | ExitCode::CrashLoop => true,
        ExitCode::Asked | ExitCode::Configuration | ExitCode::Usage | ExitCode::Internal => false,
    }
}

/// Waits after a failed start until files have changed and the configuration can be read. Returns it; `None` if the
/// server was asked to stop.
///
/// Errors: those of sigaction(2) and poll(2), and that the helper process ends again and again.
pub(super) fn await_change(
    config: &Config,
    watcher: &mut Watcher,
    log: &Log,
) -> io::Result<Option<Config>> {
    let signals = Signals::install()?;
    let hint = "the server starts again when a file changes; press Ctrl-C to stop";
    log.line(Level::Info, "reload.change_awaited", &[("hint", Value::Text(hint))]);
    let begun = Instant::now();
    loop {
        let is_replaced = replace_dead(watcher, begun.elapsed() > SHORT_LIFE, log)?;
        let messages = watcher.receive();
        messages.iter().for_each(|message| message.log(log));
        let received = signals.take();
        if [Signal::Int, Signal::Term, Signal::Quit].iter().any(|stop| received.contains(stop)) {
            return Ok(None);
        }
        let has_changed = messages.iter().any(Message::is_change);
        if has_changed || is_replaced || received.contains(&Signal::Hup) {
            match config.source.read() {
                Ok(config) => return Ok(Some(config)),
                Err(error) => {
                    log.line(Level::Error, "reload.refused", &[("reason", Value::Display(&error))]);
                }
            }
        }
        let mut fds =
            [watcher.as_fd(), signals.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Reaps children, and starts another helper process if the last one has ended. Returns whether it did: changes in the
/// meantime are lost then.
fn replace_dead(watcher: &mut Watcher, has_lived: bool, log: &Log) -> io::Result<bool> {
    let mut is_replaced = false;
    while let Some((pid, status)) = wait::reap() {
        if watcher.pid() == Some(pid) {
            is_replaced = watcher.replace(status, has_lived, log);
        }
    }
    match watcher.pid() {
        Some(_) => Ok(is_replaced),
        None => Err(io::Error::other("the process that watches files does not live")),
    }
}
