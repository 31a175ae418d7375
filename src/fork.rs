//! The one fork. [`Launch`] is how this crate starts a worker without knowing Python.

use arctos_worker::worker::{Post, WorkerExit};

/// Starts workers: the extension module implements it for CPython, tests for plain Rust.
pub trait Launch {
    /// Called in the supervisor right before fork (PyOS_BeforeFork).
    fn before_fork(&self) {}
    /// Called in the supervisor right after fork, also when it failed (PyOS_AfterFork_Parent).
    fn after_fork_parent(&self) {}
    /// Called in the child right after fork (PyOS_AfterFork_Child).
    fn after_fork_child(&self) {}
    /// Runs a worker, in the child, to its end: loads the application, reports on the life socket,
    /// serves. The caller exits with the code; nothing of the supervisor's runs any more.
    fn work(&self, post: Post) -> WorkerExit;
}
