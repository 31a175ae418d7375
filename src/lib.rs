//! The supervisor of arctos.
//!
//! Import rule: this crate uses [`arctos_worker`], never the other way round. [`supervisor`] and
//! [`slot`] are pure: no I/O, no clock, no process. `module.rs`, behind the feature `python`, is the
//! only file here that names pyo3.
pub mod address;
pub mod admin;
pub mod cgroup;
pub mod cli;
pub mod config;
pub mod crew;
pub mod ctl;
pub mod deaths;
pub mod descriptors;
pub mod emitter;
pub mod error;
pub mod fork;
pub mod in_process;
pub mod listener;
pub mod load;
pub mod meter;
pub mod metrics;
pub mod monitor;
pub mod nofile;
pub mod notice;
pub mod notify;
pub mod opening;
pub mod options;
pub mod pid_file;
pub mod postmortem;
pub mod privileges;
pub mod server;
pub mod signals;
pub mod slot;
pub mod stack_dump;
pub mod standard_streams;
pub mod statsd;
pub mod succession;
pub mod supervisor;
pub mod systemd;
pub mod top;
pub mod upgrade;
pub mod value;
pub mod watch;
pub mod watchdog;
pub mod zygote;

#[cfg(feature = "python")]
mod module;
