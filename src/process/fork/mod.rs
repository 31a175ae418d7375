//! The one fork: what a child closes, resets and keeps. [`Launch`] is how this crate starts a worker
//! without knowing Python; [`run_helper`] is for a child that is no worker.
//!
//! Owns fork(2), waitpid(2), dispositions and the child's way from fork to [`Launch::work`]. Knows
//! nothing of slots, backoffs or the reasons to start a worker.
//!
//! The child runs ordinary code, which fork(2) allows only to a process with one thread:
//! [`spawn`] refuses otherwise. All signals are blocked around the fork, so none can reach the
//! child while it still has the supervisor's handlers, which write to the supervisor's own socket.
//! How a zygote forks its workers, in other circumstances, is in [`double`].

pub mod child_setup;
pub(crate) mod double;
pub mod helper;
pub mod spawn;
pub mod wait;

pub use child_setup::ChildSetup;
pub use spawn::{ForkError, spawn};
