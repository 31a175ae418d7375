//! The life of a server, from its command line to its exit code.
//!
//! This module defines the order of a start: options, directory, limits, listeners, and only then processes. What runs
//! the application is behind [`Runtime`], so that all of this is the same with and without CPython.

mod verdict;
mod watching;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use arctos_worker::settings::AppSpec;
use arctos_worker::shared::log::{Level, Log, Paint, Value};
use arctos_worker::worker_init::BootFailure;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, fchdir};

use crate::cli::{self, InitCommand, Invocation};
use crate::client::ctl::{self, CtlCommand};
use crate::client::top::{self, Watch};
use crate::config::options::{OptionSpec, Setting};
use crate::config::{Config, ConfigError, Source};
use crate::listener::{DescriptorOwner, InheritedSockets, ListenError, ListenOptions, Listeners};
use crate::migrate::{self, MigrateCommand};
use crate::monitor::revision::Revision;
use crate::monitor::{self, Surroundings, certificates};
use crate::process::launch::Launch;
use crate::process::reexec::{self, Handover};
use crate::process::sigaction::{Disposition, set_disposition};
use crate::process::signals::Dispositions;
use crate::system::address::BindAddress;
use crate::system::environment::Environment;
use crate::system::exit_code::ExitCode;
use crate::system::rlimit::{self, raise_nofile, warn_of_connections};
use crate::system::{stdio, terminal};
use verdict::verdict;

/// Loads and runs applications.
pub trait Runtime {
    /// Returns what starts the workers of this application.
    fn launch(&self, application: &AppSpec) -> Box<dyn Launch>;
    /// Returns the program of the Python interpreter, if there is one.
    fn interpreter(&self) -> Option<OsString> {
        None
    }
    /// The version of what runs applications, such as 3.14.0.
    fn version(&self) -> String;
    /// Loads the application in this process, without serving it.
    fn check(&self, config: &Config, log: &Log) -> Result<(), BootFailure>;
}

/// Does what a command line asks for, and returns the exit code.
///
/// A panic is a defect of arctos and gets the exit code of one. CPython would exit with 1, which tells an operator to
/// look for a mistake in the configuration.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Environment,
    runtime: &dyn Runtime,
) -> i32 {
    let run = AssertUnwindSafe(|| execute(arguments, environment, runtime));
    catch_unwind(run).unwrap_or(ExitCode::Internal as i32)
}

/// Resolves the arguments of the Python function `serve()`, which take precedence over the environment.
///
/// Errors: [`ConfigError`], which names the argument.
pub fn resolve_keywords(
    application: &str,
    keywords: Vec<(Setting, Vec<OsString>)>,
    environment: Environment,
) -> Result<Config, ConfigError> {
    let application = (Setting::Application, vec![application.into()]);
    Source::of_keywords(keywords.into_iter().chain([application]), environment)?.read()
}

/// Serves in a program that continues afterwards, and returns the exit code. The signal dispositions, the directory,
/// the limit of descriptors and the adoption of orphans are restored.
///
/// Errors: one of these cannot be read or restored.
pub fn serve_inside(config: &Config, runtime: &dyn Runtime) -> io::Result<i32> {
    let inherited =
        InheritedSockets::default().with_inherited(&config.binds, DescriptorOwner::Program);
    let dispositions = Dispositions::save()?;
    let limit = rlimit::DescriptorLimit::save()?;
    // `--preload` adopts the workers of zygotes. Afterwards, the program must not adopt orphans unless it did before.
    let adopts_orphans = prctl::get_child_subreaper()?;
    let directory = File::open(".")?;
    let served = catch_unwind(AssertUnwindSafe(|| {
        serve(config, runtime, inherited, None, Some(directory.as_fd()))
    }));
    prctl::set_child_subreaper(adopts_orphans)?;
    fchdir(&directory)?;
    limit.restore()?;
    dispositions.restore()?;
    Ok(served.unwrap_or(ExitCode::Internal as i32))
}

