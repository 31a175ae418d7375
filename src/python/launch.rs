//! [`Runtime`] and [`Launch`] for CPython, with which the processes of a server run the application in this
//! interpreter.
//!
//! The supervisor runs inside the interpreter that imported the extension module, always holds its lock, and never
//! imports the application. A worker is a fork of the supervisor and imports it.
#![expect(unsafe_code, reason = "fork(2) has to pass through CPython's own hooks")]

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;

use pyo3::ffi;
use pyo3::prelude::*;

use arctos_worker::settings::{AppSpec, Hooks};
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::Log;
use arctos_worker::shared::scoreboard::WorkerEntry;
use arctos_worker::worker;
use arctos_worker::worker_init::{BootFailure, WorkerExit, WorkerInit};
use arctos_worker::wsgi::{self, ApplicationSource, Bridge};

use super::running::Running;
use crate::config::Config;
use crate::process::launch::{Launch, Preloaded};
use crate::server::Runtime;
use crate::system::sd_notify;

/// CPython as the server's runtime.
pub(super) struct Interpreter {
    pub(super) source: ApplicationSource,
    pub(super) host: Host,
}

/// The process that workers are forked from.
#[derive(Clone, Copy)]
pub(super) enum Host {
    /// The process of the `arctos` command, in which no other code has run.
    Command,
    /// The process of a Python program, which called `serve()` and continues afterwards.
    Program,
}

impl Runtime for Interpreter {
    fn launch(&self, application: &AppSpec) -> Box<dyn Launch> {
        let source = Python::attach(|py| self.source.clone_ref(py));
        Box::new(CPython { application: application.clone(), source, host: self.host })
    }

    fn interpreter(&self) -> Option<OsString> {
        Python::attach(|py| {
            let program = py.import("sys").and_then(|sys| sys.getattr("executable"));
            program
                .and_then(|program| program.extract::<OsString>())
                .ok()
                .filter(|it| !it.is_empty())
        })
    }

    fn version(&self) -> String {
        let version = Python::version_str();
        let number = version.split_whitespace().next().unwrap_or_default();
        // As pyenv and the names of wheels write it.
        let suffix = if version.contains("free-threading") { "t" } else { "" };
        format!("{number}{suffix}")
    }

    fn check(&self, config: &Config, log: &Log) -> Result<(), BootFailure> {
        let (identity, entry) = ((SlotId(0), Generation(1)), WorkerEntry::detached());
        Running::begin_worker();
        // Hooks are imported but not called, because nothing is started.
        let application = AppSpec { hooks: Hooks::default(), ..config.application.clone() };
        let (source, settings) = (&self.source, &config.worker);
        let bridge = Bridge::boot(source, &application, settings, identity, entry, log.clone())?;
        // The interpreter exits with this process, and then does what a worker does when it exits.
        bridge.check(log)?;
        wsgi::find_hooks(&config.application.hooks)
    }
}

/// Starts workers that run an application in this interpreter.
struct CPython {
    /// The application that workers load.
    application: AppSpec,
    source: ApplicationSource,
    /// The process that workers are forked from.
    host: Host,
}

impl CPython {
    /// Called first in the process of a worker or zygote: drops what belongs to the supervisor.
    fn enter_child(&self) {
        Running::begin_worker();
        match self.host {
            Host::Command => {}
            Host::Program => disown_exit_handlers(),
        }
        forget_service_manager();
    }
}

impl Launch for CPython {
    fn before_fork(&self) {
        Python::attach(|_| {
            // SAFETY: the thread is attached. Takes the import lock and runs the `before` hooks.
            unsafe { ffi::PyOS_BeforeFork() }
        });
    }

    fn after_fork_parent(&self) {
        Python::attach(|_| {
            // SAFETY: the thread is attached, and `before_fork` ran in it.
            unsafe { ffi::PyOS_AfterFork_Parent() }
        });
    }

    fn after_fork_child(&self) {
        Python::attach(|_| {
            // SAFETY: the thread is the child's only one, attached as it was in the supervisor, and
            // `before_fork` ran in it.
            unsafe { ffi::PyOS_AfterFork_Child() }
        });
    }

