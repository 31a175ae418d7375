//! The worker as a process: its signals, its forks, its supervisor, and its end.
pub mod fork_guard;
pub mod hard_end;
pub mod signals;
pub mod supervisor_process;