fn execute(
    arguments: impl IntoIterator<Item = OsString>,
    mut environment: Environment,
    runtime: &dyn Runtime,
) -> i32 {
    // Without /dev/null, the standard streams stay as they are, which is no reason to refuse to start.
    let _ = stdio::fill();
    let handover = environment.take(reexec::VARIABLE);
    match cli::parse(arguments, environment.clone()) {
        Err(error) => {
            write_text(io::stderr(), &format!("error: {error}"));
            error.exit_code()
        }
        Ok(Invocation::Show { text, exit_code }) => {
            write_text(io::stdout(), text.trim_end());
            exit_code
        }
        Ok(Invocation::PrintConfig(text)) => {
            write_text(io::stdout(), text.trim_end());
            0
        }
        Ok(Invocation::Init(command)) => init(&command),
        Ok(Invocation::Ctl(order)) => control(&order),
        Ok(Invocation::Top(watch)) => show(&watch),
        Ok(Invocation::Migrate(command)) => print_migration(&command, &environment, runtime),
        Ok(Invocation::Check(config)) => check(&config, runtime),
        Ok(Invocation::Serve(config)) => {
            match handover.as_deref().map(Handover::read).transpose() {
                Ok(mut handover) => {
                    let listeners = handover.as_mut().map(|it| std::mem::take(&mut it.listeners));
                    let inherited = listeners.unwrap_or_default();
                    let inherited =
                        inherited.with_inherited(&config.binds, DescriptorOwner::Server);
                    serve(&config, runtime, inherited, handover, None)
                }
                Err(error) => {
                    write_text(io::stderr(), &format!("error: {error}"));
                    ExitCode::Configuration as i32
                }
            }
        }
    }
}

/// Writes a text for a person.
fn write_text(mut stream: impl Write, text: &str) {
    let _ = writeln!(stream, "{text}"); // A closed pipe or a full disk is no reason to fail.
}

/// Prints the configuration of another server as one of arctos, and a summary for a person.
fn print_migration(
    command: &MigrateCommand,
    environment: &Environment,
    runtime: &dyn Runtime,
) -> i32 {
    // As in `serve`: otherwise Ctrl-C would wait for a configuration that does not end.
    let _ = set_disposition(Signal::SIGINT, Disposition::Default);
    match migrate::run(command, environment, runtime.interpreter().as_deref()) {
        Ok(migration) => {
            write_text(io::stdout(), migration.text.trim_end());
            write_text(io::stderr(), &format!("arctos migrate: {}", migration.summary));
            0
        }
        Err(error) => {
            write_text(io::stderr(), &format!("error: {error}"));
            ExitCode::Configuration as i32
        }
    }
}

/// Writes a configuration file.
fn init(command: &InitCommand) -> i32 {
    match command.run() {
        Ok(text) => {
            write_text(io::stdout(), text.trim_end());
            0
        }
        Err(error) => {
            write_text(io::stderr(), &format!("error: {error}"));
            ExitCode::Configuration as i32
        }
    }
}

/// Sends a command to a running server. This process does not serve.
fn control(command: &CtlCommand) -> i32 {
    // As in `serve`: otherwise Ctrl-C would only take effect when the answer has arrived.
    let _ = set_disposition(Signal::SIGINT, Disposition::Default);
    match ctl::run(command) {
        Ok(text) => {
            write_text(io::stdout(), text.trim_end());
            0
        }
        Err(error) => {
            write_text(io::stderr(), &format!("error: {error}"));
            error.exit_code() as i32
        }
    }
}

/// Shows a running server. This process does not serve.
fn show(watch: &Watch) -> i32 {
    // As above, until there is a screen that handles it.
    let _ = set_disposition(Signal::SIGINT, Disposition::Default);
    match top::watch(watch) {
        Ok(text) => {
            if let Some(text) = text {
                write_text(io::stdout(), text.trim_end());
            }
            0
        }
        Err(error) => {
            write_text(io::stderr(), &format!("error: {error}"));
            error.exit_code() as i32
        }
    }
}

