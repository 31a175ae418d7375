//! The server's side of the tests: a supervisor whose workers are a few lines of Rust.

use std::io;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use arctos::cli::{self, Invocation};
use arctos::config::Config;
use arctos::listener::{ListenOptions, Listeners};
use arctos::monitor;
use arctos::monitor::revision::Revision;
use arctos::process::launch::Launch;
use arctos::server::{self, Runtime};
use arctos::system::environment::Environment;
use arctos_worker::settings::AppSpec;
use arctos_worker::shared::identity::Generation;
use arctos_worker::shared::log::{Level, Log, LogFormat, Value};
use arctos_worker::shared::scoreboard::{self, Counter, ServerState};
use arctos_worker::worker_init::{
    BootFailure, CONTROL_BOOT_FAILED, CONTROL_READY, WorkerExit, WorkerInit,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, getpgrp, pause, read, write};

use crate::process::open_count;
use crate::{ADMIN, OPTIONS};

/// The standard streams, and what whoever started the tests has left open: it is not ours to close.
static INHERITED: OnceLock<usize> = OnceLock::new();

/// Runs a server in this process; its exit code.
pub(crate) fn serve(role: &str) -> i32 {
    INHERITED.set(open_count()).unwrap();
    let line = std::env::var(OPTIONS).unwrap_or("--workers 2".into());
    let words = "arctos none:app --bind 127.0.0.1:0 --name test ".to_owned() + &line;
    if role == "defective" {
        let words = words.split_whitespace().map(Into::into);
        return server::run(words, Environment::default(), &Stage(role.into()));
    }
    let parsed = cli::parse(words.split_whitespace().map(Into::into), Environment::default());
    let Ok(Invocation::Serve(mut config)) = parsed else { panic!("{words}: {parsed:?}") };
    config.patience.quick = Duration::from_secs(20); // Longer than a test takes.
    let admin = std::env::var(ADMIN).unwrap_or_default();
    config.admin_binds = admin.split_whitespace().map(|bind| bind.parse().unwrap()).collect();
    let stderr = io::stderr().as_fd().try_clone_to_owned().unwrap();
    let log = Log::new(Level::Debug, LogFormat::Text, stderr);
    let listeners = Listeners::bind(&config.binds, &ListenOptions::from(&*config)).unwrap();
    prctl::set_child_subreaper(true).unwrap();
    match role {
        "opens for ever" => config.patience.boot = Duration::from_millis(300),
        "threaded" => {
            std::thread::Builder::new().name("stray".into()).spawn(std::thread::park).unwrap();
        }
        "blocked" => SigSet::all().thread_block().unwrap(),
        _ => {}
    }
    let load = || Revision { config: (*config).clone(), launch: Box::new(Actor(role.into())) };
    monitor::run(load(), &|| Ok(load()), listeners, log) as i32
}

/// A worker that plays its role.
struct Actor(String);

impl Launch for Actor {
    fn before_fork(&self) {
        static FORKS: AtomicU32 = AtomicU32::new(0);
        let is_first = FORKS.fetch_add(1, Ordering::Relaxed) == 0;
        assert!(is_first || self.0 != "defective", "the roof comes down");
    }

    fn run_on_start(&self, generation: Generation, _log: &Log) -> Result<(), BootFailure> {
        let number = |number: i64| Value::Number(number);
        let pairs = [
            ("generation", number(i64::from(generation.0))),
            ("pid", number(i64::from(std::process::id()))),
            ("leads_group", number(i64::from(getpgrp() == Pid::this()))),
        ];
        let stderr = io::stderr().as_fd().try_clone_to_owned().unwrap();
        Log::new(Level::Debug, LogFormat::Text, stderr).line(Level::Info, "actor.opens", &pairs);
        match self.0.as_str() {
            "opens badly" => {
                let report = "Traceback: no such table\n".to_owned();
                Err(BootFailure::not_booted(report))
            }
            "opens badly later" if generation.0 == 2 => {
                let report = "Traceback: no such table\n".repeat(10_000);
                Err(BootFailure::not_booted(report))
            }
            "aborts in its opening" => std::process::abort(),
            "opens for ever" => loop {
                pause();
            },
            "opens for ever later" if generation.0 == 2 => loop {
                pause();
            },
            _ => Ok(()),
        }
    }

