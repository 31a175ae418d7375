//! The traits by which the supervisor runs application code in its children without knowing Python.

use std::path::PathBuf;

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::Log;
use arctos_worker::worker_init::{BootFailure, WorkerExit, WorkerInit};

/// Runs workers, zygotes and `--on-start`. The extension module implements it for CPython, tests in plain Rust.
pub trait Launch {
    /// Called in the supervisor right before fork (PyOS_BeforeFork).
    fn before_fork(&self) {}
    /// Called in the supervisor right after fork, even if it failed (PyOS_AfterFork_Parent).
    fn after_fork_parent(&self) {}
    /// Called in the child right after fork (PyOS_AfterFork_Child).
    fn after_fork_child(&self) {}
    /// The name and version of what runs the application.
    fn describe(&self) -> String {
        String::new()
    }
    /// Makes workers start sooner, at the price of a later start of the server. Called in the supervisor, for an
    /// application in these directories.
    fn warm_up(&self, _directories: &[PathBuf]) {}
    /// The reason why new code cannot be loaded, if it cannot.
    fn reload_refusal(&self) -> Option<&'static str> {
        None
    }
    /// The reason why this program cannot start a successor of itself, if it cannot.
    fn upgrade_refusal(&self) -> Option<&'static str> {
        Some("this program cannot be started again")
    }
    /// Runs a worker to its end in the child: loads the application, reports on the control socket, and serves.
    /// The caller exits with the returned code; no code of the supervisor runs after that.
    fn work(&self, init: WorkerInit) -> WorkerExit;
    /// Runs the `--on-start` hooks of a generation, in a process of their own, before its first worker.
    fn run_on_start(&self, _generation: Generation, _log: &Log) -> Result<(), BootFailure> {
        Ok(())
    }
    /// Loads the application in a zygote, whose workers are then forked with it. Before that, it does what
    /// [`Launch::run_on_start`] does. Later failures are written to this log.
    fn preload(
        &self,
        _generation: Generation,
        _log: &Log,
    ) -> Result<Box<dyn Preloaded + '_>, BootFailure> {
        let report = "This application cannot be loaded before its workers are forked.".to_owned();
        Err(BootFailure::not_booted(report))
    }
}

/// An application that a zygote has loaded.
pub trait Preloaded {
    /// Called in the zygote before a worker for this slot is forked.
    fn before_fork(&self, _slot: SlotId) {}
    /// Runs a worker like [`Launch::work`], without loading the application.
    fn work(&self, init: WorkerInit) -> WorkerExit;
}
