//! The extension module `arctos.arctos`: the command line's entry, a server inside of the caller's
//! process, and [`Launch`] for CPython.
//!
//! With `src/module/` the only place of this crate that names pyo3. The supervisor runs inside the
//! interpreter that imported the module, holds its lock for ever and never imports the application; a
//! worker is a fork of it that does.
#![expect(
    unsafe_code,
    reason = "fork(2) has to pass through CPython's own hooks; which interpreter this is"
)]

mod embedded;
mod serve;
mod statsd;

use std::ffi::OsString;
use std::os::fd::AsFd;

use pyo3::exceptions::PyImportError;
use pyo3::ffi;
use pyo3::prelude::*;

use arctos_worker::settings::{AppSpec, Hooks, Settings};
use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::Log;
use arctos_worker::worker;
use arctos_worker::worker_init::{WorkerExit, WorkerInit};
use arctos_worker::wsgi::{self, BootFailure, Bridge, Loaded};

use crate::config::Config;
use crate::process::launch::{Launch, LoadFailure, Preloaded};
use crate::process::reexec;
use crate::server::{self, CheckFailure, Runtime};
use crate::system::environment::Environment;
use crate::system::sd_notify;
use embedded::Running;

/// The extension module `arctos.arctos`.
// Its types rely on the interpreter's lock: on a free-threaded build the lock comes back on.
#[pymodule(gil_used = true)]
mod arctos {
    use super::*;

    #[pymodule_export]
    use super::embedded::{is_serving, serve_socket};
    #[pymodule_export]
    use super::statsd::Statsd;
    #[pymodule_export]
    use arctos_worker::wsgi::{GenerationArgument, WorkerArgument};

    #[pymodule_export]
    use super::serve::{option_names, serve_supervised};

    /// Runs the `arctos` command line on `sys.argv` and returns its exit code.
    #[pyfunction]
    fn main(py: Python<'_>) -> PyResult<i32> {
        let mut arguments: Vec<OsString> = py.import("sys")?.getattr("argv")?.extract()?;
        if let Some(program) = arguments.first_mut() {
            *program = "arctos".into(); // not `__main__.py`
        }
        Ok(server::run(
            arguments,
            succeed_in(py)?,
            &Interpreter { source: Source::Path, host: Host::Command },
        ))
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        refuse_subinterpreters()?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// The environment, in which what was said to the process before this one, in an upgrade, is said to this
/// one. The handover is in it for this call's caller alone: no child of this process is to take it for its own.
fn succeed_in(py: Python<'_>) -> PyResult<Environment> {
    let environ = py.import("os")?.getattr("environ")?;
    for (name, value) in reexec::readdressed(&std::env::vars_os().collect()) {
        environ.set_item(name, value)?;
    }
    let environment = std::env::vars_os().collect();
    environ.call_method1("pop", (reexec::VARIABLE, py.None()))?;
    Ok(environment)
}

/// Types are the process's here, and signals the main interpreter's. From Python 3.12 on it refuses by itself
/// where interpreters do not share their lock.
fn refuse_subinterpreters() -> PyResult<()> {
    // SAFETY: the thread is attached, for this module is being imported in it.
    let current = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: as above.
    let main = unsafe { ffi::PyInterpreterState_Main() };
    if current == main {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "arctos works in the main interpreter only, not in a subinterpreter",
    ))
}

/// CPython as the server's runtime.
struct Interpreter {
    source: Source,
    host: Host,
}

/// Whose process the workers are forked from.
#[derive(Clone, Copy)]
enum Host {
    /// The command's, in which nothing ran before them.
    Command,
    /// A Python program's, which called `serve()` and goes on afterwards.
    Program,
}

/// Where workers have the application from.
enum Source {
    /// Each imports it.
    Path,
    /// It was there before them.
    Inherited(Py<PyAny>),
}

impl Source {
    fn load(&self, spec: &AppSpec, generation: Generation) -> Result<Loaded, BootFailure> {
        match self {
            Self::Path => Loaded::load(spec, generation),
            Self::Inherited(application) => Loaded::adopt(application, spec, generation),
        }
    }

    fn boot(
        &self,
        spec: &AppSpec,
        settings: &Settings,
        slot: SlotId,
        generation: Generation,
        log: Log,
    ) -> Result<Bridge, BootFailure> {
        match self {
            Self::Path => Bridge::boot(spec, settings, slot, generation, log),
            Self::Inherited(application) => {
                Bridge::boot_inherited(application, spec, settings, slot, generation, log)
            }
        }
    }
}

impl Runtime for Interpreter {
    fn launch(&self, application: &AppSpec) -> Box<dyn Launch> {
        let source = match &self.source {
            Source::Path => Source::Path,
            Source::Inherited(object) => {
                Source::Inherited(Python::attach(|py| object.clone_ref(py)))
            }
        };
        Box::new(CPython { application: application.clone(), source, host: self.host })
    }

    fn check(&self, config: &Config, log: &Log) -> Result<(), CheckFailure> {
        let (slot, generation) = (SlotId(0), Generation(1));
        Running::begin_worker();
        // Hooks are looked up and not called: there is neither a start nor a worker.
        let application = AppSpec { hooks: Hooks::default(), ..config.application.clone() };
        let booted = self.source.boot(&application, &config.worker, slot, generation, log.clone());
        // The interpreter ends with this process, and does then what a worker does at its end.
        let checked = booted.and_then(|bridge| bridge.check(log));
        let checked = checked.and_then(|()| wsgi::find_hooks(&config.application.hooks));
        checked.map_err(|BootFailure { exit, report }| CheckFailure { exit, report })
    }
}

/// Starts workers that run an application in this interpreter.
struct CPython {
    /// What the workers load.
    application: AppSpec,
    /// Where from.
    source: Source,
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
            Source::Path => None,
            Source::Inherited(_) => Some(
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
        let booted = self.source.boot(&self.application, &init.settings, slot, generation, log);
        serve(init, booted)
    }

    fn open(&self, generation: Generation, log: &Log) -> Result<(), LoadFailure> {
        self.settle_in();
        wsgi::show_stacks(log);
        let opened = wsgi::start_generation(&self.application, generation);
        opened.map_err(|BootFailure { exit, report }| LoadFailure { exit, report })
    }

    fn preload(
        &self,
        generation: Generation,
        log: &Log,
    ) -> Result<Box<dyn Preloaded + '_>, LoadFailure> {
        self.settle_in();
        wsgi::show_stacks(log);
        match self.source.load(&self.application, generation) {
            Ok(loaded) => {
                let (hooks, log) = (&self.application.hooks, log.clone());
                Ok(Box::new(Zygote { loaded, hooks, generation, log }))
            }
            Err(BootFailure { exit, report }) => Err(LoadFailure { exit, report }),
        }
    }
}

/// This interpreter with the application in it, to be forked.
struct Zygote<'a> {
    loaded: Loaded,
    hooks: &'a Hooks,
    generation: Generation,
    log: Log,
}

impl Preloaded for Zygote<'_> {
    fn before_fork(&self, slot: SlotId) {
        self.loaded.before_fork(self.hooks, slot, self.generation, &self.log);
    }

    fn work(&self, init: WorkerInit) -> WorkerExit {
        Running::begin_worker();
        let (slot, generation, log) = (init.slot, init.generation, init.log.clone());
        let booted =
            Bridge::boot_loaded(&self.loaded, self.hooks, &init.settings, slot, generation, log);
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
            worker::tell_failure(init.life.as_fd(), &failure.report);
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
