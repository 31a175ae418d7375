//! The integration tests whose process may have threads: a worker runs on a thread of the test, with an
//! application in plain Rust. One program, so that they are linked once and run side by side.
//!
//! `tests/supervisor` and `tests/zygote` fork, which arctos refuses in a process with threads, and
//! therefore are programs of their own.

mod allocations;
mod arrivals;
mod counters;
mod descriptors;
mod fairness;
/// What the fuzz targets check, which is also a library of its own.
#[path = "../workers/fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is a library in workers/fuzz")]
mod fuzz;
mod fuzz_corpus;
mod support;
mod wire_codec;
mod wire_worker;
