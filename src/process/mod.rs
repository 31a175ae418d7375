//! Processes: how they are forked and replaced, whose rights they have, which signals they take.
pub mod fork;
pub mod on_start;
pub mod privileges;
pub mod reexec;
pub mod signals;
pub mod zygote;
