//! What this crate asks of the program around it: how a worker, a zygote and the hooks of `--on-start` run.

use arctos_worker::shared::identity::{Generation, SlotId};
use arctos_worker::shared::log::Log;
use arctos_worker::worker_init::{BootFailure, WorkerExit, WorkerInit};

/// Starts workers: the extension module implements it for CPython, tests for plain Rust.
pub trait Launch {
    /// Called in the supervisor right before fork (PyOS_BeforeFork).
    fn before_fork(&self) {}
    /// Called in the supervisor right after fork, also when it failed (PyOS_AfterFork_Parent).
    fn after_fork_parent(&self) {}
    /// Called in the child right after fork (PyOS_AfterFork_Child).
    fn after_fork_child(&self) {}
    /// Why new code cannot be loaded, where it cannot.
    fn reload_refusal(&self) -> Option<&'static str> {
        None
    }
    /// Why this program cannot start itself anew as a process of its own, where it cannot.
    fn upgrade_refusal(&self) -> Option<&'static str> {
        Some("this program cannot be started anew")
    }
    /// Runs a worker, in the child, to its end: loads the application, reports on the life socket,
    /// serves. The caller exits with the code; nothing of the supervisor's runs any more.
    fn work(&self, init: WorkerInit) -> WorkerExit;
    /// Does once for a load of the code, in a process of its own, what is to be done before its first
    /// worker.
    fn open(&self, _generation: Generation, _log: &Log) -> Result<(), BootFailure> {
        Ok(())
    }
    /// Loads the application in a zygote, whose workers are then forked with it; before that, does what
    /// [`Launch::open`] would do. What goes wrong later goes to this log.
    fn preload(
        &self,
        _generation: Generation,
        _log: &Log,
    ) -> Result<Box<dyn Preloaded + '_>, BootFailure> {
        let report = "This application cannot be loaded before its workers are forked.".to_owned();
        Err(BootFailure::not_booted(report))
    }
}

/// An application that was loaded before its workers.
pub trait Preloaded {
    /// Called in the zygote before a worker for this place is forked, while all is as it always was.
    fn before_fork(&self, _slot: SlotId) {}
    /// As [`Launch::work`], with nothing left to load.
    fn work(&self, init: WorkerInit) -> WorkerExit;
}
