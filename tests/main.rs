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
mod support;
mod wire_codec;
mod wire_worker;