fn check(config: &Config, runtime: &dyn Runtime) -> i32 {
    let application = name_of(&config.application);
    let log = log_of(config);
    log_hints(config, &log);
    let started = Instant::now();
    let checked = enter_directory(config)
        .and_then(|()| check_certificates(config, &log))
        .and_then(|()| runtime.check(config, &log).map_err(report_failure));
    match checked {
        Ok(()) => {
            let verdict = verdict(&application, config, &runtime.version(), started.elapsed());
            write_text(io::stdout(), verdict.trim_end());
            0
        }
        Err(code) => {
            write_text(io::stderr(), &format!("error: {application} cannot be served"));
            code
        }
    }
}

/// Reads the certificates and keys that a server would read.
fn check_certificates(config: &Config, log: &Log) -> Result<(), i32> {
    certificates::load(config, log).map(drop).map_err(|error| {
        write_text(io::stderr(), &format!("error: {error}"));
        ExitCode::Configuration as i32
    })
}

fn report_failure(failure: BootFailure) -> i32 {
    write_text(io::stderr(), failure.report.trim_end());
    failure.exit.code()
}

fn serve(
    config: &Config,
    runtime: &dyn Runtime,
    inherited: Result<InheritedSockets, ListenError>,
    handover: Option<Handover>,
    directory: Option<BorrowedFd<'_>>,
) -> i32 {
    // CPython's handler only records SIGINT for the next line of Python, and none follows: Ctrl-C during a name
    // lookup would become a KeyboardInterrupt at the end. The call cannot fail: SIGINT may have any disposition.
    let _ = set_disposition(Signal::SIGINT, Disposition::Default);
    if let Err(code) = enter_directory(config) {
        return code;
    }
    let log = log_of(config);
    let pairs = [
        ("version", Value::Text(env!("CARGO_PKG_VERSION"))),
        ("pid", Value::Number(i64::from(std::process::id()))),
        ("application", Value::Text(&name_of(&config.application))),
        ("workers", Value::Number(i64::from(config.workers))),
    ];
    log.line(Level::Info, "server.starting", &pairs);
    log_file(config, &log);
    log_defaults(config, &log);
    log_hints(config, &log);
    if let Err(error) = raise_nofile() {
        log.line(Level::Warning, "server.nofile_not_raised", &[("error", Value::Display(&error))]);
    }
    warn_of_connections(&config.worker.limits, &log);
    let mut watcher = match watching::start(config, &*runtime.launch(&config.application)) {
        Ok(watcher) => watcher,
        Err(reason) => return fail(&log, &reason) as i32,
    };
    // A server that got its sockets from another process cannot open them again.
    let is_repeatable = handover.is_none()
        && !config.binds.iter().any(|address| matches!(address, BindAddress::Fd(_)));
    let surroundings = Surroundings { handover, directory, watcher: watcher.as_mut() };
    let mut code = serve_once(config, runtime, inherited, &log, surroundings);
    while let Some(watcher) = watcher.as_mut()
        && is_repeatable
        && watching::is_failed_start(code)
    {
        code = match watching::await_change(config, watcher, &log) {
            Ok(None) => ExitCode::Asked,
            Ok(Some(config)) => {
                let inherited = Ok(InheritedSockets::default());
                let watcher = Some(watcher);
                let surroundings = Surroundings { directory, watcher, ..Surroundings::default() };
                serve_once(&config, runtime, inherited, &log, surroundings)
            }
            Err(error) => fail(&log, &format!("--reload: {error}")),
        };
    }
    code as i32
}

