//! All forks of the supervisor, and what a child closes, resets and keeps.
//!
//! | function | child |
//! |---|---|
//! | [`spawn`](fn@spawn) | a worker |
//! | `spawn::spawn_bound`, `spawn::spawn_zygote` | a zygote, or the process that runs `--on-start` |
//! | `double::double_fork` | a worker of a zygote, which becomes the supervisor's child |
//! | [`helper::run_helper`] | a helper process that does one thing without Python |
//! | [`helper::run_lasting`] | one that goes on until it is killed |
//!
//! This directory owns fork(2), waitpid(2) and a child's way from the fork to [`Launch::work`]. It does not know
//! slots, backoff or the reasons to start a worker.
//!
//! A child of [`spawn`](fn@spawn) runs ordinary code, which fork(2) allows only if the process has a single thread, so
//! [`spawn`](fn@spawn) refuses anything else. All signals are blocked around the fork. Otherwise one could reach the
//! child while it still has the supervisor's handlers, which write to the supervisor's own socket.
//!
//! [`Launch::work`]: crate::process::launch::Launch::work
#![expect(unsafe_code, reason = "fork(2), waitpid(2), prctl(2), close_range(2), _exit(2)")]

pub mod child_setup;
pub(crate) mod double;
pub mod helper;
pub mod spawn;
pub mod wait;

pub use child_setup::ChildSetup;
pub use spawn::{ForkError, spawn};
