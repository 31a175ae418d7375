//! The supervisor of arctos.
//!
//! The modules stand in reading order, from what a server is started by down to the ground. A module imports
//! only modules that stand below it here, and nothing imports upward; `scripts/check-layers` proves it.
//! This crate uses [`arctos_worker`], never the other way round.
#[cfg(feature = "python")]
mod python;

pub mod embedded;
pub mod server;

pub mod cli;
pub mod monitor;

pub mod client;

pub mod dashboard;
pub mod emitter;
pub mod migrate;

pub mod admin;

pub mod watch;

pub mod process;

pub mod listener;

pub mod config;

pub mod supervisor;

pub mod metrics;
pub mod profile;

pub mod system;
