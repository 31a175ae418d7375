//! Model checks of the atomics in shared memory. loom runs each test with every interleaving of its threads, and with
//! every value that a load may return under the memory model of Rust.
//!
//! Threads stand for processes here: workers, the supervisor, and the kernel, which queues what a client sends and
//! wakes a worker. `cargo test --manifest-path workers/loom/Cargo.toml` runs the checks, and `scripts/test` does so, too.
#![cfg(test)]

mod atomics {
    pub use loom::sync::atomic::{AtomicU64, Ordering, fence};
}

#[path = "../../src/shared/connection_table/place.rs"]
mod place;

#[path = "../../src/shared/scoreboard/quarantine/keyed_end.rs"]
mod keyed_end;

#[path = "../../src/shared/scoreboard/seqlock.rs"]
mod seqlock;

#[path = "../../src/shared/series/number.rs"]
mod number;

mod checks;
mod number_checks;
mod quarantine_checks;
