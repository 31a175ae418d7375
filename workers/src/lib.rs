//! One worker of arctos: a single-threaded process that accepts, parses, calls the application and
//! answers.
//!
//! The modules stand in reading order; each imports only modules that stand below it.
//! `scripts/check-layers` proves it.
pub mod worker;

pub mod event_loop;

#[cfg(feature = "python")]
pub mod wsgi;

pub mod worker_init;

pub mod application;

pub mod spool;

pub mod connection;

pub mod http;

pub mod process;

pub mod settings;
pub mod ticker;

pub mod shared;
