//! Processes: how children are forked, how a new program takes over, and which privileges and signal handlers each
//! process has.

pub mod on_start;

pub mod zygote;

pub mod reexec;

pub mod fork;

pub mod launch;
pub mod parent;
pub mod privileges;
pub mod signals;

pub mod sigaction;
pub mod threads;
pub mod title;
