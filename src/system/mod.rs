//! The operating system around a server: addresses, limits, cgroups, the service manager, the pid file.
//!
//! This is the ground of the crate: nothing here imports another of its modules.
pub mod address;
pub mod caught_signals;
pub mod cgroup;
pub mod descriptors;
pub mod duration;
pub mod environment;
pub mod exit_cause;
pub mod exit_code;
pub mod listen_fds;
pub mod pid;
pub mod pid_file;
pub mod process_memory;
pub mod rlimit;
pub mod sd_notify;
pub mod stdio;
pub mod terminal;
pub mod watchdog;
