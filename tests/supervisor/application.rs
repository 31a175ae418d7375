//! The server that the tests start: a supervisor whose application is a few lines of Rust.

use std::io;
use std::os::fd::AsFd;
use std::process::Command;
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
use arctos_worker::shared::scoreboard::{Counter, ServerState};
use arctos_worker::worker_init::{
    BootFailure, CONTROL_BOOT_FAILED, CONTROL_READY, WorkerExit, WorkerInit,
};
use nix::sys::prctl;
use nix::sys::signal::SigSet;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{Pid, getpgrp, pause, write};

use crate::test_worker::{self, count_inherited_descriptors, log_inheritance};
use crate::{ADMIN, OPTIONS};

/// Runs a server in this process and returns its exit code.
pub(crate) fn serve(role: &str) -> i32 {
    count_inherited_descriptors();
    let line = std::env::var(OPTIONS).unwrap_or("--workers 2".into());
    let words = "arctos none:app --bind 127.0.0.1:0 --name test ".to_owned() + &line;
    if role == "supervisor panics" {
        let words = words.split_whitespace().map(Into::into);
        return server::run(words, Environment::default(), &TestRuntime(role.into()));
    }
    let parsed = cli::parse(words.split_whitespace().map(Into::into), Environment::default());
    let Ok(Invocation::Serve(mut config)) = parsed else { panic!("{words}: {parsed:?}") };
    config.patience.quick = Duration::from_secs(20); // No test takes that long.
    let admin = std::env::var(ADMIN).unwrap_or_default();
    config.admin_binds = admin.split_whitespace().map(|bind| bind.parse().unwrap()).collect();
    let stderr = io::stderr().as_fd().try_clone_to_owned().unwrap();
    let log = Log::new(Level::Debug, LogFormat::Text, stderr);
    let listeners = Listeners::bind(&config.binds, &ListenOptions::from(&*config)).unwrap();
    prctl::set_child_subreaper(true).unwrap();
    match role {
        "on_start never ends" => config.patience.boot = Duration::from_millis(300),
        "has a thread" => {
            std::thread::Builder::new().name("stray".into()).spawn(std::thread::park).unwrap();
        }
        "blocks signals" => SigSet::all().thread_block().unwrap(),
        _ => {}
    }
    let load =
        || Revision { config: (*config).clone(), launch: Box::new(TestApplication(role.into())) };
    monitor::run(load(), &|| Ok(load()), listeners, log) as i32
}

/// An application that plays the given role.
struct TestApplication(String);

impl Launch for TestApplication {
    fn before_fork(&self) {
        static FORKS: AtomicU32 = AtomicU32::new(0);
        let is_first = FORKS.fetch_add(1, Ordering::Relaxed) == 0;
        assert!(is_first || self.0 != "supervisor panics", "deliberate panic in the supervisor");
    }

    fn run_on_start(&self, generation: Generation, _log: &Log) -> Result<(), BootFailure> {
        let number = |number: i64| Value::Number(number);
        let pairs = [
            ("generation", number(i64::from(generation.0))),
            ("pid", number(i64::from(std::process::id()))),
            ("leads_group", number(i64::from(getpgrp() == Pid::this()))),
        ];
        let stderr = io::stderr().as_fd().try_clone_to_owned().unwrap();
        Log::new(Level::Debug, LogFormat::Text, stderr).line(Level::Info, "app.on_start", &pairs);
        match self.0.as_str() {
            "on_start fails" => {
                let report = "Traceback: no such table\n".to_owned();
                Err(BootFailure::not_booted(report))
            }
            "on_start fails in generation 2" if generation.0 == 2 => {
                let report = "Traceback: no such table\n".repeat(10_000);
                Err(BootFailure::not_booted(report))
            }
            "on_start aborts" => std::process::abort(),
            "on_start never ends" => loop {
                pause();
            },
            "on_start never ends in generation 2" if generation.0 == 2 => loop {
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
            "import fails" => return fail(WorkerExit::NotImportable),
            "boot fails" => return fail(WorkerExit::NotBooted),
            "boot panics" => panic!("deliberate panic at boot"),
            "logs restarts" | "exits" => log_restarts(&init),
            "boots once" => {
                log_restarts(&init);
                if init.header.state() == ServerState::Serving {
                    return fail(WorkerExit::NotBooted);
                }
            }
            "is in a request" => init.entry.begin_request(monotonic(), b"GET", b"/slow"),
            "hangs once" if init.entry.counters.get(Counter::ReqDone) == 0 && init.slot.0 == 0 => {
                init.entry.counters.inc(Counter::ReqDone);
                init.entry.begin_request(monotonic(), b"GET", b"/for/ever");
            }
            "import fails in generation 2" if init.generation.0 == 2 => {
                return fail(WorkerExit::NotImportable);
            }
            "leaves an orphan" => {
                drop(Command::new("sh").args(["-c", "sh -c 'exit 4' &"]).status())
            }
            "ignores stops" => drop(Command::new("sleep").arg("1000").spawn().unwrap()),
            "logs its inheritance" => log_inheritance(&init),
            _ => {}
        }
        init.entry.set_ready();
        init.supervisor.unbind().unwrap(); // A worker is bound to its supervisor only while it boots.
        // EPIPE: the supervisor is gone, which the loop notices.
        let _ = write(&init.control_fd, &[CONTROL_READY]);
        match self.0.as_str() {
            "exits" => std::process::exit(7),
            "panics" => panic!("deliberate panic"),
            "exits in generation 2" if init.generation.0 == 2 => {
                std::thread::sleep(Duration::from_millis(300)); // It exits in its probation.
                std::process::exit(7);
            }
            _ => {}
        }
        test_worker::serve(&init, self.0 == "ignores stops")
    }
}

/// Reads CLOCK_MONOTONIC, the clock of the scoreboard.
fn monotonic() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap().into()
}

/// Runs the test application for [`server::run`].
struct TestRuntime(String);

impl Runtime for TestRuntime {
    fn launch(&self, _application: &AppSpec) -> Box<dyn Launch> {
        Box::new(TestApplication(self.0.clone()))
    }

    fn version(&self) -> String {
        "0".to_owned()
    }

    fn check(&self, _config: &Config, _log: &Log) -> Result<(), BootFailure> {
        Ok(())
    }
}

/// Logs how the previous workers with this scoreboard entry exited, which are every other one of the slot.
fn log_restarts(init: &WorkerInit) {
    let count = |counter| Value::Number(init.entry.counters.get(counter).cast_signed());
    let pairs = [
        ("boot", count(Counter::WorkerRestartsBoot)),
        ("exit", count(Counter::WorkerRestartsExit)),
        ("signal", count(Counter::WorkerRestartsSignal)),
        ("end", Value::Text("")),
    ];
    init.log.line(Level::Info, "app.restarts", &pairs);
}
