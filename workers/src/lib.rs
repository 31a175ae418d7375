//! One worker of arctos: a single-threaded process that accepts connections, parses requests, calls the
//! application and sends its responses.
//!
//! The modules stand in reading order. Each one imports only modules that stand below it, and `settings` imports
//! none. `http` and `connection` are pure: they do no I/O and read no clock. Only `wsgi` names Python. `shared` is
//! what the supervisor uses as well. `scripts/check-layers` proves these rules.
pub mod worker;

pub mod event_loop;

#[cfg(feature = "python")]
pub mod wsgi;

pub mod worker_init;

pub mod application;

pub mod spool;

pub mod body_budget;
pub mod body_memory;

pub mod static_files;

pub mod tls;

pub mod connection;

pub mod http;

pub mod process;

pub mod settings;
pub mod ticker;

pub mod shared;