    fn describe(&self) -> String {
        Python::attach(|py| {
            let platform = py.import("sys").and_then(|sys| {
                let version: String = sys.getattr("version")?.extract()?;
                Ok(version.split_whitespace().next().unwrap_or_default().to_owned())
            });
            platform.map(|version| format!("Python {version}")).unwrap_or_default()
        })
    }

    fn warm_up(&self, directories: &[PathBuf]) {
        Python::attach(|py| {
            let module = py.import("arctos.supervised");
            let imported = module.and_then(|module| {
                module.call_method1("import_standard_library", (directories.to_vec(),))
            });
            drop(imported); // Workers import what they need by themselves.
        });
    }

    fn reload_refusal(&self) -> Option<&'static str> {
        match self.source {
            ApplicationSource::Path | ApplicationSource::Zygote(_) => None,
            ApplicationSource::Object(_) => Some(
                "serve() was given an application object; pass its path \"module:attr\" to load new code",
            ),
        }
    }

    fn upgrade_refusal(&self) -> Option<&'static str> {
        match self.host {
            Host::Command => None,
            Host::Program => {
                Some("serve() was called by a Python program, which arctos cannot restart")
            }
        }
    }

    fn work(&self, init: WorkerInit) -> WorkerExit {
        let log = init.log.clone();
        self.enter_child();
        let identity = (init.slot, init.generation);
        let (source, spec) = (&self.source, &self.application);
        let booted = Bridge::boot(source, spec, &init.settings, identity, init.entry, log);
        serve(init, booted)
    }

    fn run_on_start(&self, generation: Generation, log: &Log) -> Result<(), BootFailure> {
        self.enter_child();
        wsgi::install_stack_dump(log);
        wsgi::run_on_start(&self.application, generation)
    }

    fn preload(
        &self,
        generation: Generation,
        log: &Log,
    ) -> Result<Box<dyn Preloaded + '_>, BootFailure> {
        self.enter_child();
        wsgi::install_stack_dump(log);
        let spec = &self.application;
        let source = wsgi::preload(&self.source, spec, generation)?;
        Ok(Box::new(LoadedZygote { source, spec, generation, log: log.clone() }))
    }
}

/// This interpreter with the loaded application, from which workers are forked.
struct LoadedZygote<'a> {
    source: ApplicationSource,
    spec: &'a AppSpec,
    generation: Generation,
    log: Log,
}

impl Preloaded for LoadedZygote<'_> {
    fn before_fork(&self, slot: SlotId) {
        wsgi::before_fork(&self.spec.hooks, slot, self.generation, &self.log);
    }

    fn work(&self, init: WorkerInit) -> WorkerExit {
        Running::begin_worker();
        let (identity, log) = ((init.slot, init.generation), init.log.clone());
        let (source, spec) = (&self.source, self.spec);
        let booted = Bridge::boot(source, spec, &init.settings, identity, init.entry, log);
        serve(init, booted)
    }
}

/// Runs a worker to its end, or reports why it could not boot.
fn serve(init: WorkerInit, booted: Result<Bridge, BootFailure>) -> WorkerExit {
    match booted {
        Ok(mut bridge) => {
            wsgi::install_stack_sampler(init.entry, init.samples, &init.log);
            let exit = worker::run(init, &mut bridge);
            bridge.shutdown();
            exit
        }
        Err(failure) => worker::report_boot_failure(init.control_fd.as_fd(), &failure),
    }
}

/// Removes the exit handlers that the program registered with `atexit`. They run once, when the program itself exits: a
/// temporary directory of it, for example, must not vanish with the first worker.
fn disown_exit_handlers() {
    Python::attach(|py| {
        let module = py.import("arctos.supervised");
        let disowned = module.and_then(|module| module.call_method0("disown_exit_handlers"));
        // This calls no code of the program, so it fails only without a working `atexit`.
        drop(disowned);
    });
}

/// Removes the service manager's variables, which are for the supervisor, from `os.environ`: it was filled when the
/// interpreter started.
fn forget_service_manager() {
    Python::attach(|py| {
        let forgotten = py.import("os").and_then(|os| os.getattr("environ")).and_then(|environ| {
            for name in sd_notify::own_variables() {
                environ.call_method1("pop", (name, py.None()))?;
            }
            Ok(())
        });
        // This fails only without a working `os`, which the boot then reports.
        drop(forgotten);
    });
}