/// Serves from the listening sockets to the exit of the last worker.
fn serve_once(
    config: &Config,
    runtime: &dyn Runtime,
    inherited: Result<InheritedSockets, ListenError>,
    log: &Log,
    surroundings: Surroundings<'_>,
) -> ExitCode {
    let options = ListenOptions::from(config);
    let bound = inherited.and_then(|inherited_sockets| {
        Listeners::inherit(&config.binds, &options, inherited_sockets)
    });
    let listeners = match bound {
        Ok(listeners) => listeners,
        Err(error) => return fail(log, &format!("--bind {error}")),
    };
    for warning in listeners.warnings() {
        log.line(Level::Warning, "listener.warning", &[("warning", Value::Text(warning))]);
    }
    let import_reports = surroundings.watcher.as_ref().map(|watcher| watcher.reports());
    let load = |config: Config| {
        let import_reports = import_reports.clone();
        let application = AppSpec { import_reports, ..config.application.clone() };
        Revision { config, launch: runtime.launch(&application) }
    };
    let reread = || {
        if let Some(reason) = runtime.launch(&config.application).reload_refusal() {
            return Err(reason.to_owned());
        }
        let config = config.source.read().map_err(|error| error.to_string())?;
        log_file(&config, log);
        Ok(load(config))
    };
    monitor::take_over(load(config.clone()), &reread, listeners, log.clone(), surroundings)
}

/// Logs why the server cannot start, and returns its exit code.
fn fail(log: &Log, reason: &str) -> ExitCode {
    let code = ExitCode::Configuration;
    let pairs =
        [("reason", Value::Text(reason)), ("exit_code", Value::Number(i64::from(code as i32)))];
    log.line(Level::Critical, "server.failed", &pairs);
    code
}

/// Logs which configuration file was read, if any.
fn log_file(config: &Config, log: &Log) {
    if let Some((path, origin)) = config.file() {
        let pairs = [("path", Value::Text(path)), ("origin", Value::Display(origin))];
        log.line(Level::Info, "config.file_read", &pairs);
    }
}

/// Logs the other defaults that were chosen for this place, with the reasons.
fn log_defaults(config: &Config, log: &Log) {
    let chosen = config.chosen_defaults();
    for (chosen, reason) in chosen.filter(|(chosen, _)| chosen.setting != Setting::Config) {
        let pairs = [
            ("option", Value::Text(OptionSpec::of(chosen.setting).long)),
            ("value", Value::Text(&chosen.value)),
            ("reason", Value::Display(reason)),
        ];
        log.line(Level::Info, "config.default_chosen", &pairs);
    }
}

/// Logs the hints of the configuration.
fn log_hints(config: &Config, log: &Log) {
    for hint in config.source.hints() {
        log.line(Level::Warning, hint.event(), &[("hint", Value::Display(&hint))]);
    }
}

/// Changes to the directory of `--chdir`, where relative paths of all options start.
fn enter_directory(config: &Config) -> Result<(), i32> {
    let Some(directory) = &config.application.chdir else { return Ok(()) };
    chdir(directory).map_err(|error| {
        write_text(
            io::stderr(),
            &format!("error: --chdir '{}': {}", directory.display(), error.desc()),
        );
        ExitCode::Configuration as i32
    })
}

/// The log on standard error; it discards everything if that is closed.
fn log_of(config: &Config) -> Log {
    match io::stderr().as_fd().try_clone_to_owned() {
        Ok(stderr) => {
            let is_terminal = io::stderr().is_terminal();
            let has_colors = terminal::has_colors(is_terminal, config.source.environment());
            let paint = if has_colors { Paint::Colored } else { Paint::Plain };
            Log::new(config.logging.level, config.logging.format, stderr).with_paint(paint)
        }
        Err(_) => Log::discard(),
    }
}

fn name_of(application: &AppSpec) -> String {
    let call = if application.is_factory { "()" } else { "" };
    match &application.attribute {
        Some(attribute) => format!("{}:{attribute}{call}", application.module),
        None => application.module.clone(),
    }
}
