//! [`Runtime`] and [`Launch`] for CPython: the processes of a server run the application in this interpreter.
//!
//! The supervisor runs inside the interpreter that imported the extension module, holds its lock for ever and
//! never imports the application. A worker is a fork of it that does.
#![expect(unsafe_code, reason = "fork(2) has to pass through CPython's own hooks")]

use std::os::fd::AsFd;

use pyo3::ffi;
use pyo3::prelude::*;

use arctos_worker::settings::{AppSpec, Hooks};
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::Log;
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

/// Whose process the workers are forked from.
#[derive(Clone, Copy)]
pub(super) enum Host {
    /// The command's, in which nothing ran before them.
    Command,
    /// A Python program's, which called `serve()` and goes on afterwards.
    Program,
}

impl Runtime for Interpreter {
    fn launch(&self, application: &AppSpec) -> Box<dyn Launch> {
        let source = Python::attach(|py| self.source.clone_ref(py));
        Box::new(CPython { application: application.clone(), source, host: self.host })
    }

    fn check(&self, config: &Config, log: &Log) -> Result<(), BootFailure> {
        let (slot, generation) = (SlotId(0), Generation(1));
        Running::begin_worker();
        // Hooks are looked up and not called: there is neither a start nor a worker.
        let application = AppSpec { hooks: Hooks::default(), ..config.application.clone() };
        let (source, settings) = (&self.source, &config.worker);
        let bridge = Bridge::boot(source, &application, settings, slot, generation, log.clone())?;
        // The interpreter ends with this process, and does then what a worker does at its end.
        bridge.check(log)?;
        wsgi::find_hooks(&config.application.hooks)
    }
}

/// Starts workers that run an application in this interpreter.
struct CPython {
    /// What the workers load.
    application: AppSpec,
    source: ApplicationSource,
    /// What they have to forget.
    host: Host,
}

impl CPython {
    /// First in a new process: it is a worker's or a zygote's from here on.
    fn settle_in(&self) {
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

    fn reload_refusal(&self) -> Option<&'static str> {
        match self.source {
            ApplicationSource::Path | ApplicationSource::Zygote(_) => None,
            ApplicationSource::Object(_) => Some(
                "serve() was given an application and not its path: give it \"module:attr\" to load \
                 new code",
            ),
        }
    }

    fn upgrade_refusal(&self) -> Option<&'static str> {
        match self.host {
            Host::Command => None,
            Host::Program => {
                Some("serve() was called by a program, which is not arctos' to start anew")
            }
        }
    }

    fn work(&self, init: WorkerInit) -> WorkerExit {
        let log = init.log.clone();
        self.settle_in();
        let (slot, generation) = (init.slot, init.generation);
        let (source, spec) = (&self.source, &self.application);
        let booted = Bridge::boot(source, spec, &init.settings, slot, generation, log);
        serve(init, booted)
    }

    fn run_on_start(&self, generation: Generation, log: &Log) -> Result<(), BootFailure> {
        self.settle_in();
        wsgi::install_stack_dump(log);
        wsgi::run_on_start(&self.application, generation)
    }

    fn preload(
        &self,
        generation: Generation,
        log: &Log,
    ) -> Result<Box<dyn Preloaded + '_>, BootFailure> {
        self.settle_in();
        wsgi::install_stack_dump(log);
        let spec = &self.application;
        let source = wsgi::preload(&self.source, spec, generation)?;
        Ok(Box::new(Zygote { source, spec, generation, log: log.clone() }))
    }
}

/// This interpreter with the application in it, to be forked.
struct Zygote<'a> {
    source: ApplicationSource,
    spec: &'a AppSpec,
    generation: Generation,
    log: Log,
}

impl Preloaded for Zygote<'_> {
    fn before_fork(&self, slot: SlotId) {
        wsgi::before_fork(&self.spec.hooks, slot, self.generation, &self.log);
    }

    fn work(&self, init: WorkerInit) -> WorkerExit {
        Running::begin_worker();
        let (slot, generation, log) = (init.slot, init.generation, init.log.clone());
        let (source, spec) = (&self.source, self.spec);
        let booted = Bridge::boot(source, spec, &init.settings, slot, generation, log);
        serve(init, booted)
    }
}

/// A worker's life from here on, or what there is to say about its failure.
fn serve(init: WorkerInit, booted: Result<Bridge, BootFailure>) -> WorkerExit {
    match booted {
        Ok(mut bridge) => {
            let exit = worker::run(init, &mut bridge);
            bridge.shutdown();
            exit
        }
        Err(failure) => {
            worker::report_boot_failure(init.control_fd.as_fd(), &failure.report);
            failure.exit
        }
    }
}

/// What the program has registered with `atexit` is done once, at its own end: a temporary folder of its is
/// not to vanish with the first worker that leaves.
fn disown_exit_handlers() {
    Python::attach(|py| {
        let module = py.import("arctos.supervised");
        let disowned = module.and_then(|module| module.call_method0("disown_exit_handlers"));
        // It calls nothing of the program's, so that only an interpreter without a working `atexit` fails.
        drop(disowned);
    });
}

/// What a service manager told the supervisor is not for the application: `os.environ` was filled when
/// the interpreter started.
fn forget_service_manager() {
    Python::attach(|py| {
        let forgotten = py.import("os").and_then(|os| os.getattr("environ")).and_then(|environ| {
            for name in sd_notify::own_variables() {
                environ.call_method1("pop", (name, py.None()))?;
            }
            Ok(())
        });
        // Only an interpreter without a working `os` fails here, and boot() then says so.
        drop(forgotten);
    });
}
