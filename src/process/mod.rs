//! Processes: how they are forked and replaced, whose rights they have, which signals they take.

pub mod on_start;

pub mod zygote;

pub mod reexec;

pub mod fork;

pub mod launch;
pub mod privileges;
pub mod signals;

pub mod sigaction;
pub mod threads;
pub mod title;