    fn work(&self, init: WorkerInit) -> WorkerExit {
        init.entry.occupy(std::process::id());
        let fail = |exit| {
            let words = [&[CONTROL_BOOT_FAILED][..], b"Traceback: no such module\n"].concat();
            write(&init.control_fd, &words).unwrap();
            exit
        };
        match self.0.as_str() {
            "not importable" => return fail(WorkerExit::NotImportable),
            "not booted" => return fail(WorkerExit::NotBooted),
            "panics" => panic!("the stage is on fire"),
            "counted" | "exits" => tell_restarts(&init),
            "boots once" => {
                tell_restarts(&init);
                if init.header.state() == ServerState::Serving {
                    return fail(WorkerExit::NotBooted);
                }
            }
            "busy" => init.entry.begin_request(monotonic(), b"GET", b"/slow"),
            "hangs once" if init.entry.counters.get(Counter::ReqDone) == 0 && init.slot.0 == 0 => {
                init.entry.counters.inc(Counter::ReqDone);
                init.entry.begin_request(monotonic(), b"GET", b"/for/ever");
            }
            "breaks later" if init.generation.0 == 2 => return fail(WorkerExit::NotImportable),
            "parent" => drop(Command::new("sh").args(["-c", "sh -c 'exit 4' &"]).status()),
            "family" => drop(Command::new("sleep").arg("1000").spawn().unwrap()),
            "introspective" => introspect(&init),
            _ => {}
        }
        init.entry.set_ready();
        init.supervisor.unbind().unwrap(); // As a worker does, which was bound while it booted.
        let _ = write(&init.control_fd, &[CONTROL_READY]); // EPIPE: the supervisor is gone, as the loop hears.
        match self.0.as_str() {
            "exits" => std::process::exit(7),
            "panics later" => panic!("the stage gives way"),
            "dies later" if init.generation.0 == 2 => {
                std::thread::sleep(Duration::from_millis(300)); // In its probation.
                std::process::exit(7);
            }
            _ => {}
        }
        loop {
            let mut fds = [
                PollFd::new(init.control_fd.as_fd(), PollFlags::POLLIN),
                PollFd::new(init.doorbell.as_fd(), PollFlags::POLLIN),
            ];
            poll(&mut fds, PollTimeout::NONE).unwrap();
            if read(&init.control_fd, &mut [0; 8]) == Ok(0) {
                init.log.line(Level::Info, "actor.orphaned", &[]);
                return WorkerExit::Done;
            }
            let _ = read(&init.doorbell, &mut [0; 8]); // EAGAIN: it was the other one.
            let command = init.entry.command();
            let pairs = [("command", Value::Text(&format!("{command:?}")))];
            init.log.line(Level::Info, "actor.told", &pairs);
            match command {
                scoreboard::Command::Serve | scoreboard::Command::Announce => {}
                scoreboard::Command::Drain | scoreboard::Command::Quick if self.0 == "family" => {}
                scoreboard::Command::Drain | scoreboard::Command::Quick => return WorkerExit::Done,
            }
        }
    }
}

/// CLOCK_MONOTONIC as the scoreboard has it.
fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into()
}

/// Runs actors for [`server::run`].
struct Stage(String);

impl Runtime for Stage {
    fn launch(&self, _application: &AppSpec) -> Box<dyn Launch> {
        Box::new(Actor(self.0.clone()))
    }

    fn check(&self, _config: &Config, _log: &Log) -> Result<(), BootFailure> {
        Ok(())
    }
}

/// Logs how the workers ended that had this entry before: every other one of a slot.
fn tell_restarts(init: &WorkerInit) {
    let count = |counter| Value::Number(init.entry.counters.get(counter).cast_signed());
    let pairs = [
        ("boot", count(Counter::WorkerRestartsBoot)),
        ("exit", count(Counter::WorkerRestartsExit)),
        ("signal", count(Counter::WorkerRestartsSignal)),
        ("end", Value::Text("")),
    ];
    init.log.line(Level::Info, "actor.restarts", &pairs);
}

/// Logs what this worker was given, and what it was not.
fn introspect(init: &WorkerInit) {
    let own = 2 + init.listeners.len() + usize::from(init.log.as_fd().is_some());
    let own = own + usize::from(init.supervisor.as_fd().is_some());
    let own = own + 1; // The pipe for its stacks.
    let open = open_count() - INHERITED.get().unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = |key: &str| status.lines().find(|line| line.starts_with(key)).unwrap().to_owned();
    let hex = |key| u64::from_str_radix(line(key).split_whitespace().last().unwrap(), 16).unwrap();
    let count = |key, signals: &[Signal]| {
        signals.iter().filter(|&&signal| hex(key) >> (signal as i32 - 1) & 1 == 1).count() as i64
    };
    // What a worker does catch from its start is its own, and nothing that it executes inherits.
    let caught = count("SigCgt:", &[Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD]);
    let ignored = count("SigIgn:", &[Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2]);
    let name = line("Name:");
    let pairs = [
        ("excess", Value::Number(open as i64 - own as i64)),
        ("caught", Value::Number(caught)),
        ("ignored", Value::Number(ignored)),
        ("blocked", Value::Number(hex("SigBlk:") as i64)),
        ("leads_group", Value::Number(i64::from(getpgrp() == Pid::this()))),
        ("notify", Value::Number(i64::from(std::env::var_os("NOTIFY_SOCKET").is_some()))),
        ("title", Value::Text(name.trim_start_matches("Name:\t"))),
    ];
    init.log.line(Level::Info, "actor.found", &pairs);
}
